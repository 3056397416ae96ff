# detect: how well the images tell low function, disease and defects, at thresholds chosen on the other folds.


rule detect:
    input:
        detection=expand("results/evaluate/detection/{case}.tsv", case=COHORT.case_ids),
        defects=expand("results/evaluate/defects/{case}.tsv", case=COHORT.case_ids),
        metrics="results/evaluate/metrics.tsv",
        folds="results/split/folds.tsv",
    output:
        detection=report(
            "results/compare/detection.tsv",
            caption="../report/detection.rst",
            category="Tables",
            labels={"table": "detection of low function, disease"},
        ),
        roc="results/compare/roc.tsv",
        calibration="results/compare/calibration.tsv",
        defects=report(
            "results/compare/defects.tsv",
            caption="../report/defects.rst",
            category="Tables",
            labels={"table": "defects found and invented"},
        ),
    log:
        "logs/detect/detect.log",
    benchmark:
        "benchmarks/detect/detect.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_case=3),
        runtime=minutes(30, per_case=0.1),
    params:
        code=code_digest("scripts/detect.py"),
        settings=config["detect"],
        diagnoses={
            case.case_id: case.attributes["diagnosis"]
            for case in COHORT.cases
            if "diagnosis" in case.attributes
        },
        models={name: model["targets"] for name, model in MODELS.items()},
        seed=config["seed"],
    script:
        "../../scripts/detect.py"
