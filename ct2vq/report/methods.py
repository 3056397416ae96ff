"""The methods in words, made of the effective configuration: what a paper's section would say, with every parameter.

A dagger marks a choice that the schema calls an assumption, because the paper does not state it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ct2vq.config import is_network, model_training
from ct2vq.crop.texture import LIMITS_HU
from ct2vq.report.results import loss_words, network_words, threshold_words
from ct2vq.report.settings import assumptions
from ct2vq.report.study import Study

DAGGER = "\N{DAGGER}"
#: a hyphen that stands for a minus: before a number, not inside a word
MINUS = re.compile(r"(?<![\w.])-(?=\d)")


def methods(study: Study) -> list[dict[str, str]]:
    """Paragraphs with their headings, in the order of a paper."""
    config = study.config
    assumed = {row["key"] for row in assumptions(config)}

    def mark(key: str) -> str:
        """The dagger, if the key or a part of it is an assumption."""
        return DAGGER if any(name == key or name.startswith(f"{key}.") for name in assumed) else ""

    paragraphs = {
        "Cohort": _cohort(study),
        "Images and conversion": _conversion(config),
        "Segmentation of the lungs": _segmentation(config["segment"], mark),
        "Registration": _registration(config["register"], mark),
        "Crop and normalisation": _crop(config["crop"], mark),
        "Models": _models(study, mark),
        "Training": _training(study, mark),
        "Evaluation": _evaluation(study, mark),
        "Statistics": _statistics(study, mark),
        "Software": _software(study),
    }
    return [{"heading": heading, "text": MINUS.sub("−", text)} for heading, text in paragraphs.items()]


def _cohort(study: Study) -> str:
    flow, split = study.flow, study.config["split"]
    excluded = len({row["case_id"] for row in flow["exclusions"]})
    source = "simulated patients of the embedded cohort" if study.simulated else "cases"
    folds = "the author's own table" if split["folds_file"] else f"strata of {split['stratify_by']}"
    shares = _join([f"{number} with {target} SPECT" for target, number in flow["targets"].items()])
    return (
        f"Of {flow['listed']} {source}, {flow['analysed']} cases of {flow['patients']} patients were analysed "
        f"({shares}); excluded, each with a reason: {excluded}. "
        f"Patients were assigned to {len(flow['folds'])} folds by {folds} (seed {study.config['seed']}); all cases of "
        "a "
        f"patient are in one fold, and every synthesised image comes from networks that never saw the patient."
        f"{_later_cases(flow)}"
    )


def _later_cases(flow: Mapping[str, Any]) -> str:
    later = flow["only_predicted"]
    if not later:
        return ""
    return (
        f" Cases that came after the training: {later}; they were predicted by the networks of their fold, and no "
        "network learnt from them."
    )


def _conversion(config: Mapping[str, Any]) -> str:
    settings = config["convert"]
    tilt = "straightened" if settings["gantry_tilt"] == "correct" else "refused"
    return (
        f"DICOM was converted to NIfTI in the patient's space, CT in Hounsfield units, SPECT in its stored counts or "
        f"concentrations; slice gaps that depart by more than {settings['slice_tolerance_mm']:g} mm from their median "
        f"stop a case, tilted gantries were {tilt}. Headers are not copied: identifiers were replaced by keyed hashes, "
        f"and all dates of a patient were shifted by one random interval."
    )


def _segmentation(settings: Mapping[str, Any], mark: Callable[[str], str]) -> str:
    inside = [name.replace("_", " ") for name, value in settings["inside"].items() if value]
    outside = [name.replace("_", " ") for name, value in settings["inside"].items() if not value]
    if settings["backend"] == "classic":
        how = (
            f"by thresholding the CT at {settings['threshold_hu']:g} HU{mark('segment.threshold_hu')} at "
            f"{settings['working_spacing_mm']:g} mm, removing the airways and closing with "
            f"{settings['closing_mm']:g} mm{mark('segment.closing_mm')}"
        )
    else:
        how = f"by {settings['backend']}"
    return (
        f"Right and left lung were segmented {how}; {_join(inside) or 'nothing dense'} counted as lung, "
        f"{_join(outside) or 'nothing'} did not{mark('segment.inside')}. Less than {settings['min_lung_ml']:g} mL of "
        "lung "
        f"stops a case. Each lung was divided into thirds of equal volume from head to feet."
    )


def _registration(settings: Mapping[str, Any], mark: Callable[[str], str]) -> str:
    kinds = {
        "deformable": (
            f"rigidly, affinely, by a search of large displacements in {len(settings['search']['levels'])} levels and "
            "by "
            f"symmetric diffeomorphic registration (SyN, ANTs; {settings['metric']} with radius "
            f"{settings['metric_radius']:g} voxels, gradient step {settings['gradient_step']:g}, iterations "
            f"{' × '.join(map(str, settings['deformable_iterations']))})"
        )
    }
    how = kinds.get(settings["transform"], f"by {settings['transform']} alignment")
    return (
        f"The SPECT camera's own CT was registered to the CT {how}{mark('register.transform')} at "
        f"{settings['spacing_mm']:g} mm, and the SPECT was carried along with a single interpolation. Without such a "
        "CT the "
        f"SPECT itself was registered ({settings['without_attenuation_ct']}"
        f"{mark('register.without_attenuation_ct')}). "
        + ("Carried SPECT was multiplied by the Jacobian. " if settings["modulate"] else "SPECT was not modulated. ")
        + f"Cases beyond the limits of {len(settings['flags'])} quality figures were flagged, never dropped; beyond "
        "those "
        f"of {len(settings['refuse'])} the registration was refused"
        + (f", but for cases accepted after a look: {len(settings['accept'])}." if settings["accept"] else ".")
    )


def _crop(settings: Mapping[str, Any], mark: Callable[[str], str]) -> str:
    spect, spots = settings["spect"], settings["spect"]["hot_spots"]
    references = {
        "percentile": f"the {spect['percentile']:g}th percentile in the lungs",
        "mean": f"{spect['mean_multiple']:g} times the mean in the lungs",
        "count_share": f"{spect['count_share']:g} of the counts in the lungs",
    }
    handled = {
        "inpaint": "filled from their neighbourhood",
        "cap": "capped at their neighbourhood",
        "none": "left as they were",
    }
    low, high = settings["window_hu"]
    texture = settings["texture"]
    low_limit, high_limit = LIMITS_HU
    return (
        f"CT and SPECT were resampled to {settings['spacing_mm']:g} mm{mark('crop.spacing_mm')} and cropped to the "
        "lungs "
        f"with a margin of {settings['margin_mm']:g} mm. CT contrast was enhanced by "
        f"{settings['enhance'].replace('_', ' ')}{mark('crop.enhance')} in the window {low:g} to {high:g} HU. Beside "
        f"it stand, of the CT's own voxels within each voxel (limited to {low_limit:g} to {high_limit:g} HU and "
        f"smoothed by a Gaussian of {texture['smooth_mm']:g} mm), the shares below {texture['low_hu']:g} and above "
        f"{texture['high_hu']:g} HU and the standard deviation of HU{mark('crop.texture')}. SPECT was "
        f"divided by {references[spect['reference']]}{mark('crop.spect')} and limited to 0 to 1; before that, clumps "
        "of "
        f"tracer with a contrast above {spots['contrast']:g} and at most {spots['max_ml']:g} mL were "
        f"{handled[spots['method']]}. Outside the lungs images are zero."
    )


def _models(study: Study, mark: Callable[[str], str]) -> str:
    parts = []
    for name, label in study.labels.items():
        model = study.config["models"][name]
        targets = _join(model["targets"])
        if not is_network(model):
            parts.append(f"{label} ({model['kind'].replace('_', ' ')}, {targets}) is a trivial baseline")
            continue
        network = model["network"]
        switches = [key.replace("_", " ") for key, value in network.items() if value is True]
        sizes = [f"{key} {value}" for key, value in network.items() if not isinstance(value, bool)]
        parts.append(
            f"{label} is a 3D {network_words(model)} for {targets} ({_join(sizes)}; with "
            f"{_join(switches) or 'no option'}){mark(f'models.{name}.network')}"
        )
    return "; ".join(parts) + ". The input is the CT; no network sees SPECT when it synthesises."


def _training(study: Study, mark: Callable[[str], str]) -> str:
    sentences = []
    for name in study.networks:
        settings = model_training(dict(study.config), name)
        loss = loss_words(settings["loss"])
        augmentation = _join([f"{key.replace('_', ' ')} {value:g}" for key, value in settings["augmentation"].items()])
        sentences.append(
            f"{settings['epochs']} epochs with AdamW (one-cycle schedule, peak learning rate "
            f"{settings['learning_rate']:g}, "
            f"weight decay {settings['weight_decay']:g}, gradients clipped at {settings['gradient_clip']:g}), batches "
            "of "
            f"{settings['batch_size']}, the loss {loss}, augmentation by {augmentation}, precision "
            f"{settings['precision']}; the exponentially averaged weights (decay {settings['ema_decay']:g}) of the "
            "last "
            f"epoch were used"
        )
    if not sentences:
        return "No network was trained."
    labels = [study.labels[name] for name in study.networks]
    if len(set(sentences)) == 1:
        text = f"{_join(labels)} were trained in each fold with the same settings{mark('train')}: {sentences[0]}."
    else:
        pairs = zip(labels, sentences, strict=True)
        text = f"Trained in each fold{mark('train')}: " + "; ".join(f"{label}, {words}" for label, words in pairs) + "."
    return text + " Seeds follow from the study's seed, the model and the fold."


def _evaluation(study: Study, mark: Callable[[str], str]) -> str:
    settings = study.config["evaluate"]
    ssim = settings["ssim"]
    definitions = "; ".join(f"{item['name']}: {threshold_words(item)}" for item in settings["function_thresholds"])
    core = f", in their core (eroded by {settings['core_mm']:g} mm)" if "core_mm" in settings else ""
    spacing = settings.get("spacing_mm")
    grid = "the crop's grid" if spacing is None else f"one grid of {spacing:g} mm"
    return (
        f"All models were scored on {grid}, against the registered SPECT"
        + (" and against the known truth at the resolution of SPECT" if study.simulated else "")
        + f", in both lungs{core}, in each lung and in parts of it; a metric of a region sees nothing outside it. "
        f"Metrics: structural similarity (3D Gaussian window, sigma {ssim['sigma_voxels']:g} voxels, range "
        f"{ssim['data_range']:g}, K1 {ssim['k1']:g}, K2 {ssim['k2']:g}, windows renormalised at the lungs' border), "
        "Spearman's and Pearson's correlation, mean absolute and root mean square error, peak signal-to-noise ratio, "
        "and "
        "Dice of low and high function. Low and high function are, of each image's values in the "
        f"region{mark('evaluate')}: "
        f"{definitions}. What cannot be computed is missing, with a reason, and is never set to zero."
    )


def _statistics(study: Study, mark: Callable[[str], str]) -> str:
    settings = study.config["compare"]
    pairs = _join([f"{study.name(a)} with {study.name(b)} for {target}" for a, b, target in settings["pairs"]])
    text = (
        f"The patient is the unit: cases of a patient are averaged first. Declared comparisons: {pairs or 'none'}; "
        "metrics "
        f"{_join(settings['metrics'])}. Differences, rounded to {settings['decimals']} decimals, were tested with "
        f"Wilcoxon's signed-rank test (exact where possible, two-sided), p corrected by Holm over all comparisons and "
        f"metrics, with Hodges and Lehmann's estimate and its {study.confidence:.0%} interval, the rank-biserial "
        "correlation, "
        f"and {settings['bootstrap']} bootstrap samples of patients for intervals of means."
    )
    if "margin" in settings:
        margins = _join([f"{key} {value:g}" for key, value in settings["margin"].items() if key in settings["metrics"]])
        text += (
            f" Models are called equivalent if the {2 * study.confidence - 1:.0%} interval of the difference lies "
            "within "
            f"the margin ({margins}){mark('compare.margin')}."
        )
    if "acceptance" in settings:
        asked = _join([f"{key} {value:g}" for key, value in settings["acceptance"].items() if value is not None])
        text += (
            f" A patient passes with {asked}{mark('compare.acceptance')}; shares have Wilson's interval, pairs "
            "McNemar's "
            f"exact test."
        )
    if "detect" in study.config:
        text += (
            " Low function is also detected from the synthesised values of voxels and regions, and diagnoses from "
            "defect "
            "volumes; each fold is judged at the threshold with the best balanced accuracy on the patients of all "
            "other "
            f"folds, intervals resample patients{mark('detect')}."
        )
    return text


def _software(study: Study) -> str:
    versions: dict[str, set[str]] = {}
    for run in study.runs:
        for name, version in run.get("versions", {}).items():
            versions.setdefault(name, set()).add(version)
    named = _join([f"{name} {', '.join(sorted(found))}" for name, found in sorted(versions.items())])
    return f"Everything was run by ct2vq, a Snakemake workflow, with exactly pinned packages ({named or 'not told'})."


def _join(words: Sequence[str]) -> str:
    words = list(words)
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
