# register: the SPECT onto the CT, carried along by the registration of the camera's own CT; interpolated once.
#
# SPECT images that share one attenuation CT share one registration; one with a CT of its own, or none, is registered
# alone.


rule register:
    input:
        unpack(register_inputs),
        ct="results/convert/{case}/ct.nii.gz",
        ct_lungs="results/segment/{case}/ct_lungs.nii.gz",
    output:
        ct_to_spect="results/register/{case}/ct_to_spect.nii.gz",
        spect_to_ct="results/register/{case}/spect_to_ct.nii.gz",
        qc="results/register/{case}/qc.json",
    log:
        "logs/register/{case}.log",
    benchmark:
        "benchmarks/register/{case}.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code_digest("scripts/register.py"),
        settings=config["register"],
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
        qc="results/register/{case}/{target}_qc.json",
    log:
        "logs/register/{case}/{target}.log",
    benchmark:
        "benchmarks/register/{case}/{target}.tsv"


rule register_spect:
    input:
        spect="results/convert/{case}/{target}.nii.gz",
        ct="results/convert/{case}/ct.nii.gz",
        ct_to_spect=ct_to_spect,
    output:
        spect="results/register/{case}/{target}.nii.gz",
    log:
        "logs/register/{case}_{target}.log",
    benchmark:
        "benchmarks/register/{case}_{target}.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=20,
    params:
        code=code_digest("scripts/register_spect.py"),
    script:
        "../../scripts/register_spect.py"
