# split: patient-grouped folds, kept when the cohort grows.


rule split:
    output:
        folds="results/split/folds.tsv",
    log:
        "logs/split/folds.log",
    benchmark:
        "benchmarks/split/folds.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(5, per_case=0.01),
    params:
        code=code_digest("scripts/split.py"),
        table=folds_table(COHORT.cases, FOLDS, config["split"]["stratify_by"]),
        kept=str(kept_folds_file(config)),
    script:
        "../../scripts/split.py"
