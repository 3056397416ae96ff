# compare: paired statistics over patients, and the summary of every model.


rule compare:
    input:
        metrics="results/evaluate/metrics.tsv",
    output:
        summary=report(
            "results/compare/summary.tsv",
            caption="../report/summary.rst",
            category="Tables",
            labels={"table": "summary of every model"},
        ),
        pairs=report(
            "results/compare/pairs.tsv",
            caption="../report/pairs.rst",
            category="Tables",
            labels={"table": "paired comparisons"},
        ),
        baselines="results/compare/baselines.tsv",
    log:
        "logs/compare/compare.log",
    benchmark:
        "benchmarks/compare/compare.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_digest("scripts/compare.py"),
        settings=config["compare"],
        patients=patients_of(COHORT.case_ids),
        models={name: model["kind"] for name, model in MODELS.items()},
        definition=config["evaluate"]["function_thresholds"][0]["name"],
        seed=config["seed"],
    script:
        "../../scripts/compare.py"
