# evaluate: every metric of every case, model and target, in the lungs on the network's grid.


rule evaluate_case:
    input:
        unpack(network_images),
        lungs="results/crop/{case}/lungs.nii.gz",
    output:
        metrics="results/evaluate/cases/{case}.tsv",
    log:
        "logs/evaluate/{case}.log",
    benchmark:
        "benchmarks/evaluate/{case}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=code_digest("scripts/evaluate_case.py"),
        settings=config["evaluate"],
    script:
        "../../scripts/evaluate_case.py"


rule evaluate:
    input:
        cases=expand("results/evaluate/cases/{case}.tsv", case=COHORT.case_ids),
    output:
        metrics=report(
            "results/evaluate/metrics.tsv",
            caption="../report/metrics.rst",
            category="Tables",
            labels={"table": "metrics of every case"},
        ),
    log:
        "logs/evaluate/metrics.log",
    benchmark:
        "benchmarks/evaluate/metrics.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_digest("scripts/evaluate.py"),
    script:
        "../../scripts/evaluate.py"
