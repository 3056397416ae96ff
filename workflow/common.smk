"""What all rules share: the checked configuration, the cohort, the folds and the few input functions."""

import os
import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from snakemake.cli import get_argument_parser
from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

sys.path.insert(0, str(workflow.basedir))

from ct2vq.cohort import CT_VOLUMES, VOLUMES, load_cohort
from ct2vq.config import (
    TARGETS,
    TRAINING_WITHOUT_EFFECT,
    alternative_spect,
    cases_schema,
    complete_config,
    is_network,
    model_training,
    models_for,
    segment_settings,
    tells_lobes,
    vq_arms,
    weight_paths,
)
from ct2vq.digests import KnownCode, folder_digest, simulated_digest
from ct2vq.digests import code_digest as digest_of_code
from ct2vq.discover.resolve import resolve_source
from ct2vq.errors import Ct2vqError
from ct2vq.identity.sources import write_sources
from ct2vq.identity.store import study_store
from ct2vq.learners import learned_targets
from ct2vq.needs import SNAKEMAKE_MB, asked, raw_megavoxels, simulated_megavoxels
from ct2vq.portions import portions
from ct2vq.read.exports import stored_exports
from ct2vq.read.names import FIGURES, REPORTED
from ct2vq.read.readers import study_readers
from ct2vq.read.settings import reading_cases
from ct2vq.split import assign_folds, folds_table
from ct2vq.study import (
    claim_run,
    kept_folds,
    kept_folds_file,
    kept_learners,
    learners_file,
    require_same_study,
)

KNOWN_CODE = KnownCode(Path(".snakemake") / "ct2vq_code.json")


def code_digest(script):
    """Content digest of a script and of all code and pinned versions that it uses."""
    return digest_of_code(script, known=KNOWN_CODE)


def require_one_task():
    """A cluster that starts a job once for each of its tasks would run it several times over the same files."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1:
        raise WorkflowError(
            f"Slurm started this job {tasks} times at once; several GPUs for one training are asked for with "
            "`gpu: 0` and `slurm_extra: \"'--gres=gpu:2 --no-requeue'\"` (docs/cluster.md)"
        )


require_one_task()


def wanted_targets():
    """What was asked for by name; Snakemake tells a workflow its targets only after its rules are read."""
    if "snakemake" not in sys.argv[0]:
        return []
    told, _ = get_argument_parser().parse_known_args(sys.argv[1:])
    return [*(told.targets or ()), *(told.target_jobs or ())]


def only_converted():
    """Whether no more is wanted than to check or to convert the raw images: folds do not matter for that."""
    wanted = wanted_targets()
    early = ("check", "convert", "results/check/", "results/convert/")
    return bool(wanted) and all(str(target).startswith(early) for target in wanted)


def prepare_study():
    """Check the configuration and the cohort before any job; every problem is one message."""
    if "--lint" in sys.argv:
        # rules are checked with the embedded cohort: nobody needs images of their own for that
        config.clear()
        config.update(load_configfile(Path(workflow.basedir) / "config" / "demo.yaml"))
    try:
        completed = complete_config(
            config, ", ".join(map(str, workflow.configfiles)) or "--config"
        )
        config.clear()
        config.update(completed)
        if "--lint" not in sys.argv:
            require_same_study(config)
        cohort = load_cohort(config)
        kept = kept_folds(config)
        learned = learned_targets(
            cohort.cases, kept_learners(config), config["split"]["new_cases"]
        )
        if only_converted():
            folds = dict.fromkeys(cohort.case_ids, 1)
        else:
            folds = assign_folds(
                cohort.cases,
                config["split"]["folds"],
                config["seed"],
                config["split"]["stratify_by"],
                kept,
            )
        store = study_store(config)
        store.make_folder()
        return cohort, folds, learned, store
    except Ct2vqError as error:
        raise WorkflowError(str(error)) from None


COHORT, FOLDS, LEARNED, STORE = prepare_study()
#: file names stand in it: it lies where nobody else looks
HASH_CACHE = STORE.folder / "hashes"
FOLD_NUMBERS = sorted(set(FOLDS.values()))
SPECT_TARGETS = COHORT.targets
#: models whose targets this cohort has
MODELS = {
    name: model
    for name, model in config["models"].items()
    if set(model["targets"]) <= set(SPECT_TARGETS)
}
for name in sorted(config["models"].keys() - MODELS.keys()):
    logger.warning(f"ct2vq: model `{name}` is left out: no case has all of its targets")

#: cases with an image that came after the models' training
ONLY_PREDICTED = [
    case.case_id
    for case in COHORT.cases
    if set(case.targets) - set(LEARNED.get(case.case_id, ()))
]
if ONLY_PREDICTED:
    logger.warning(
        f"ct2vq: no model learns from {', '.join(ONLY_PREDICTED[:10])}"
        + (f" and {len(ONLY_PREDICTED) - 10} more" if len(ONLY_PREDICTED) > 10 else "")
        + ": they came after the training and are only predicted; with split.new_cases: learn"
        " the models are trained again (docs/scale.md)"
    )

NETWORKS = [name for name, model in MODELS.items() if is_network(model)]
BASELINES = [name for name in MODELS if name not in NETWORKS]

#: whether the study has readers; without them no rule of `read.smk` is in the DAG
READING = config["read"]["enabled"] and not only_converted()


def prepare_reading():
    """What is read (cases by identifier) and who reads it (level by reader)."""
    if {"reader_pack", "reader_report"} & set(
        map(str, wanted_targets())
    ) and not READING:
        raise WorkflowError(
            "this study has no readers: key read.enabled is false (docs/reading.md)"
        )
    if not READING:
        return {}, {}
    try:
        return reading_cases(config, COHORT), study_readers(config["read"])
    except Ct2vqError as error:
        raise WorkflowError(str(error)) from None


READ_CASES, READERS = prepare_reading()


def drop_default_rate():
    """Take away the limit of 100 new jobs a second, if it is the one that nobody asked for.

    With any limit Snakemake 9 looks for new jobs again a second after each look, and once more for every job that
    ends, for ever: in a run of some hundred jobs its own process had a fifth of all processor time (issue 2967 and pull
    request 3744 of snakemake/snakemake). No setting takes the default away, and with a longer span the end of the run
    waits for it.
    """
    rate = getattr(workflow.scheduler, "job_rate_limiter", None)
    if rate and (rate.max_jobs, rate.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


onstart:
    claim_run(config)
    write_sources(COHORT, config, STORE)
    drop_default_rate()


#: one alternative for each case would make every match as long as the cohort
CASE_ID = cases_schema()["properties"]["case_id"]["pattern"].strip("^$")


wildcard_constraints:
    case=CASE_ID,
    volume="|".join(VOLUMES),
    target="|".join(TARGETS),
    model="|".join(MODELS) or "none",
    fold=r"\d+",
    alternative="|".join(config["sensitivity"]["spect"]) or "none",
    reader="|".join(READERS) or "none",
    portion=r"\d+",


@cache
def training_cases(model, fold):
    """Cases that a model learns from in a fold: all whose targets it may learn and that are not in the fold."""
    targets = set(MODELS[model]["targets"])
    return [
        case
        for case, learned in LEARNED.items()
        if targets <= set(learned) and FOLDS[case] != int(fold)
    ]


def learners_sidecars():
    """The records of the converted images that models learn from, of their CTs, and of the cameras' own."""
    return [
        f"results/convert/{case}/{volume}.json"
        for case, learned in LEARNED.items()
        for volume in COHORT[case].volumes_of(learned)
    ]


def what_determines(model):
    """A model's settings without its label, which only figures use, and without what stands in `training`."""
    return {
        key: value
        for key, value in MODELS[model].items()
        if key not in ("label", "training")
    }


def with_effect(model):
    """A model's training settings that can change the result."""
    training = model_training(config, model)
    return {
        key: value
        for key, value in training.items()
        if key not in TRAINING_WITHOUT_EFFECT
    }


def without_effect(model):
    """A model's training settings that cannot change the result, as resources: whole numbers and strings."""
    training = model_training(config, model)
    return {
        key: int(training[key]) if isinstance(training[key], bool) else training[key]
        for key in TRAINING_WITHOUT_EFFECT
    }


def training_threads(model):
    """Threads of all processes of a training; those of a GPU's processes mostly wait."""
    training = model_training(config, model)
    return training["threads"] * training["devices"]


def training_gpus(model):
    training = model_training(config, model)
    return 0 if training["device"] == "cpu" else training["devices"]


@cache
def ct_megavoxels(case, volume):
    """Millions of voxels of a CT, as far as they are known before it is converted."""
    source = COHORT[case].sources.get(volume)
    if COHORT.simulated:
        scanner = "ct" if volume == "ct" else "attenuation_ct"
        return simulated_megavoxels(config["simulate"][scanner])
    try:
        return raw_megavoxels(resolve_source(source, STORE.folder)) if source else 0
    except Ct2vqError:
        return 0


def _grows(base, per_megavoxel, per_case):
    def of_job(wildcards, attempt):
        portion = PORTIONS.get(wildcards.get("portion"), [wildcards.get("case")])
        size = per_megavoxel and max(
            ct_megavoxels(case, wildcards.get("volume", "ct")) for case in portion
        )
        fixed = base + per_case * len(COHORT.cases)
        return asked(fixed, attempt, per_megavoxel, size)

    return of_job


def memory(base, per_megavoxel=0.0, per_case=0.0):
    """MB of a job: for itself, for the CT of its case (of the wildcard `volume`, else the diagnostic one), for the cohort."""
    return _grows(base + SNAKEMAKE_MB, per_megavoxel, per_case)


def minutes(base, per_megavoxel=0.0, per_case=0.0):
    """Minutes after which a job is given up, told as its memory is."""
    return _grows(base, per_megavoxel, per_case)


def patients_of(cases):
    return {case: COHORT[case].patient_id for case in cases}


def raw_input(wildcards):
    """A simulated case's DICOM comes from its manifest; a real one enters as a digest among the params."""
    return (
        f"results/simulate/{wildcards.case}/manifest.json" if COHORT.simulated else []
    )


def raw_digest(wildcards, volume):
    """What the raw data of a volume holds; what cannot be read is left to the job, which knows what must not be said."""
    cell = COHORT[wildcards.case].sources[volume]
    try:
        if COHORT.simulated:
            return simulated_digest(Path(cell), Path(raw_input(wildcards)), HASH_CACHE)
        return folder_digest(resolve_source(cell, STORE.folder), HASH_CACHE)
    except Ct2vqError:
        return "unreadable"


def mask_digest(wildcards):
    """What the user's own lung mask on a CT holds, None if there is none."""
    mask = COHORT[wildcards.case].lung_masks.get(wildcards.volume)
    try:
        return mask and folder_digest(Path(mask), HASH_CACHE)
    except Ct2vqError:
        return "unreadable"


def weights_digests():
    """What the weights of the segmentation's backend hold, by key; their places are nobody's business."""
    try:
        return {
            key: path and folder_digest(Path(path), HASH_CACHE)
            for key, path in weight_paths(config).items()
        }
    except Ct2vqError:
        return dict.fromkeys(weight_paths(config), "unreadable")


SEGMENT_WEIGHTS = weights_digests()


def segment_params(wildcards):
    """The settings that decide the segmentation of a CT."""
    case = COHORT[wildcards.case]
    return segment_settings(
        config,
        own_mask=wildcards.volume in case.lung_masks,
        lungs=case.lungs,
        weights=SEGMENT_WEIGHTS,
    )


def preparation():
    """How a model's images were made, as a new CT is prepared for it."""
    segment = segment_settings(
        config, own_mask=False, lungs=None, weights=SEGMENT_WEIGHTS
    )
    return {
        "convert": config["convert"],
        "segment": segment,
        "crop": config["crop"],
    }


def landmarks_digest(wildcards):
    """What the user's own table of landmarks holds, None if there is none."""
    landmarks = COHORT[wildcards.case].landmarks
    try:
        return landmarks and folder_digest(Path(landmarks), HASH_CACHE)
    except Ct2vqError:
        return "unreadable"


def config_to_show():
    """The configuration without the places of what is private."""
    places = {"dicom_root": "(private)", "private": "(private)"}
    return {**config, "cohort": {**config["cohort"], **places}}


def spect_inputs(case, targets):
    """SPECT images, and the sidecars that tell whether they share a frame of reference with each other and the CT."""
    converted = f"results/convert/{case}"
    inputs = {"ct_facts": f"{converted}/ct.json"}
    for target in targets:
        inputs[target] = f"{converted}/{target}.nii.gz"
        inputs[f"{target}_facts"] = f"{converted}/{target}.json"
    return inputs


#: lobes that the segmentation's backend tells, if it does
BACKEND_LOBES = (
    ["results/segment/{case}/{volume}_lobes.nii.gz"] if tells_lobes(config) else []
)


def through_ct_inputs(case, attenuation_ct, targets):
    """A camera's CT with its lungs, and the SPECT images that it is for."""
    converted = f"results/convert/{case}"
    return {
        "attenuation_ct": f"{converted}/{attenuation_ct}.nii.gz",
        "attenuation_ct_lungs": f"results/segment/{case}/{attenuation_ct}_lungs.nii.gz",
        "attenuation_ct_facts": f"{converted}/{attenuation_ct}.json",
        **spect_inputs(case, targets),
    }


def register_inputs(wildcards):
    """The CT that one camera made for all the SPECT images that name it."""
    targets = COHORT[wildcards.case].registered_together
    return through_ct_inputs(wildcards.case, "attenuation_ct", targets)


def register_alone_inputs(wildcards):
    """The CT of a SPECT's own camera; without one, the SPECT and what may help it: another without a CT."""
    case = COHORT[wildcards.case]
    attenuation_ct = case.attenuation_ct(wildcards.target)
    if attenuation_ct:
        return through_ct_inputs(case.case_id, attenuation_ct, [wildcards.target])
    others = [
        target
        for target in case.registered_alone
        if target != wildcards.target and not case.attenuation_ct(target)
    ]
    return spect_inputs(case.case_id, [wildcards.target, *others])


def judged(inputs, targets, wildcards):
    """Images of a registration that its quality is measured on; of SPECT images only those that it carries."""
    left_out = set(TARGETS) - set(targets)
    images = {
        name: path
        for name, path in inputs.items()
        if name not in left_out and not name.endswith("_facts")
    }
    if COHORT.simulated and config["register"]["simulated_landmarks"]:
        images["truth"] = f"results/simulate/{wildcards.case}/truth"
    return images


def register_quality_inputs(wildcards):
    targets = COHORT[wildcards.case].registered_together
    return judged(register_inputs(wildcards), targets, wildcards)


def register_quality_alone_inputs(wildcards):
    return judged(register_alone_inputs(wildcards), [wildcards.target], wildcards)


#: keys of `register` that no registration reads, only one through an attenuation CT, and only one without
NOT_TO_REGISTER = {"accept", "flags", "refuse", "modulate", "simulated_landmarks"}
ONLY_THROUGH_CT = {
    "transform",
    "linear_guide",
    "linear_spacing_mm",
    "search",
    "flow_sigma",
    "total_sigma",
}
ONLY_WITHOUT_CT = {
    "without_attenuation_ct",
    "without_attenuation_ct_smoothing",
    "frames",
}


def read_by_registration(case, target, register):
    """What a registration reads of `register` settings; a key of another kind of registration does not rerun it."""
    through_ct = not target or COHORT[case].attenuation_ct(target)
    unread = NOT_TO_REGISTER | (ONLY_WITHOUT_CT if through_ct else ONLY_THROUGH_CT)
    return {key: value for key, value in register.items() if key not in unread}


def registration_settings(wildcards):
    """What a registration reads of the configuration."""
    return read_by_registration(
        wildcards.case, wildcards.get("target"), config["register"]
    )


def registrations(file):
    """`file(case, target)` of every registration of the cohort; target None: one that carries several."""
    return [
        file(case.case_id, target)
        for case in COHORT.cases
        for target in registered(case)
    ]


def registered(case):
    """Targets of a case's registrations; None: of one that carries several."""
    return [*([None] if case.registered_together else []), *case.registered_alone]


def registration_file(case, target, name):
    """A file of the registration that carries a target; target None: of the one that carries several."""
    alone = target in COHORT[case].registered_alone
    return (
        f"results/register/{case}/{target}_{name}"
        if alone
        else f"results/register/{case}/{name}"
    )


def ct_to_spect(wildcards):
    """The transform that carries the target onto the CT."""
    return registration_file(wildcards.case, wildcards.target, "ct_to_spect.nii.gz")


def accepted(wildcards):
    """A file that is there if the target's registration was not refused."""
    return registration_file(wildcards.case, wildcards.target, "accepted.txt")


#: cases whose figures one job draws, by the portion's number: the start of a job costs as much as a figure
PORTIONS = portions(COHORT.case_ids, 8)
PORTION_OF = {case: portion for portion, cases in PORTIONS.items() for case in cases}


def case_figure(kind, case, target=None):
    """A figure of a case, in the folder of its portion; a folder keeps cases' names apart from targets'."""
    name = Path(case, target) if target else case
    return f"results/report/figures/{kind}/{PORTION_OF[case]}/{name}.png"


def of_portions(folder):
    """A folder of every portion."""
    return expand(f"{folder}/{{portion}}", portion=PORTIONS)


def files_of(cases):
    """All files of a nested dictionary, each once."""
    if not isinstance(cases, Mapping):
        return [cases]
    return list(
        dict.fromkeys(path for value in cases.values() for path in files_of(value))
    )


def registration_files(wildcards):
    """What the figures of each case of a portion are drawn from, by the target that a registration carries alone."""
    return {
        case: {
            target or "": overlay_files(case, target)
            for target in registered(COHORT[case])
        }
        for case in PORTIONS[wildcards.portion]
    }


def normalisation_files(wildcards):
    """What the figure of the normalised SPECT of each case of a portion is drawn from."""
    return {case: normalised_files(case) for case in PORTIONS[wildcards.portion]}


def picture_files(wildcards):
    """What the figure of the images of each case of a portion, and the volumes of its viewer, are made from."""
    return {
        case: {
            "ct": f"results/convert/{case}/ct.nii.gz",
            "ct_lungs": f"results/segment/{case}/ct_lungs.nii.gz",
            "lungs": f"results/crop/{case}/lungs.nii.gz",
            "network_ct": f"results/crop/{case}/ct.nii.gz",
            **images_of(case),
        }
        for case in PORTIONS[wildcards.portion]
    }


def normalised_files(case):
    """The cropped CT, and for each target its normalised image and record, and what they were made from."""
    inputs = {name: f"results/crop/{case}/{name}.nii.gz" for name in ("ct", "lungs")}
    for target in COHORT[case].targets:
        inputs[target] = f"results/crop/{case}/{target}.nii.gz"
        inputs[f"{target}_facts"] = f"results/crop/{case}/{target}.json"
        inputs[f"{target}_spect"] = f"results/convert/{case}/{target}.nii.gz"
        inputs[f"{target}_field"] = registration_file(
            case, target, "ct_to_spect.nii.gz"
        )
    return inputs


def model_inputs(wildcards, targets):
    """Cropped images of the cases that a model learns from in a fold."""
    cases = training_cases(wildcards.model, wildcards.fold)
    names = ["ct", "ct_enhanced", "ct_texture", "lungs", *targets]
    return [f"results/crop/{case}/{name}.nii.gz" for case in cases for name in names]


def weights_without(wildcards):
    """Weights of every model that never saw the case's patient, by model."""
    fold = FOLDS[wildcards.case]
    return {
        model: f"results/train/{model}/fold{fold}/weights.safetensors"
        for model in MODELS
    }


def synthesised(pattern, models=None):
    """Files of all models, or of some, and their targets for the case of the wildcard."""
    return [
        pattern.format(case="{case}", model=name, target=target)
        for name, model in MODELS.items()
        if models is None or name in models
        for target in model["targets"]
    ]


def uncertain_models():
    """Models whose uncertainty is mapped in the study: those with dropout, if that is asked for."""
    if config["synthesize"]["uncertainty"] != "dropout":
        return []
    return [name for name in NETWORKS if MODELS[name]["network"].get("dropout")]


def network_images(wildcards):
    return images_of(wildcards.case)


def images_of(case):
    """A case's images on the network's grid for the targets it has, named `spect_<target>` and `<model>_<target>`."""
    images = {}
    for target in COHORT[case].targets:
        images[f"spect_{target}"] = f"results/crop/{case}/{target}.nii.gz"
        for model in models_for({"models": MODELS}, target):
            images[f"{model}_{target}"] = (
                f"results/synthesize/{case}/{model}/{target}_network.nii.gz"
            )
    return images


def evaluated_regions(wildcards):
    """Parts of the lungs in which images are compared; lobes where the backend tells them or the truth is known."""
    segmented = f"results/segment/{wildcards.case}"
    regions = {"regions": f"{segmented}/ct_regions.nii.gz"}
    if BACKEND_LOBES or COHORT.simulated:
        regions["lobes"] = f"{segmented}/ct_lobes.nii.gz"
    return regions


#: the truth of a simulated case on the network's grid
EVALUATED_TRUTH = (
    [
        f"results/evaluate/truth/{{case}}/{name}.nii.gz"
        for name in (
            *(f"truth_{target}" for target in TARGETS),
            *(f"truth_visible_{target}" for target in TARGETS),
            "findings",
        )
    ]
    if COHORT.simulated
    else []
)


#: what lies beside the PNG of a figure of the study
BESIDE_FIGURES = [
    *(f".{name}" for name in config["report"]["figure"]["vector_formats"]),
    ".tsv",
]


#: models that are compared with each other, by target
PAIRED = {
    target: [
        model
        for model in MODELS
        if any(
            model in pair[:2] and target == pair[2]
            for pair in config["compare"]["pairs"]
        )
    ]
    for target in SPECT_TARGETS
}


#: each alternative's settings: asked for several times a case
ALTERNATIVES = {
    name: alternative_spect(config, name) for name in config["sensitivity"]["spect"]
}


def alternative_settings(wildcards):
    """What an alternative's registration reads of its settings."""
    register = ALTERNATIVES[wildcards.alternative]["register"]
    return read_by_registration(wildcards.case, wildcards.get("target"), register)


def alternative_field(name, case, target):
    """The transform that carries a target onto the CT in an alternative: the study's own if it would come out the same."""
    alone = target if target in COHORT[case].registered_alone else None
    register = ALTERNATIVES[name]["register"]
    own = read_by_registration(case, alone, config["register"])
    if read_by_registration(case, alone, register) == own:
        return registration_file(case, target, "ct_to_spect.nii.gz")
    folder = f"results/sensitivity/register/{name}/{case}"
    return (
        f"{folder}/{alone}_ct_to_spect.nii.gz"
        if alone
        else f"{folder}/ct_to_spect.nii.gz"
    )


def alternatives_of(wildcards):
    """What makes each alternative SPECT of a case: transforms by target, settings of the normalisation."""
    alternatives = {}
    for name, made in ALTERNATIVES.items():
        alternatives[name] = {
            "fields": {
                target: alternative_field(name, wildcards.case, target)
                for target in COHORT[wildcards.case].targets
                if PAIRED[target]
            },
            "modulate": made["register"]["modulate"],
            "spect": made["spect"],
        }
    return alternatives


def sensitivity_inputs(wildcards):
    """The SPECT of each target as the camera made it, its record, and the images of the models that are compared."""
    case, inputs = wildcards.case, {}
    for target in COHORT[case].targets:
        if not PAIRED[target]:
            continue
        inputs[f"source_{target}"] = f"results/convert/{case}/{target}.nii.gz"
        inputs[f"facts_{target}"] = f"results/crop/{case}/{target}.json"
        for model in PAIRED[target]:
            inputs[f"{model}_{target}"] = (
                f"results/synthesize/{case}/{model}/{target}_network.nii.gz"
            )
    return inputs


def alternative_fields(wildcards):
    """Every transform that an alternative SPECT of a case is carried by."""
    made = alternatives_of(wildcards).values()
    return sorted({path for one in made for path in one["fields"].values()})


def sensitivity_choices():
    """What is varied beside the SPECT, and what is compared."""
    names = [one["name"] for one in config["evaluate"]["function_thresholds"]]
    chosen = config["sensitivity"]
    return {
        "pairs": config["compare"]["pairs"],
        "metrics": chosen["metrics"],
        "regions": chosen["regions"],
        "definitions": (
            names if chosen["definitions"] is None else chosen["definitions"]
        ),
        "threshold": names[0],
    }


def sensitivity_tables():
    """A table of every case that has one of the targets of the pairs, if there are alternative SPECT images."""
    paired = {target for target, models in PAIRED.items() if models}
    cases = [case.case_id for case in COHORT.cases if paired & set(case.targets)]
    some = cases if config["sensitivity"]["spect"] else []
    return [f"results/sensitivity/cases/{case}.tsv" for case in some]


def overlay_files(case_id, alone):
    """What the figure of a registration shows: the SPECT images that it carries, their CT if there is one, and lungs."""
    case = COHORT[case_id]
    targets = [alone] if alone else case.registered_together
    volumes = {"ct": "ct", **{target: target for target in targets}}
    if case.attenuation_ct(targets[0]):
        volumes["attenuation_ct"] = case.attenuation_ct(targets[0])
    return {
        **{
            name: f"results/convert/{case_id}/{volume}.nii.gz"
            for name, volume in volumes.items()
        },
        "lungs": f"results/segment/{case_id}/ct_lungs.nii.gz",
        "ct_to_spect": registration_file(case_id, targets[0], "ct_to_spect.nii.gz"),
        "qc": registration_file(case_id, targets[0], "qc.json"),
    }


def model_labels():
    """Name of each model in figures and tables."""
    return {
        name: model.get("label", name.replace("_", " "))
        for name, model in MODELS.items()
    }


def case_facts():
    """What the report says of each case."""
    return {
        case.case_id: {
            "fold": FOLDS[case.case_id],
            "targets": list(case.targets),
            **case.attributes,
        }
        for case in COHORT.cases
    }


def cohort_flow():
    """Numbers of cases from the table to the analysis, and why each excluded case is missing."""
    return {
        "listed": len(COHORT.cases)
        + len({row["case_id"] for row in COHORT.exclusions}),
        "exclusions": [dict(row) for row in COHORT.exclusions],
        "analysed": len(COHORT.cases),
        "only_predicted": len(ONLY_PREDICTED),
        "patients": len({case.patient_id for case in COHORT.cases}),
        "targets": {
            target: len(COHORT.with_target(target)) for target in SPECT_TARGETS
        },
        "folds": [
            sum(fold == number for fold in FOLDS.values()) for number in FOLD_NUMBERS
        ],
    }


#: keys of `read` that the design and its plan, and a pack, are made from
READ_BY_DESIGN = (
    "parts",
    "models",
    "repeats",
    "washout_days",
    "washout",
    "go_back",
    "display_percentile",
    "reference",
    "endpoint",
    "acceptability",
    "diagnosis",
)
READ_BY_PACK = (
    "title",
    "intro",
    "repeats",
    "washout_days",
    "washout",
    "go_back",
    "idle_minutes",
    "return_to",
    "ct_windows",
    "colour_map",
    "display_percentile",
    "acceptability",
    "diagnosis",
)


def read_settings(keys):
    """Some of the keys of `read`, so that a change of others reruns nothing."""
    return {key: config["read"][key] for key in keys}


def labels_of_read_models():
    """Names of the models whose images are read."""
    return {
        model: label
        for model, label in model_labels().items()
        if model in config["read"]["models"].values()
    }


def reader_packs():
    """What is handed over, its keys and the plan; nothing if the study has no readers."""
    packs = expand("results/read/packs/{reader}", reader=READERS)
    return ["results/read/plan.md", *packs] if READING else []


def reader_answers():
    """What the readers' answers say; nothing if the study has no readers."""
    return ["results/read/completeness.tsv"] if READING else []


def reading_inputs():
    """What the report shows of the reader study: tables and figures; nothing if the study has no readers."""
    if not READING:
        return {}
    tables = {f"reading_{name}": f"results/read/{name}.tsv" for name in REPORTED}
    figures = [f"results/report/figures/{name}" for name in FIGURES]
    endings = (".png", *BESIDE_FIGURES)
    return {
        **tables,
        "reading_figures": [stem + ending for stem in figures for ending in endings],
    }


def reader_exports():
    """Answers that are there: of simulated readers all, of people those that were imported."""
    if config["read"]["simulated"]["readers"]:
        return expand("results/read/simulated/{reader}.json", reader=READERS)
    if not READING:
        return []
    try:
        found = stored_exports(Path(config["read"]["exports"]), READERS)
    except Ct2vqError as error:
        raise WorkflowError(str(error)) from None
    return [str(path) for path in found]
