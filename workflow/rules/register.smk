# register: the SPECT onto the CT, carried along by the registration of the camera's own CT; interpolated once.
#
# SPECT images that share one attenuation CT share one registration; one with a CT of its own, or none, is registered
# alone. `register` finds the transforms; `register_quality` measures, flags and refuses. What carries a SPECT waits for
# `accepted.txt`, which never changes and is `ancient`: a registration that is merely judged again reruns no training.


rule register:
    input:
        unpack(register_inputs),
        ct="results/convert/{case}/ct.nii.gz",
        ct_lungs="results/segment/{case}/ct_lungs.nii.gz",
    output:
        ct_to_spect="results/register/{case}/ct_to_spect.nii.gz",
        spect_to_ct="results/register/{case}/spect_to_ct.nii.gz",
        record="results/register/{case}/record.json",
    log:
        "logs/register/{case}/register.log",
    benchmark:
        "benchmarks/register/{case}/register.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_megavoxel=20),
        runtime=minutes(45, per_megavoxel=0.2),
    params:
        code=code_digest("scripts/register.py"),
        settings=registration_settings,
        seed=config["seed"],
    script:
        "../../scripts/register.py"


use rule register as register_alone with:
    input:
        unpack(register_alone_inputs),
        ct="results/convert/{case}/ct.nii.gz",
        ct_lungs="results/segment/{case}/ct_lungs.nii.gz",
    output:
        ct_to_spect="results/register/{case}/{target}_ct_to_spect.nii.gz",
        spect_to_ct="results/register/{case}/{target}_spect_to_ct.nii.gz",
        record="results/register/{case}/{target}_record.json",
    log:
        "logs/register/{case}/register_{target}.log",
    benchmark:
        "benchmarks/register/{case}/register_{target}.tsv"


rule register_quality:
    input:
        unpack(register_quality_inputs),
        ct="results/convert/{case}/ct.nii.gz",
        ct_lungs="results/segment/{case}/ct_lungs.nii.gz",
        ct_to_spect="results/register/{case}/ct_to_spect.nii.gz",
        spect_to_ct="results/register/{case}/spect_to_ct.nii.gz",
        record="results/register/{case}/record.json",
    output:
        qc="results/register/{case}/qc.json",
        accepted="results/register/{case}/accepted.txt",
    log:
        "logs/register/{case}/quality.log",
    benchmark:
        "benchmarks/register/{case}/quality.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_megavoxel=30),
        runtime=minutes(15, per_megavoxel=0.2),
    params:
        code=code_digest("scripts/register_quality.py"),
        limits={block: config["register"][block] for block in ("flags", "refuse")},
        accept=lambda wildcards: wildcards.case in config["register"]["accept"],
        landmarks=landmarks_digest,
    script:
        "../../scripts/register_quality.py"


use rule register_quality as register_quality_alone with:
    input:
        unpack(register_quality_alone_inputs),
        ct="results/convert/{case}/ct.nii.gz",
        ct_lungs="results/segment/{case}/ct_lungs.nii.gz",
        ct_to_spect="results/register/{case}/{target}_ct_to_spect.nii.gz",
        spect_to_ct="results/register/{case}/{target}_spect_to_ct.nii.gz",
        record="results/register/{case}/{target}_record.json",
    output:
        qc="results/register/{case}/{target}_qc.json",
        accepted="results/register/{case}/{target}_accepted.txt",
    log:
        "logs/register/{case}/quality_{target}.log",
    benchmark:
        "benchmarks/register/{case}/quality_{target}.tsv"


rule register_spect:
    input:
        spect="results/convert/{case}/{target}.nii.gz",
        ct="results/convert/{case}/ct.nii.gz",
        ct_to_spect=ct_to_spect,
        accepted=ancient(accepted),
    output:
        spect="results/register/{case}/{target}.nii.gz",
    log:
        "logs/register/{case}/{target}.log",
    benchmark:
        "benchmarks/register/{case}/{target}.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_megavoxel=30),
        runtime=minutes(10, per_megavoxel=0.1),
    params:
        code=code_digest("scripts/register_spect.py"),
        modulate=config["register"]["modulate"],
    script:
        "../../scripts/register_spect.py"


rule register_cohort:
    input:
        qc=registrations(
            lambda case, target: registration_file(case, target, "qc.json")
        ),
    output:
        quality="results/register/quality.tsv",
    log:
        "logs/register/cohort.log",
    benchmark:
        "benchmarks/register/cohort.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, per_case=0.5),
        runtime=minutes(10, per_case=0.01),
    params:
        code=code_digest("scripts/register_cohort.py"),
    script:
        "../../scripts/register_cohort.py"
