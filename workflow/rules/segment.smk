# segment: right (1) and left (2) lung on a CT, their thirds, and lobes where something tells them.
#
# The method without weights has a rule of its own, so that it does not depend on the backends' code and libraries.

if config["segment"]["backend"] == "classic":

    ruleorder: segment > segment_backend > segment_lobes

else:

    ruleorder: segment_backend > segment > segment_lobes


rule segment:
    input:
        ct="results/convert/{case}/{volume}.nii.gz",
        sidecar="results/convert/{case}/{volume}.json",
    output:
        lungs="results/segment/{case}/{volume}_lungs.nii.gz",
        regions="results/segment/{case}/{volume}_regions.nii.gz",
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
        mem_mb=memory(1000, per_megavoxel=20),
        runtime=minutes(10, per_megavoxel=0.2),
    params:
        code=code_digest("scripts/segment.py"),
        settings=segment_params,
        lung_mask=mask_digest,
    script:
        "../../scripts/segment.py"


rule segment_backend:
    input:
        ct="results/convert/{case}/{volume}.nii.gz",
        sidecar="results/convert/{case}/{volume}.json",
    output:
        lungs="results/segment/{case}/{volume}_lungs.nii.gz",
        regions="results/segment/{case}/{volume}_regions.nii.gz",
        lobes=BACKEND_LOBES,
        record="results/segment/{case}/{volume}_lungs.json",
    log:
        "logs/segment/{case}/{volume}_backend.log",
    benchmark:
        "benchmarks/segment/{case}/{volume}_backend.tsv"
    wildcard_constraints:
        volume="|".join(CT_VOLUMES),
    conda:
        "../../envs/totalsegmentator.yaml"
        if config["segment"]["backend"] == "totalsegmentator"
        else "../../envs/lungmask.yaml"
    threads: 1
    resources:
        mem_mb=memory(12000, per_megavoxel=20),
        runtime=minutes(120, per_megavoxel=0.2),
    params:
        code=code_digest("scripts/segment_backend.py"),
        settings=segment_params,
        lung_mask=mask_digest,
    script:
        "../../scripts/segment_backend.py"


rule segment_lobes:
    # No network tells the lobes; of a simulated patient they are known.
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
        mem_mb=memory(1000, per_megavoxel=20),
        runtime=minutes(10, per_megavoxel=0.1),
    params:
        code=code_digest("scripts/segment_lobes.py"),
    script:
        "../../scripts/segment_lobes.py"
