# ct2vq: from raw DICOM of CT, perfusion SPECT and ventilation SPECT to the report of the whole study.
#
#   make demo                                            the embedded simulated cohort
#   snakemake --cores all                                your study: config/config.yaml and config/cases.tsv
#   snakemake --cores all --configfile config/mine.yaml  a study of another name (then config/config.yaml is not read)
from snakemake.utils import min_version

min_version("9.27")

if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/common.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/convert.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/register.smk"
include: "workflow/rules/crop.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/synthesize.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/detect.smk"
include: "workflow/rules/sensitivity.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/read.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        "results/report/index.html",
        "results/evaluate/metrics.tsv",
        "results/compare/pairs.tsv",
        "results/compare/sensitivity.tsv",
        "results/compare/detection.tsv",
        # for other programs: the workflow itself reads no SPECT on the CT's grid
        [
            f"results/register/{case.case_id}/{target}.nii.gz"
            for case in COHORT.cases
            for target in case.targets
        ],
        reader_packs(),
        reader_answers(),


rule reader_pack:
    input:
        reader_packs(),


rule reader_report:
    input:
        reader_answers(),
