"""Small synthetic cases and settings that several test modules share; every number is drawn from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.config import complete_config
from ct2vq.crop.contrast import enhance
from ct2vq.inputs import CT_FILES, CroppedCase, read_cropped_case
from ct2vq.volume import from_array, from_components, make_grid, write_volume

SHAPE = (16, 16, 24)
SPACING_MM = 12.0
TARGETS = ("perfusion", "ventilation")
DEFAULTS = complete_config({"study": "tests"})
NETWORK = DEFAULTS["models"]["ddran"]["network"] | {"width": 4, "levels": 2, "blocks": 1}
CROP = DEFAULTS["crop"] | {"spacing_mm": SPACING_MM, "margin_mm": 12, "multiple": 4}
PREPARATION = {"convert": DEFAULTS["convert"], "segment": DEFAULTS["segment"], "crop": CROP}
TRAINING = DEFAULTS["train"] | {
    "device": "cpu",
    "epochs": 4,
    "learning_rate": 0.01,
    "ema_decay": 0.9,
    "checkpoint_every": 2,
    "augmentation": DEFAULTS["train"]["augmentation"] | {"shift_voxels": 1},
}


def random_direction(seed: int) -> np.ndarray:
    """A random proper rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def lung_labels(shape: tuple[int, int, int] = SHAPE, stretch: float = 1.0) -> np.ndarray:
    """Two ellipsoids, the right lung (1) at small x; mirror-symmetric if `stretch` is 1."""
    z, y, x = (
        np.linspace(-1, 1, n)[tuple(slice(None) if a == i else None for a in range(3))] for i, n in enumerate(shape)
    )
    labels = np.zeros(shape, dtype=np.uint8)
    for side, centre in ((1, -0.45), (2, 0.45)):
        labels[(z / (0.8 * stretch)) ** 2 + (y / 0.75) ** 2 + ((x - centre) / 0.35) ** 2 < 1] = side
    return labels


def cropped_arrays(seed: int) -> dict[str, np.ndarray]:
    """HU that fall towards the apex, and targets that follow HU and position, with noise."""
    generator = np.random.default_rng(seed)
    labels = lung_labels(stretch=1.0 - 0.02 * (seed % 4))
    inside = labels > 0
    height = np.linspace(-1, 1, SHAPE[0])[:, None, None] * np.ones(SHAPE)
    hu = np.where(inside, -820 - 60 * height + generator.normal(0, 20, SHAPE), 40).astype(np.float32)
    function = np.clip(0.5 - 0.3 * height + (hu + 820) / 400, 0.02, 0.98)
    arrays = {"ct": hu, "ct_enhanced": enhance(hu, inside, CROP), "lungs": labels}
    low, high = np.clip((-820 - hu) / 200, 0, 1), np.clip((hu + 780) / 200, 0, 1)
    arrays["ct_texture"] = np.where(inside, np.stack([low, high, np.abs(hu + 820)]), 0).astype(np.float32)
    for target, gain in (("perfusion", 1.0), ("ventilation", 0.7)):
        noisy = gain * function + generator.normal(0, 0.02, SHAPE)
        arrays[target] = np.where(inside, np.clip(noisy, 0, 1), 0).astype(np.float32)
    return arrays


def write_cropped_case(folder: Path, seed: int, targets: tuple[str, ...] = TARGETS) -> Path:
    """Write a case as the stage `crop` does."""
    grid = make_grid(SHAPE[::-1], [SPACING_MM] * 3, (-140.0, -95.0, -80.0))
    arrays = cropped_arrays(seed)
    for name in (*CT_FILES, *targets):
        image = from_components if arrays[name].ndim == 4 else from_array
        write_volume(image(arrays[name], grid), folder / f"{name}.nii.gz")
    return folder


def write_cohort(root: Path, number: int = 4) -> tuple[list[str], dict[str, str]]:
    """Cropped cases on disk: the list of images as a rule passes it, and the patient of each case."""
    images, patients = [], {}
    for index in range(number):
        case = f"c{index}"
        folder = write_cropped_case(root / case, seed=index)
        images += [str(folder / f"{name}.nii.gz") for name in (*CT_FILES, *TARGETS)]
        patients[case] = f"p{index}"
    return images, patients


def case_in_memory(seed: int, case_id: str = "case", **changes: Any) -> CroppedCase:
    """A cropped case without files."""
    arrays = cropped_arrays(seed) | changes
    return CroppedCase(
        case_id,
        arrays["ct"],
        arrays["ct_enhanced"],
        arrays["ct_texture"],
        arrays["lungs"],
        SPACING_MM,
        {target: arrays[target] for target in TARGETS},
    )


def case_from(folder: Path) -> CroppedCase:
    return read_cropped_case(folder, TARGETS)


def oblique_lungs(seed: int, size: tuple[int, int, int] = (36, 30, 28), spacing: tuple = (7.0, 8.0, 9.0)) -> sitk.Image:
    """Lung labels on a grid whose axes are turned against the patient's."""
    direction = random_direction(seed)
    extent = np.array(size) * np.array(spacing)
    grid = make_grid(size, spacing, -direction @ (extent / 2), direction.ravel())
    k, j, i = np.indices(size[::-1])
    points = np.einsum("ab,b...->a...", direction * np.array(spacing), np.stack([i, j, k]).astype(float))
    x, y, z = points + np.asarray(grid.GetOrigin())[:, None, None, None]
    labels = np.zeros(size[::-1], dtype=np.uint8)
    for side, centre in ((1, -50.0), (2, 50.0)):
        labels[((x - centre) / 38) ** 2 + (y / 55) ** 2 + (z / 75) ** 2 < 1] = side
    return from_array(labels, grid)
