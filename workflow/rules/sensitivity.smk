# sensitivity: the same synthesised images against SPECT made otherwise; nothing is trained again.
#
# An alternative is a name of `sensitivity.spect` with settings over `register` and `crop.spect`. One that only normalises
# otherwise costs seconds within a case's job; one that registers otherwise first registers the case again, unjudged.


rule sensitivity_register:
    input:
        unpack(register_inputs),
        ct="results/convert/{case}/ct.nii.gz",
        ct_lungs="results/segment/{case}/ct_lungs.nii.gz",
    output:
        ct_to_spect="results/sensitivity/register/{alternative}/{case}/ct_to_spect.nii.gz",
        spect_to_ct="results/sensitivity/register/{alternative}/{case}/spect_to_ct.nii.gz",
        record="results/sensitivity/register/{alternative}/{case}/record.json",
    log:
        "logs/sensitivity/register/{alternative}/{case}/register.log",
    benchmark:
        "benchmarks/sensitivity/register/{alternative}/{case}/register.tsv"
    conda:
        "../../envs/imaging.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_megavoxel=20),
        runtime=minutes(45, per_megavoxel=0.2),
    params:
        code=code_digest("scripts/sensitivity_register.py"),
        settings=alternative_settings,
        seed=config["seed"],
    script:
        "../../scripts/sensitivity_register.py"


use rule sensitivity_register as sensitivity_register_alone with:
    input:
        unpack(register_alone_inputs),
        ct="results/convert/{case}/ct.nii.gz",
        ct_lungs="results/segment/{case}/ct_lungs.nii.gz",
    output:
        ct_to_spect="results/sensitivity/register/{alternative}/{case}/{target}_ct_to_spect.nii.gz",
        spect_to_ct="results/sensitivity/register/{alternative}/{case}/{target}_spect_to_ct.nii.gz",
        record="results/sensitivity/register/{alternative}/{case}/{target}_record.json",
    log:
        "logs/sensitivity/register/{alternative}/{case}/register_{target}.log",
    benchmark:
        "benchmarks/sensitivity/register/{alternative}/{case}/register_{target}.tsv"


rule sensitivity_case:
    input:
        unpack(sensitivity_inputs),
        fields=alternative_fields,
        lungs="results/crop/{case}/lungs.nii.gz",
    output:
        metrics="results/sensitivity/cases/{case}.tsv",
    log:
        "logs/sensitivity/cases/{case}.log",
    benchmark:
        "benchmarks/sensitivity/cases/{case}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_megavoxel=10),
        runtime=minutes(15, per_megavoxel=0.1),
    params:
        code=code_digest("scripts/sensitivity_case.py"),
        alternatives=alternatives_of,
        choices={
            key: sensitivity_choices()[key]
            for key in ("metrics", "regions", "definitions")
        },
        settings={
            key: config["evaluate"][key]
            for key in ("function_thresholds", "ssim", "spacing_mm", "core_mm")
        },
    script:
        "../../scripts/sensitivity_case.py"
