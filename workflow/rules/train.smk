# train: one model on one fold; checkpoints live under work/train and outlive a failed or killed job.
#
# The cohort's table is an input: a training waits for the check of the cohort. `ancient` would hide other reasons to
# train again, because Snakemake compares no params behind jobs that have yet to run.


rule train:
    input:
        images=lambda wildcards: model_inputs(
            wildcards, MODELS[wildcards.model]["targets"]
        ),
        cohort="results/convert/cohort.tsv",
    output:
        weights="results/train/{model}/fold{fold}/weights.safetensors",
        history="results/train/{model}/fold{fold}/history.tsv",
        record="results/train/{model}/fold{fold}/run.json",
        card="results/train/{model}/fold{fold}/model_card.md",
    log:
        "logs/train/{model}/fold{fold}.log",
    benchmark:
        "benchmarks/train/{model}/fold{fold}.tsv"
    wildcard_constraints:
        model="|".join(NETWORKS) or "none",
    conda:
        "../../envs/torch.yaml"
    threads: lambda wildcards: training_threads(wildcards.model)
    resources:
        mem_mb=lambda wildcards: model_training(config, wildcards.model)["memory_mb"],
        runtime=2880,
        gpu=lambda wildcards: training_gpus(wildcards.model),
    params:
        code=code_digest("scripts/train.py"),
        patients=lambda wildcards: patients_of(
            training_cases(wildcards.model, wildcards.fold)
        ),
        model=lambda wildcards: what_determines(wildcards.model),
        training=lambda wildcards: model_training(config, wildcards.model),
        preparation=preparation(),
        seed=config["seed"],
        simulated=COHORT.simulated,
    script:
        "../../scripts/train.py"


rule train_baseline:
    input:
        images=lambda wildcards: model_inputs(
            wildcards, MODELS[wildcards.model]["targets"]
        ),
        cohort="results/convert/cohort.tsv",
    output:
        weights="results/train/{model}/fold{fold}/weights.safetensors",
        record="results/train/{model}/fold{fold}/run.json",
    log:
        "logs/train/{model}/fold{fold}.log",
    benchmark:
        "benchmarks/train/{model}/fold{fold}.tsv"
    wildcard_constraints:
        model="|".join(BASELINES) or "none",
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code_digest("scripts/train_baseline.py"),
        model=lambda wildcards: what_determines(wildcards.model),
        simulated=COHORT.simulated,
    script:
        "../../scripts/train_baseline.py"
