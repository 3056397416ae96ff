"""CT stored as one enhanced multi-frame object (PS3.3 A.38), also converted from single frames (A.70).

What differs from frame to frame stands in an item of the per-frame functional groups, what all frames share in the
shared ones (C.7.6.16).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from ct2vq.convert.converted import Converted
from ct2vq.convert.opinion import second_opinion
from ct2vq.convert.series import fill, lossy_notes, spacing_notes
from ct2vq.dicom.attributes import items, number, text, texts
from ct2vq.dicom.files import Instance, read_file, require_honest_size
from ct2vq.dicom.geometry import Plane, make_plane, stack
from ct2vq.dicom.pixels import stored_values
from ct2vq.errors import DicomError
from ct2vq.volume import from_array

#: (functional group, attribute) that must not differ between the frames of one volume, with the reason for a refusal
ONE_OF = {
    ("FrameContentSequence", "StackID"): "several stacks",
    ("FrameContentSequence", "FrameAcquisitionNumber"): "several acquisitions",
    ("FrameContentSequence", "TemporalPositionIndex"): "several times (dynamic)",
    ("FrameContentSequence", "TemporalPositionTimeOffset"): "several times (dynamic)",
    ("CTImageFrameTypeSequence", "FrameType"): "several kinds of frames",
    ("CTReconstructionSequence", "ConvolutionKernel"): "several reconstructions (kernels)",
}
#: the group number of all functional group sequences
GROUPS = 0x5200
#: gives a frame's values from stored ones, the object, the group with its rescale, the file and a list for warnings
Rescale = Callable[[np.ndarray, Dataset, Dataset, Path, list[str]], np.ndarray]


def read_enhanced(instance: Instance, settings: dict, values_of: Rescale, outside: float) -> Converted:
    """The volume of an enhanced multi-frame object; `outside` surrounds slices of a tilted gantry.

    Raises:
        DicomError: it holds no single stack of frames that can be trusted.
    """
    require_honest_size(instance)
    frames = _frames(instance)
    for (group, keyword), reason in ONE_OF.items():
        if len({text(frame.group(group), keyword, instance.path) for frame in frames}) > 1:
            raise DicomError("D210", f"{reason} in one object, one volume expected", path=instance.path, key=keyword)
    kinds = [kind.upper() for kind in texts(frames[0].group("CTImageFrameTypeSequence"), "FrameType", instance.path)]
    if "LOCALIZER" in kinds:
        raise DicomError("D210", "localizer frames, slices expected", path=instance.path, key="FrameType")
    planes = [frame.plane(k) for k, frame in enumerate(frames, 1)]
    stacked = stack(planes, settings, tilt=settings["gantry_tilt"] == "correct")
    data, digest = read_file(instance.path)
    stored = stored_values(data, instance.path)
    del data.PixelData  # decoded: its room is the volume's
    if stored.shape != (len(frames), *planes[0].shape):
        problem = f"pixels of shape {stored.shape}, {len(frames)} frames of {planes[0].shape} expected"
        raise DicomError("D410", problem, path=instance.path, key="NumberOfFrames")
    notes: list[str] = []

    def slices() -> Iterator[np.ndarray]:
        for i in stacked.order:
            yield values_of(stored[i], data, frames[i].group("PixelValueTransformationSequence"), instance.path, notes)

    array = fill(stacked, [planes[i] for i in stacked.order], slices(), outside)
    first = Instance(instance.path, _flat(instance, frames[stacked.order[0]]), instance.sop_class)
    _tell_thickest(first, frames)
    notes = stacked.notes + sorted(set(notes)) + spacing_notes(first, stacked.grid.GetSpacing()[2], settings)
    opinion = second_opinion(instance.path, stacked.grid, ["enhanced_multiframe"])
    return Converted(
        from_array(array, stacked.grid), first, [digest], {"second_opinion": opinion}, notes + lossy_notes([first])
    )


class _Frame:
    """The functional groups of one frame: its own, else those that all share.

    Args:
        instance: the object.
        own, shared: items of the per-frame and of the shared functional groups sequence.
    """

    def __init__(self, instance: Instance, own: Dataset, shared: Dataset) -> None:
        self.instance, self.own, self.shared = instance, own, shared

    def group(self, keyword: str) -> Dataset:
        """A functional group's only item, an empty one where the frame has none."""
        for place in (self.own, self.shared):
            if found := items(place, keyword, self.instance.path):
                return found[0]
        return Dataset()

    def plane(self, number: int) -> Plane:
        """Where the frame (counted from 1) lies."""
        groups = (self.group(f"Plane{name}Sequence") for name in ("Position", "Orientation"))
        return make_plane(self.instance, *groups, self.group("PixelMeasuresSequence"), number)


def _frames(instance: Instance) -> list[_Frame]:
    """All frames in stored order.

    Raises:
        DicomError: there is not one item for each frame.
    """
    dataset, path = instance.dataset, instance.path
    own = items(dataset, "PerFrameFunctionalGroupsSequence", path)
    shared = items(dataset, "SharedFunctionalGroupsSequence", path) or [Dataset()]
    count = number(dataset, "NumberOfFrames", path)
    if not own or len(own) != count:
        problem = f"{len(own)} per-frame functional groups for {count} frames"
        raise DicomError("D107", problem, path=path, key="PerFrameFunctionalGroupsSequence", hint="export it again")
    return [_Frame(instance, item, shared[0]) for item in own]


def _tell_thickest(first: Instance, frames: Sequence[_Frame]) -> None:
    """Limits judge the worst slice: the thickest frame's thickness stands in the header that stands for all."""
    try:
        stated = [number(frame.group("PixelMeasuresSequence"), "SliceThickness", first.path) for frame in frames]
    except DicomError:  # only a fact, said by `spacing_notes` if it is the first slice's
        return
    known = [value for value in stated if value is not None]
    if known and max(known) != number(first.dataset, "SliceThickness", first.path):
        first.dataset.SliceThickness = max(known)


def _flat(instance: Instance, frame: _Frame) -> Dataset:
    """The header as a single-frame image has it: what the frame's functional groups tell stands at the top level."""
    flat = Dataset()
    flat.file_meta = instance.dataset.file_meta
    for place in (frame.shared, frame.own):
        for tag, group in place.items():
            if group.VR == "SQ" and (found := items(place, keyword_for_tag(tag), instance.path)):
                flat.update(dict(found[0].items()))
    # Raw elements: a damaged one that nobody asks for does no harm.
    flat.update({tag: element for tag, element in instance.dataset.items() if tag.group != GROUPS})
    return flat
