"""The model card beside the weights: what they are, what they were trained on, what they are for and what not.

It follows the headings of Mitchell et al., Model Cards for Model Reporting (arXiv:1810.03993). It holds nothing that
differs from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ct2vq import __version__
from ct2vq.files import write_text
from ct2vq.train.loop import Training

TARGETS = {
    "perfusion": "perfusion (99mTc-MAA SPECT)",
    "ventilation": "ventilation (Technegas SPECT)",
}
SIMULATED = "**The patients were simulated.** The weights show that the workflow runs; they say nothing about people."
INTENDED = """Research on lung function from CT: to compare synthesised images with SPECT, and models with each other.
The weights are applied by `ct2vq apply`, which prepares a new CT the way the training cases were prepared."""
LIMITS = """- Not a medical device; not for diagnosis, treatment planning or any decision about a patient.
- A CT shows structure. Function that leaves no trace in the CT, such as a fresh embolus without contrast medium, cannot
  be seen, and the image may look normal there.
- Values are relative to the patient's own lungs. They are no counts, no activity and no flow, and two patients'
  values do not compare.
- Values exist inside the lung mask only; where the mask is wrong, so is the image.
- CTs of another kind than the training's (scanner, kernel, contrast medium, depth of breath, disease) may give images
  that look right and are not.
- Results within the study hold for this fold's test cases only: the weights were made without them."""


def write_card(
    training: Training,
    header: Mapping[str, Any],
    path: Path,
    *,
    name: str,
    fold: int,
    learners: Sequence[str],
    watchers: Sequence[str],
) -> None:
    """Write `model_card.md`.

    Args:
        training: the finished training.
        header: what is kept with the weights.
        path: the file.
        name: the model's name.
        fold: the fold that was left out.
        learners: the patient of each case that was learnt from.
        watchers: the patient of each case that was set aside.
    """
    parts = {
        "Model": _model(training, header),
        "Training data": _data(header["simulated"], fold, learners, watchers),
        "Preparation": _preparation(header),
        "Training": _training(training),
        "Intended use": INTENDED,
        "Limits": LIMITS,
    }
    sections = [f"## {title}\n\n{text}\n" for title, text in parts.items()]
    write_text("\n".join([f"# Model card: {name}, fold {fold}\n", *sections]), path)


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _model(training: Training, header: Mapping[str, Any]) -> str:
    return _table(
        {
            "predicts": ", ".join(TARGETS[target] for target in header["targets"]),
            "kind": header["kind"],
            "parameters": f"{training.parameters:,}",
            "input channels": header["in_channels"],
            "network": ", ".join(f"{key} {_word(value)}" for key, value in sorted(header["network"].items())),
            "made by": f"ct2vq {__version__}",
        }
    )


def _data(simulated: bool, fold: int, learners: Sequence[str], watchers: Sequence[str]) -> str:
    table = _table(
        {
            "left out": f"fold {fold}",
            "learnt from": f"{len(set(learners))} patients, {len(learners)} cases",
            "set aside to watch the training": f"{len(set(watchers))} patients, {len(watchers)} cases",
        }
    )
    return f"{SIMULATED}\n\n{table}" if simulated else table


def _preparation(header: Mapping[str, Any]) -> str:
    crop = header["crop"]
    low, high = crop["window_hu"]
    rows = {"voxels": f"{crop['spacing_mm']} mm, isotropic", "CT window": f"{low} to {high} HU"}
    rows |= {f"CT texture, `{key}`": _word(value) for key, value in crop.get("texture", {}).items()}
    rows |= {f"SPECT, `{key}`": _word(value) for key, value in sorted(crop["spect"].items())}
    return f"The SPECT images were normalised in each patient's own lungs and clipped to 0..1.\n\n{_table(rows)}"


def _training(training: Training) -> str:
    settings = training.training
    rows = {
        "epochs": f"{training.history[-1]['epoch']} of {settings['epochs']}",
        "batch": settings["batch_size"],
        "learning rate": settings["learning_rate"],
        "precision": settings["precision"],
        "loss": ", ".join(f"{key} {_word(value)}" for key, value in sorted(settings["loss"].items())),
        "augmentation": ", ".join(f"{key} {_word(value)}" for key, value in sorted(settings["augmentation"].items())),
        "seed": training.seed,
        "last loss": f"{training.history[-1]['loss']:.4f}",
    }
    return _table(rows)


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key} {_word(part)}" for key, part in sorted(value.items())) + ")"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_word(part) for part in value) + "]"
    return {True: "yes", False: "no", None: "none"}[value] if isinstance(value, bool | None) else str(value)
