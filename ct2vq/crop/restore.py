"""The way back: an image on the network's grid onto the CT's, and from 0..1 to counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.volume import affine, from_array, to_array

#: of the Gaussian window of the linear continuation, in voxels: wider ones follow the image less well, narrower ones
#: carry more of its noise along (docs/crop.md has the figures)
_SIGMA = 0.8
_REACH = 3
#: how many voxels beyond the lungs are continued linearly: a CT voxel of the lungs lies at most 0.9 voxels outside the
#: network's, and the spline looks two voxels farther; beyond, the nearest value is good enough
_BAND = 3.0
#: of the slopes, so that a lone voxel has none
_RIDGE = 1e-4
#: voxels whose planes are fitted at once: 100 MB
_CHUNK = 8192


class WayBack:
    """Carries images of a case from the network's grid to the CT's.

    Values are continued beyond the lungs first (`continuation`), so that neither the pleura is darkened nor a slope
    towards it levelled off. Cubic B-splines interpolate (Unser, IEEE Signal Process Mag 1999;16(6):22): linear
    interpolation would smooth away what 4 mm voxels hold of a SPECT.

    Args:
        grid: lung labels on the network's grid.
        ct_lungs: lung labels on the CT's grid, of any direction.
    """

    def __init__(self, grid: sitk.Image, ct_lungs: sitk.Image) -> None:
        self.inside, self._ct_lungs = to_array(grid) > 0, ct_lungs
        self._target = to_array(ct_lungs) > 0
        self._places = _voxel_places(self._target, ct_lungs, grid)
        self._layer, self._sources, self._weights = continuation(self.inside)
        self._nearest = ndimage.distance_transform_edt(~self.inside, return_distances=False, return_indices=True)

    def __call__(self, image: np.ndarray) -> sitk.Image:
        """The image on the CT's grid, float32, 0 outside the CT's lungs.

        Args:
            image: `(z, y, x)` on the network's grid; what it is outside the lungs does not matter. Nothing exceeds its
                range in the lungs.
        """
        low, high = image[self.inside].min(), image[self.inside].max()
        values = ndimage.map_coordinates(self.continued(image), self._places, order=3, mode="nearest")
        result = np.zeros(self._target.shape, dtype=np.float32)
        result[self._target] = np.clip(values, low, high)
        return from_array(result, self._ct_lungs)

    def linear(self, image: np.ndarray) -> sitk.Image:
        """As a call, but interpolated linearly from the nearest values: for maps that nothing may be read into.

        No value lies beyond its neighbours', as a spline's may.
        """
        values = ndimage.map_coordinates(image[tuple(self._nearest)], self._places, order=1, mode="nearest")
        result = np.zeros(self._target.shape, dtype=np.float32)
        result[self._target] = values
        return from_array(result, self._ct_lungs)

    def continued(self, image: np.ndarray) -> np.ndarray:
        """The image as it is in the lungs, going on linearly beyond them, and with the nearest value farther out."""
        result = image[tuple(self._nearest)].astype(np.float64)
        result[self._layer] = np.einsum("ns,ns->n", self._weights, image.ravel()[self._sources])
        return result


def _voxel_places(mask: np.ndarray, image: sitk.Image, grid: sitk.Image) -> np.ndarray:
    """Where the voxels of a mask on an image lie on another grid: continuous indices `(z, y, x)`, (3, voxel)."""
    matrix = np.linalg.inv(affine(grid)) @ affine(image)
    index = np.argwhere(mask)[:, ::-1]
    return (index @ matrix[:3, :3].T + matrix[:3, 3]).T[::-1]


def continuation(inside: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """How an image goes on in a layer round a mask: each voxel's value is a weighted sum of voxels inside.

    The value, at its place, of the plane fitted to the voxels inside by least squares with a Gaussian window:
    normalised differential convolution (Knutsson and Westin, CVPR 1993, 515).

    Args:
        inside: `(z, y, x)`, where images are known.

    Returns:
        The layer's voxels (an index), and for each the flat indices (voxel, source) of its sources and their weights.
    """
    layer = np.argwhere(~inside & (ndimage.distance_transform_edt(~inside) <= _BAND))
    axis = np.arange(-_REACH, _REACH + 1)
    steps = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    steps = steps[(steps**2).sum(axis=1) <= _REACH**2]
    sources = np.zeros((len(layer), len(steps)), dtype=np.int64)
    weights = np.zeros((len(layer), len(steps)))
    for start in range(0, len(layer), _CHUNK):
        part = slice(start, start + _CHUNK)
        places = layer[part, None] + steps
        limited = np.clip(places, 0, np.array(inside.shape) - 1)
        known = inside[tuple(np.moveaxis(limited, 2, 0))] & (places == limited).all(axis=2)
        weights[part] = _plane_weights(known, steps)
        sources[part] = np.where(known, np.ravel_multi_index(tuple(np.moveaxis(limited, 2, 0)), inside.shape), 0)
    return tuple(layer.T), sources, weights


def _plane_weights(known: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Weight (voxel, step) of each known neighbour in the value at the centre of the plane fitted to all of them.

    Each voxel has a known neighbour, because the layer is no wider than the neighbourhood.
    """
    terms = np.column_stack([np.ones(len(steps)), steps])
    window = known * np.exp(-(steps**2).sum(axis=1) / (2 * _SIGMA**2))
    window /= window.sum(axis=1, keepdims=True)
    products = np.einsum("ns,sa,sb->nab", window, terms, terms, optimize=True)
    products[:, [1, 2, 3], [1, 2, 3]] += _RIDGE
    constant = np.linalg.solve(products, np.broadcast_to([[1.0], [0.0], [0.0], [0.0]], (len(known), 4, 1)))[..., 0]
    return window * (constant @ terms.T)


def to_counts(values: np.ndarray, record: Mapping[str, Any]) -> np.ndarray:
    """Counts or concentrations again from a normalised image: times the reference of its record.

    What was limited to 1 and what hot spots held does not come back; both are told in the record.

    Args:
        values: 0..1.
        record: of `crop_spect` (`<target>.json`).
    """
    return values * float(record["reference"])
