"""A common frame of reference is what the headers say and the images bear out."""

from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK as sitk
from chest_phantom import SETTINGS, chest

from ct2vq.files import write_json
from ct2vq.register.content import Content
from ct2vq.register.frames import Frames, check_cts, check_spect, frame_flags

LIMITS = SETTINGS["frames"]
RIGHT = Content((2.0, 3.0, -5.0), 0.85, 0.88)
WRONG = Content((0.0, 0.0, 25.0), 0.6, 0.9)


@pytest.fixture
def sidecars(tmp_path: Path) -> dict[str, Path]:
    frames = {"perfusion": "one", "attenuation_ct": "one", "ventilation": "one", "other": "two", "nameless": None}
    for name, frame in frames.items():
        write_json({"frame_of_reference": frame}, tmp_path / f"{name}.json")
    return {name: tmp_path / f"{name}.json" for name in frames}


@pytest.mark.parametrize(
    ("sidecar", "relation"), [("perfusion", "shared"), ("other", "different"), ("nameless", "unknown")]
)
@pytest.mark.parametrize("of_what", ["attenuation_ct", "ventilation"])
def test_frames_of_reference_are_compared(sidecars: dict[str, Path], sidecar: str, relation: str, of_what: str) -> None:
    frames = Frames.of({of_what: sidecars[of_what], "perfusion": sidecars[sidecar]})
    assert frames.relations == {"perfusion": relation}
    assert len(frames.flags()) == (relation != "shared")
    assert frames.strangers == (["perfusion"] if of_what == "ventilation" and relation != "shared" else [])
    assert frames.ct == "unknown"
    nameless = Frames.of({of_what: sidecars["nameless"], "perfusion": sidecars["nameless"]})
    assert nameless.relations == {"perfusion": "unknown"}, "two headers that name no frame do not name one frame"


@pytest.mark.parametrize(
    ("sidecar", "relation"), [("perfusion", "shared"), ("other", "different"), ("nameless", "unknown")]
)
def test_the_ct_is_compared_and_is_no_camera(sidecars: dict[str, Path], sidecar: str, relation: str) -> None:
    for of_what in ("attenuation_ct", "ventilation"):
        frames = Frames.of({"ct": sidecars[sidecar], of_what: sidecars[of_what], "perfusion": sidecars["perfusion"]})
        assert frames.ct == relation and frames.of_what == of_what
        assert frames.relations == {"perfusion": "shared"}


@pytest.mark.parametrize("relation", ["shared", "different", "unknown"])
@pytest.mark.parametrize("content", [RIGHT, WRONG])
def test_a_spect_is_used_as_it_lies_only_if_header_and_images_agree(relation: str, content: Content) -> None:
    record = check_spect(relation, content, LIMITS)
    assert record["used_as_scanned"] == (relation == "shared" and content is RIGHT)
    assert record["borne_out"] == (None if relation != "shared" else content is RIGHT)
    assert bool(frame_flags(record)) == (relation == "shared" and content is WRONG)
    if relation == "shared":
        assert f"if moved by {content.distance_mm:.0f} mm" in record["why"]


@pytest.mark.parametrize(
    ("agreement", "shifted", "used"),
    [(0.6, 0.7, True), (0.5, 0.5, True), (0.72, 0.95, True), (0.6, 0.85, False), (0.1, 0.2, False)],
)
def test_the_frame_is_denied_only_by_a_poor_fit_that_is_far_better_elsewhere(
    agreement: float, shifted: float, used: bool
) -> None:
    """Regional disease fits poorly, and nowhere far better."""
    record = check_spect("shared", Content((0.0, 0.0, 25.0), agreement, shifted), LIMITS)
    assert record["used_as_scanned"] == used
    assert record["borne_out"] == (agreement >= 0.7)
    assert bool(frame_flags(record)) == (agreement < 0.7)


def test_low_agreement_is_not_borne_out_even_without_a_better_place() -> None:
    nowhere = Content((0.0, 0.0, 0.0), 0.1, 0.1)
    assert not check_spect("shared", nowhere, LIMITS)["used_as_scanned"]


@pytest.mark.parametrize("offset", [0.0, 40.0])
def test_cts_of_one_frame_are_checked_by_their_lungs(offset: float) -> None:
    images = chest(moved=False)
    lungs = sitk.Image(images["attenuation_ct_lungs"])
    lungs.SetOrigin([x + offset for x in lungs.GetOrigin()])
    record = check_cts("shared", images | {"attenuation_ct_lungs": lungs})
    assert record["dice_centred"] > 0.9
    assert record["borne_out"] == (offset == 0)
    assert (frame_flags(record) == []) == (offset == 0)
    assert check_cts("different", images | {"attenuation_ct_lungs": lungs})["borne_out"] is None
