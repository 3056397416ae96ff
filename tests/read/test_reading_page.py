"""Writing the page, and its scripts one by one: digest, canonical JSON, volumes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from browser import Browser, browser, needs_browser
from packs import build_pack, lungs, pack, sessions

from ct2vq.errors import Ct2vqError
from ct2vq.read.page import PAGE, SCRIPTS, write_page
from ct2vq.report.volumes import nifti_bytes
from ct2vq.volume import from_array, make_grid


def test_page_is_written_whole_and_alike(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "page").mkdir(parents=True)
        (tmp_path / folder / "page" / "old.js").write_text("from before")
        write_page(pack(), tmp_path / folder)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert [str(path) for path in files] == ["index.html", *sorted(f"page/{name}" for name in (*SCRIPTS, "style.css"))]
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)


def test_page_loads_its_scripts_in_order_and_nothing_else() -> None:
    page = (PAGE / "index.html").read_text("utf-8")
    assert re.findall(r'src="([^"]+)"', page) == ["pack.js", *(f"page/{name}" for name in SCRIPTS)]
    everything = page + "".join((PAGE / name).read_text("utf-8") for name in (*SCRIPTS, "style.css"))
    for forbidden in (
        "http:",
        "//www",
        "fetch(",
        "XMLHttpRequest",
        "import(",
        "new Worker",
        "localStorage.",
        'type="module"',
        "@import",
    ):
        assert forbidden not in everything, forbidden
    assert {path.name for path in PAGE.iterdir()} == {"index.html", "style.css", *SCRIPTS}


def changed(**session: Any) -> list[dict[str, Any]]:
    made = sessions()
    return [made[0], made[1] | session, *made[2:]]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sessions": []}, "numbered []"),
        ({"sessions": sessions()[1:]}, "expected 1, 2"),
        ({"sessions": changed(items=[])}, "session 2 has no items"),
        ({"sessions": changed(items=sessions()[1]["items"] * 2)}, "two of one name"),
        ({"sessions": changed(after=2)}, "waits for session 2"),
        ({"sessions": changed(ct="shown")}, "but the session has it shown"),
        ({"colour_map": "rainbow"}, "no colour map rainbow"),
    ],
)
def test_packs_that_the_page_could_not_show_are_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(Ct2vqError, match=re.escape(told)):
        write_page(pack(**changes), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A pack's page, for calling its functions."""
    folder = tmp_path_factory.mktemp("pack")
    build_pack(folder)
    with browser(tmp_path_factory.mktemp("profile")) as running:
        running.open(folder / "index.html")
        running.wait_for("document.body.dataset.view")
        yield running
        assert running.complaints == []


#: messages and digests of FIPS 180-4's examples (NIST, "Secure Hash Standard, examples with intermediate values")
NIST = {
    "": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
    "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu": (
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
    ),
    "a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}


@needs_browser
@pytest.mark.browser
@pytest.mark.parametrize("message", NIST, ids=lambda text: f"{len(text)} bytes")
def test_sha256_of_nist(page: Browser, message: str) -> None:
    assert page.run(f"ct2vqRead.sha256(new TextEncoder().encode({json.dumps(message)}))") == NIST[message]


@needs_browser
@pytest.mark.browser
def test_sha256_of_all_lengths(page: Browser) -> None:
    """Every place of the padding in a block."""
    digests = page.run(
        "Array.from({length: 140}, (_, n) => ct2vqRead.sha256(Uint8Array.from({length: n}, (_, i) => i)))"
    )
    assert digests == [hashlib.sha256(bytes(range(n))).hexdigest() for n in range(140)]


def random_document(draw: random.Random, depth: int = 3) -> Any:
    kinds = ["text", "whole", "decimal", "constant"] + (["list", "object"] * 2 if depth else [])
    kind = draw.choice(kinds)
    if kind == "text":
        return random_text(draw)
    if kind == "whole":
        return draw.randint(-(10 ** draw.randint(0, 15)), 10**15)
    if kind == "decimal":
        thousandths = draw.randint(-(10**9), 10**9)
        # a whole number is written as one: JavaScript knows no other
        return thousandths / 1000 if thousandths % 1000 else thousandths // 1000
    if kind == "constant":
        return draw.choice([None, True, False, 0.001, 0.1, 1e-3])
    if kind == "list":
        return [random_document(draw, depth - 1) for _ in range(draw.randint(0, 4))]
    return {random_text(draw): random_document(draw, depth - 1) for _ in range(draw.randint(0, 5))}


def random_text(draw: random.Random) -> str:
    signs = 'aZ"\\/\b\f\n\r\t\x00\x1f\x7f\x80é\u2028\u2713\ud7ff\ue000\uffff\U0001f600'
    return "".join(draw.choice(signs) for _ in range(draw.randint(0, 6)))


@needs_browser
@pytest.mark.browser
def test_canonical_json_is_that_of_python(page: Browser) -> None:
    draw = random.Random(8)
    for _ in range(200):
        document = {str(place): random_document(draw) for place in range(3)}
        expected = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert page.run(f"ct2vqRead.canonical({json.dumps(document)})") == expected


@needs_browser
@pytest.mark.browser
@pytest.mark.parametrize("axes", ["LPS", "RAI", "SLP", "PIR"])
@pytest.mark.parametrize("kind", ["perfusion", "ct"])
def test_volumes_are_turned_to_the_reader(page: Browser, axes: str, kind: str) -> None:
    """However a file's axes run: x to the patient's left, y to the back, z to the feet."""
    array = lungs()[kind]
    grid = make_grid(array.shape[::-1], (8.0, 7.0, 6.0), (-117.0, -85.0, -100.0))
    image = sitk.DICOMOrient(from_array(array, grid), axes)
    text = base64.b64encode(gzip.compress(nifti_bytes(image, 0.5))).decode()
    turned = page.run(
        f"""new Response(new Blob([Uint8Array.from(atob("{text}"), c => c.charCodeAt(0))]).stream()
          .pipeThrough(new DecompressionStream("gzip"))).arrayBuffer()
          .then(bytes => ct2vqRead.parseNifti(new DataView(bytes)))
          .then(v => ({{...v, data: Array.from(v.data)}}))"""
    )
    assert turned["size"] == list(array.shape[::-1]) and turned["slope"] == 0.5 and turned["intercept"] == 0
    assert np.allclose(turned["mm"], [8, 7, 6], atol=1e-4)
    assert np.array_equal(np.reshape(turned["data"], array.shape), array[::-1])


@needs_browser
@pytest.mark.browser
def test_slices_show_interpolated_values(page: Browser) -> None:
    """Two voxels of 0 and 100 across: in the middle of the cell 50, and the window's ends are the map's ends."""
    drawn = page.run(
        """(() => {
          const volume = {size: [2, 1, 1], mm: [10, 10, 10], data: Uint8Array.of(0, 100), slope: 1, intercept: 0};
          const canvas = Object.assign(document.createElement('canvas'), {width: 101, height: 9});
          const context = canvas.getContext('2d');
          const cell = {x: 0, y: 0, width: 101, height: 9, plane: 'axial'};
          cell.frame = ct2vqRead.frame(volume, 'axial', 101, 9, 4, 1, [0, 0, 0]);
          const colours = ct2vqRead.colours([[0, 0, 0], [255, 255, 255]]);
          ct2vqRead.drawSlice(context, cell, [{volume, colours, window: [0, 100]}], 0);
          return Array.from(context.getImageData(0, 4, 101, 1).data).filter((_, i) => i % 4 === 0);
        })()"""
    )
    # the volume is 80 pixels wide in a cell of 101: it begins at 10.5, its voxels' centres are at 30.5 and 70.5
    places = np.arange(101) + 0.5
    expected = np.clip((places - 30.5) / 40, 0, 1) * 255
    inside = (places > 10.5) & (places < 90.5)
    assert np.allclose(np.array(drawn)[inside], expected[inside], atol=1.01)
    assert not np.array(drawn)[(places < 10.5) | (places > 90.5)].any()
