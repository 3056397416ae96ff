# convert: raw DICOM to NIfTI in patient space, checked; nothing identifying leaves this stage.
#
# Params and inputs end in Snakemake's records, so they name no raw file: a job finds its own in the private folder.


rule convert_ct:
    input:
        manifest=raw_input,
    output:
        volume="results/convert/{case}/{volume}.nii.gz",
        sidecar="results/convert/{case}/{volume}.json",
        deidentified="results/convert/{case}/{volume}_deidentified.tsv",
    log:
        "logs/convert/{case}/{volume}.log",
    benchmark:
        "benchmarks/convert/{case}/{volume}.tsv"
    wildcard_constraints:
        volume="|".join(CT_VOLUMES),
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_megavoxel=12),
        runtime=minutes(10, per_megavoxel=0.2),
    params:
        code=code_digest("scripts/convert_ct.py"),
        raw=lambda wildcards: raw_digest(wildcards, wildcards.volume),
        patient=lambda wildcards: COHORT[wildcards.case].patient_id,
        secret=STORE.fingerprint(),
        settings=config["convert"],
    script:
        "../../scripts/convert_ct.py"


rule convert_spect:
    input:
        manifest=raw_input,
    output:
        volume="results/convert/{case}/{target}.nii.gz",
        sidecar="results/convert/{case}/{target}.json",
        deidentified="results/convert/{case}/{target}_deidentified.tsv",
    log:
        "logs/convert/{case}/{target}.log",
    benchmark:
        "benchmarks/convert/{case}/{target}.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        code=code_digest("scripts/convert_spect.py"),
        raw=lambda wildcards: raw_digest(wildcards, wildcards.target),
        patient=lambda wildcards: COHORT[wildcards.case].patient_id,
        secret=STORE.fingerprint(),
        settings=config["convert"],
    script:
        "../../scripts/convert_spect.py"


rule convert_cohort:
    input:
        sidecars=[
            f"results/convert/{case.case_id}/{volume}.json"
            for case in COHORT.cases
            for volume in case.sources
        ],
    output:
        table="results/convert/cohort.tsv",
    log:
        "logs/convert/cohort.log",
    benchmark:
        "benchmarks/convert/cohort.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, per_case=0.5),
        runtime=minutes(10, per_case=0.01),
    params:
        code=code_digest("scripts/convert_cohort.py"),
        patients=patients_of(COHORT.case_ids),
        limits=config["convert"]["limits"],
    script:
        "../../scripts/convert_cohort.py"
