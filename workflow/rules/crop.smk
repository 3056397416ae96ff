# crop: the network's grid round the lungs, enhanced CT, texture, normalised SPECT; crop.json holds the way back.


rule crop:
    input:
        ct="results/convert/{case}/ct.nii.gz",
        lungs="results/segment/{case}/ct_lungs.nii.gz",
    output:
        ct="results/crop/{case}/ct.nii.gz",
        enhanced="results/crop/{case}/ct_enhanced.nii.gz",
        texture="results/crop/{case}/ct_texture.nii.gz",
        lungs="results/crop/{case}/lungs.nii.gz",
        record="results/crop/{case}/crop.json",
    log:
        "logs/crop/{case}/crop.log",
    benchmark:
        "benchmarks/crop/{case}/crop.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_megavoxel=30),
        runtime=minutes(10, per_megavoxel=0.1),
    params:
        code=code_digest("scripts/crop.py"),
        settings={key: value for key, value in config["crop"].items() if key != "spect"},
    script:
        "../../scripts/crop.py"


rule crop_spect:
    input:
        spect="results/convert/{case}/{target}.nii.gz",
        ct_to_spect=ct_to_spect,
        accepted=ancient(accepted),
        lungs="results/crop/{case}/lungs.nii.gz",
    output:
        spect="results/crop/{case}/{target}.nii.gz",
        record="results/crop/{case}/{target}.json",
    log:
        "logs/crop/{case}/{target}.log",
    benchmark:
        "benchmarks/crop/{case}/{target}.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_megavoxel=10),
        runtime=minutes(10, per_megavoxel=0.1),
    params:
        code=code_digest("scripts/crop_spect.py"),
        settings=config["crop"]["spect"],
        modulate=config["register"]["modulate"],
    script:
        "../../scripts/crop_spect.py"
