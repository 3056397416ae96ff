# synthesize: every model's images of a case that its fold never saw, on the network's grid and back on the CT's.


rule synthesize:
    input:
        unpack(weights_without),
        ct="results/crop/{case}/ct.nii.gz",
        enhanced="results/crop/{case}/ct_enhanced.nii.gz",
        texture="results/crop/{case}/ct_texture.nii.gz",
        lungs="results/crop/{case}/lungs.nii.gz",
        ct_lungs="results/segment/{case}/ct_lungs.nii.gz",
    output:
        images=synthesised("results/synthesize/{case}/{model}/{target}.nii.gz"),
        network=synthesised("results/synthesize/{case}/{model}/{target}_network.nii.gz"),
        uncertainty=synthesised(
            "results/synthesize/{case}/{model}/{target}_uncertainty.nii.gz",
            uncertain_models(),
        ),
        record="results/synthesize/{case}/synthesize.json",
    log:
        "logs/synthesize/{case}.log",
    benchmark:
        "benchmarks/synthesize/{case}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(3000, per_megavoxel=20),
        runtime=minutes(60, per_megavoxel=0.2),
        gpu=int(config["train"]["device"] != "cpu"),
    params:
        code=code_digest("scripts/synthesize.py"),
        models=list(MODELS),
        device=config["train"]["device"],
        settings=config["synthesize"],
        uncertain=uncertain_models(),
        seed=config["seed"] if uncertain_models() else 0,
    script:
        "../../scripts/synthesize.py"
