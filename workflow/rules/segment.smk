# segment: right (1) and left (2) lung on a CT, their thirds, and lobes where something tells them.

#: the method without weights must not depend on the backends' code and libraries
BACKEND_CHOSEN = config["segment"]["backend"] != "classic"


rule segment:
    input:
        ct="results/convert/{case}/{volume}.nii.gz",
        sidecar="results/convert/{case}/{volume}.json",
    output:
        lungs="results/segment/{case}/{volume}_lungs.nii.gz",
        regions="results/segment/{case}/{volume}_regions.nii.gz",
        lobes=BACKEND_LOBES,
        record="results/segment/{case}/{volume}_lungs.json",
    log:
        "logs/segment/{case}/{volume}.log",
    benchmark:
        "benchmarks/segment/{case}/{volume}.tsv"
    wildcard_constraints:
        volume="|".join(CT_VOLUMES),
    conda:
        {
            "classic": "../../envs/imaging.yaml",
            "lungmask": "../../envs/lungmask.yaml",
            "totalsegmentator": "../../envs/totalsegmentator.yaml",
        }[config["segment"]["backend"]]
    threads: 1
    resources:
        mem_mb=12000 if BACKEND_CHOSEN else 3000,
        runtime=120 if BACKEND_CHOSEN else 20,
    params:
        code=code_digest(
            f"scripts/{'segment_backend' if BACKEND_CHOSEN else 'segment'}.py"
        ),
        settings=segment_params,
        lung_mask=mask_digest,
    script:
        (
            "../../scripts/segment_backend.py"
            if BACKEND_CHOSEN
            else "../../scripts/segment.py"
        )


if COHORT.simulated and not BACKEND_LOBES:
    # No network tells the lobes; of a simulated patient they are known.

    rule segment_lobes:
        input:
            lungs="results/segment/{case}/ct_lungs.nii.gz",
            truth="results/simulate/{case}/truth",
        output:
            lobes="results/segment/{case}/ct_lobes.nii.gz",
            record="results/segment/{case}/ct_lobes.json",
        log:
            "logs/segment/{case}/ct_lobes.log",
        benchmark:
            "benchmarks/segment/{case}/ct_lobes.tsv"
        conda:
            "../../envs/imaging.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            code=code_digest("scripts/segment_lobes.py"),
        script:
            "../../scripts/segment_lobes.py"
