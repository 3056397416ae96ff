# evaluate: every number of every case, model and target, in the lungs and parts of them; the truth of simulated cases.


rule evaluate_case:
    input:
        unpack(network_images),
        unpack(evaluated_regions),
        lungs="results/crop/{case}/lungs.nii.gz",
        truth="results/simulate/{case}/truth" if COHORT.simulated else [],
    output:
        metrics="results/evaluate/cases/{case}.tsv",
        density="results/evaluate/density/{case}.tsv",
        detection="results/evaluate/detection/{case}.tsv",
        defects="results/evaluate/defects/{case}.tsv",
        truth=EVALUATED_TRUTH,
    log:
        "logs/evaluate/{case}.log",
    benchmark:
        "benchmarks/evaluate/{case}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_megavoxel=10),
        runtime=minutes(15, per_megavoxel=0.1),
    params:
        code=code_digest("scripts/evaluate_case.py"),
        settings=config["evaluate"],
        arms=vq_arms(MODELS),
        truth=(
            {
                "spect": config["crop"]["spect"],
                "modulate": config["register"]["modulate"],
            }
            if COHORT.simulated
            else None
        ),
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
        mem_mb=memory(1000, per_case=3),
        runtime=minutes(10, per_case=0.01),
    params:
        code=code_digest("scripts/evaluate.py"),
    script:
        "../../scripts/evaluate.py"
