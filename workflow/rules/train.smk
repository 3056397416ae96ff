# train: one model on one fold; checkpoints live under work/train and outlive a failed or killed job.
#
# A training waits for the check of the cases that models learn from. It is a table of its own, because a case that comes
# later changes the cohort's, and no training must follow from that. `ancient` would hide other reasons to train again:
# Snakemake compares no params behind jobs that have yet to run.


rule train_cohort:
    # From here on the cases that models learn from are fixed (split.new_cases).
    input:
        sidecars=learners_sidecars(),
    output:
        table="results/train/cohort.tsv",
    log:
        "logs/train/cohort.log",
    benchmark:
        "benchmarks/train/cohort.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(10),
    params:
        code=code_digest("scripts/train_cohort.py"),
        patients=patients_of(LEARNED),
        limits=config["convert"]["limits"],
        learned={case: list(targets) for case, targets in LEARNED.items()},
        kept=str(learners_file(config)),
    script:
        "../../scripts/train_cohort.py"


rule train:
    input:
        images=lambda wildcards: model_inputs(
            wildcards, MODELS[wildcards.model]["targets"]
        ),
        cohort="results/train/cohort.tsv",
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
        mem_mb=lambda wildcards, attempt: memory(
            model_training(config, wildcards.model)["memory_mb"]
        )(wildcards, attempt),
        # a limit of the site's partition: what it cuts off goes on from its checkpoint in the next attempt
        runtime=2880,
        gpu=lambda wildcards: training_gpus(wildcards.model),
        # What cannot change the result stands here and not among the params, so that a finished model is not made again.
        memory_mb=lambda wildcards: without_effect(wildcards.model)["memory_mb"],
        cache_mb=lambda wildcards: without_effect(wildcards.model)["cache_mb"],
        checkpoint_seconds=lambda wildcards: without_effect(wildcards.model)[
            "checkpoint_seconds"
        ],
        tensorboard=lambda wildcards: without_effect(wildcards.model)["tensorboard"],
        # for Slurm, whose profile keeps every other job to one core
        cpus_per_task=lambda wildcards: training_threads(wildcards.model),
    params:
        code=code_digest("scripts/train.py"),
        patients=lambda wildcards: patients_of(
            training_cases(wildcards.model, wildcards.fold)
        ),
        model=lambda wildcards: what_determines(wildcards.model),
        training=lambda wildcards: with_effect(wildcards.model),
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
        cohort="results/train/cohort.tsv",
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
        mem_mb=memory(3500),
        runtime=minutes(60),
    params:
        code=code_digest("scripts/train_baseline.py"),
        model=lambda wildcards: what_determines(wildcards.model),
        simulated=COHORT.simulated,
    script:
        "../../scripts/train_baseline.py"
