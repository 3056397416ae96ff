# check: everything that is wrong with the raw images of all cases at once; nothing is converted.


localrules:
    check,


rule check_case:
    input:
        manifest=raw_input,
    output:
        problems="results/check/{case}.tsv",
        facts="results/check/{case}.json",
    log:
        "logs/check/{case}.log",
    benchmark:
        "benchmarks/check/{case}.tsv"
    wildcard_constraints:
        # the table of all cases lies beside theirs
        case=rf"(?!problems\.){CASE_ID}",
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_megavoxel=12),
        runtime=minutes(20, per_megavoxel=0.2),
    params:
        code=code_digest("scripts/check_case.py"),
        raw=lambda wildcards: {
            volume: raw_digest(wildcards, volume)
            for volume in COHORT[wildcards.case].sources
        },
        volumes=lambda wildcards: list(COHORT[wildcards.case].sources),
        patient=lambda wildcards: COHORT[wildcards.case].patient_id,
        secret=STORE.fingerprint(),
        settings=config["convert"],
    script:
        "../../scripts/check_case.py"


rule check_cohort:
    input:
        problems=expand("results/check/{case}.tsv", case=COHORT.case_ids),
        facts=expand("results/check/{case}.json", case=COHORT.case_ids),
    output:
        problems="results/check/problems.tsv",
    log:
        "logs/check/problems.log",
    benchmark:
        "benchmarks/check/problems.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, per_case=0.5),
        runtime=minutes(10, per_case=0.01),
    params:
        code=code_digest("scripts/check_cohort.py"),
        patients=patients_of(COHORT.case_ids),
        limits=config["convert"]["limits"],
    script:
        "../../scripts/check_cohort.py"


# It has neither output nor benchmark, so that it says at every call what is wrong.
rule check:
    input:
        problems="results/check/problems.tsv",
    log:
        "logs/check/check.log",
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(10),
    params:
        code=code_digest("scripts/check.py"),
    script:
        "../../scripts/check.py"
