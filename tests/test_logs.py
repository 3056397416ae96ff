"""A known problem is one line and status 1; an unknown one keeps its traceback in the log."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from ct2vq.errors import ConfigError, Ct2vqError
from ct2vq.logs import WITHHELD, configure_logging, private_stage, stage


@pytest.fixture(autouse=True)
def loggers_as_before():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        handler.close()
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


def test_a_known_problem_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    log = tmp_path / "logs" / "rule.log"
    with pytest.raises(SystemExit) as caught, stage(log):
        raise ConfigError("is wrong", path="my.yaml", key="a.b", hint="mend it")
    assert caught.value.code == 1
    line = "file my.yaml, key a.b: is wrong (mend it)"
    assert log.read_text().splitlines()[0].endswith(f"ERROR ct2vq: {line}")
    assert len(log.read_text().splitlines()) == 1
    assert capsys.readouterr().err == f"ct2vq: {line}\n"


def test_an_unknown_problem_keeps_its_traceback(tmp_path: Path) -> None:
    log = tmp_path / "rule.log"
    with pytest.raises(ZeroDivisionError), stage(log):
        logging.getLogger("ct2vq.x").info("about to divide")
        _ = 1 / 0
    text = log.read_text()
    assert "about to divide" in text
    assert "Traceback (most recent call last)" in text
    assert "ZeroDivisionError" in text
    assert "unexpected error" in text


def test_warnings_and_other_libraries_reach_the_log(tmp_path: Path) -> None:
    log = tmp_path / "rule.log"
    with stage(log):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("look out", stacklevel=1)
        logging.getLogger("pydicom").warning("odd value")
        logging.getLogger("ct2vq").debug("too much")
    assert "look out" in log.read_text()
    assert "odd value" in log.read_text()
    assert "too much" not in log.read_text()


def test_a_second_run_starts_its_log_anew(tmp_path: Path) -> None:
    log = tmp_path / "rule.log"
    for text in ("first", "second"):
        with stage(log):
            logging.getLogger("ct2vq").info(text)
    assert "first" not in log.read_text()


def test_without_a_log_everything_goes_to_stderr() -> None:
    code = (
        "from ct2vq.logs import stage\nfrom ct2vq.errors import Ct2vqError\nwith stage():\n    raise Ct2vqError('no')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("ERROR ct2vq: no\n")


def test_the_parts_of_a_message() -> None:
    assert str(Ct2vqError("m")) == "m"
    assert str(Ct2vqError("m", hint="h")) == "m (h)"
    assert str(Ct2vqError("m", path=Path("p"))) == "file p: m"
    assert str(Ct2vqError("m", path="p", key="k", hint="h")) == "file p, key k: m (h)"


def test_logging_is_set_anew_each_time(tmp_path: Path) -> None:
    configure_logging(tmp_path / "1.log")
    configure_logging(tmp_path / "2.log", logging.DEBUG)
    logging.getLogger("ct2vq").debug("fine print")
    assert (tmp_path / "1.log").read_text() == ""
    assert "fine print" in (tmp_path / "2.log").read_text()


class _Broken:
    def clean(self, said: str, failed: bool) -> str:
        raise UnicodeEncodeError("utf-8", "Meier", 0, 1, "/data/Meier")


@pytest.mark.parametrize("failing", [True, False])
def test_a_cleaner_that_fails_tells_nothing(tmp_path, capfd, failing) -> None:
    log = tmp_path / "rule.log"
    with suppress(SystemExit), private_stage(log) as curtain:
        curtain.cleaner = _Broken()
        if failing:
            raise ValueError("/data/Meier")
    said = log.read_text() + "".join(capfd.readouterr())
    assert WITHHELD in said and "Meier" not in said and "Traceback" not in said


def test_a_librarys_warning_is_said_once(tmp_path) -> None:
    log = tmp_path / "rule.log"
    with private_stage(log):
        for _ in range(3):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn("Invalid value for VR UI", stacklevel=1)
            logging.getLogger("pydicom").warning("odd")
            logging.getLogger("ct2vq").warning("ours")
    said = log.read_text()
    assert [said.count(text) for text in ("Invalid value for VR UI\n", "odd", "ours")] == [1, 1, 3]
