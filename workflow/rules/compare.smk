# compare: statistics over patients: summary, pairs, passes of thresholds, and the pairs under other choices.


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
        passes=report(
            "results/compare/passes.tsv",
            caption="../report/passes.rst",
            category="Tables",
            labels={"table": "patients that pass"},
        ),
        mcnemar=report(
            "results/compare/mcnemar.tsv",
            caption="../report/mcnemar.rst",
            category="Tables",
            labels={"table": "paired comparisons of passes"},
        ),
        excluded=report(
            "results/compare/excluded.tsv",
            caption="../report/excluded.rst",
            category="Tables",
            labels={"table": "left out of a statistic"},
        ),
    log:
        "logs/compare/compare.log",
    benchmark:
        "benchmarks/compare/compare.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_case=3),
        runtime=minutes(30, per_case=0.1),
    params:
        code=code_digest("scripts/compare.py"),
        settings=config["compare"],
        patients=patients_of(COHORT.case_ids),
        kinds={name: model["kind"] for name, model in MODELS.items()},
        targets={name: model["targets"] for name, model in MODELS.items()},
        threshold=config["evaluate"]["function_thresholds"][0]["name"],
        seed=config["seed"],
    script:
        "../../scripts/compare.py"


rule compare_sensitivity:
    input:
        metrics="results/evaluate/metrics.tsv",
        alternatives=sensitivity_tables(),
    output:
        universes=report(
            "results/compare/sensitivity.tsv",
            caption="../report/sensitivity.rst",
            category="Tables",
            labels={"table": "pairs under other choices"},
        ),
    log:
        "logs/compare/sensitivity.log",
    benchmark:
        "benchmarks/compare/sensitivity.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_case=3),
        runtime=minutes(30, per_case=0.1),
    params:
        code=code_digest("scripts/compare_sensitivity.py"),
        settings=config["compare"],
        choices=sensitivity_choices(),
        patients=patients_of(COHORT.case_ids),
        seed=config["seed"],
    script:
        "../../scripts/compare_sensitivity.py"
