"""Stage `crop`: from volumes in patient space to what a network reads, and the way back.

The network's grid is isotropic, along the patient's axes, round the lungs with a margin. The CT is averaged onto it;
the SPECT is carried once, from its own grid through the registration's transform, freed of hot spots and divided by a
robust reference in the lungs. Nothing here knows of any other case.
"""

from ct2vq.crop.contrast import ENHANCED_LIMIT, enhance, window
from ct2vq.crop.ct import AIR_HU, crop_case, crop_ct
from ct2vq.crop.hot_spots import HotSpots, find_hot_spots, remove_hot_spots
from ct2vq.crop.restore import WayBack, to_counts
from ct2vq.crop.spect import crop_spect, normalise_spect

__all__ = [
    "AIR_HU",
    "ENHANCED_LIMIT",
    "HotSpots",
    "WayBack",
    "crop_case",
    "crop_ct",
    "crop_spect",
    "enhance",
    "find_hot_spots",
    "normalise_spect",
    "remove_hot_spots",
    "to_counts",
    "window",
]
