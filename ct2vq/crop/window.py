"""The HU window that a network sees of the CT."""

from __future__ import annotations

import numpy as np


def window(hu: np.ndarray, inside: np.ndarray, window_hu: tuple[float, float]) -> np.ndarray:
    """HU window mapped to 0..1 in the lungs; 0 outside; float32 `(z, y, x)`."""
    low, high = window_hu
    return np.where(inside, np.clip((hu - low) / (high - low), 0, 1), 0).astype(np.float32)
