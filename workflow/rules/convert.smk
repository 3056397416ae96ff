# convert: raw DICOM to NIfTI in patient space, checked; nothing identifying leaves this stage.


rule convert_ct:
    input:
        manifest=raw_input,
    output:
        volume="results/convert/{case}/{volume}.nii.gz",
        sidecar="results/convert/{case}/{volume}.json",
    log:
        "logs/convert/{case}/{volume}.log",
    benchmark:
        "benchmarks/convert/{case}/{volume}.tsv"
    wildcard_constraints:
        volume="ct|attenuation_ct",
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=code_digest("scripts/convert_ct.py"),
        raw=lambda wildcards: raw_digest(wildcards, wildcards.volume),
        source=lambda wildcards: COHORT[wildcards.case].sources[wildcards.volume],
        settings=config["convert"],
    script:
        "../../scripts/convert_ct.py"


rule convert_spect:
    input:
        manifest=raw_input,
    output:
        volume="results/convert/{case}/{target}.nii.gz",
        sidecar="results/convert/{case}/{target}.json",
    log:
        "logs/convert/{case}/{target}.log",
    benchmark:
        "benchmarks/convert/{case}/{target}.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=code_digest("scripts/convert_spect.py"),
        raw=lambda wildcards: raw_digest(wildcards, wildcards.target),
        source=lambda wildcards: COHORT[wildcards.case].sources[wildcards.target],
        settings=config["convert"],
    script:
        "../../scripts/convert_spect.py"
