# segment: right (1) and left (2) lung on a CT.


rule segment:
    input:
        ct="results/convert/{case}/{volume}.nii.gz",
    output:
        lungs="results/segment/{case}/{volume}_lungs.nii.gz",
        record="results/segment/{case}/{volume}_lungs.json",
    log:
        "logs/segment/{case}/{volume}.log",
    benchmark:
        "benchmarks/segment/{case}/{volume}.tsv"
    wildcard_constraints:
        volume="|".join(CT_VOLUMES),
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=code_digest("scripts/segment.py"),
        settings=config["segment"],
        lung_mask=lambda wildcards: (
            mask_digest(wildcards) if wildcards.volume == "ct" else None
        ),
    script:
        "../../scripts/segment.py"
