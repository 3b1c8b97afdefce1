"""Pickles that would act, given to every option that takes a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from resnetcli.checkpoints.format import MODEL_FILE, TRAINER_FILE
from tests.faults.conftest import Broke
from tests.faults.hostile import good_model, in_header, malicious, options, payloads, write_run, zipped
from tests.faults.runner import MARK, ran

FAULT = "malicious pickles (protocols 0-5; bare, zip, legacy, tar; also renamed to .safetensors), every option"
OUTCOME = "no code executed (audit hook), exit 4, one message"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "good.safetensors").write_bytes(good_model())
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    (tmp_path / "files").mkdir()
    return tmp_path


def lines_of(place: Path) -> list[tuple[str, list[str]]]:
    """(option, command line) of every malicious file, and of runs that hold one, for every option."""
    mark = place / "files" / MARK
    run_of = options("good.safetensors")
    files = list(malicious(place / "files", mark))
    lines = [(name, line(str(path))) for path in files for name, line in run_of.items()]
    for number, call in enumerate(payloads(mark).values()):
        for name in (MODEL_FILE, TRAINER_FILE):
            contents = {MODEL_FILE: good_model(), name: (zipped if number % 2 else in_header)(call.bytes(2))}
            run = write_run(place / f"run-{number}-{name.split('.')[0]}", contents)
            asked = run_of if name == MODEL_FILE else ("train --resume", "checkpoints verify", "checkpoints list")
            lines += [(option, run_of[option](str(run))) for option in asked]
    return lines


def check(place: Path, lines: list[tuple[str, list[str]]]) -> None:
    good = options("good.safetensors")
    warm = [["inspect", "good.safetensors"]]
    warm += [line(str(place / "files")) for line in good.values()]
    before = {path for path in place.rglob("*") if path.name not in (".lock", ".holder")}
    for option, answer in zip(
        [o for o, _ in lines], ran([line for _, line in lines], warm=warm, cwd=place), strict=True
    ):
        assert answer.acts == [], (option, answer)
        assert answer.code == 4, (option, answer)
        assert "Traceback" not in answer.err, (option, answer)
        assert "weights_only" not in answer.err, (option, answer)
        assert "unexpected" not in answer.err, (option, answer)
    made = {path for path in place.rglob("*") if path.name not in (".lock", ".holder")} - before
    assert not made


@pytest.mark.slow
def test_no_option_executes_a_pickle(place: Path, broke: Broke) -> None:
    lines = lines_of(place)[::101]  # 101 and the number of options have no common divisor: every option has its turn
    check(place, lines)
    broke(8, FAULT, len(lines), OUTCOME)


@pytest.mark.full
def test_no_option_executes_any_of_them(place: Path, broke: Broke) -> None:
    lines = lines_of(place)[::5]  # every file, with two or three of the options; every option, with hundreds of files
    check(place, lines)
    broke(8, FAULT, len(lines), OUTCOME)


def test_the_runner_sees_what_a_pickle_does(tmp_path: Path) -> None:
    """Or the tests above could not fail: a recipe is a file that the tool opens, and a folder is what it makes."""
    (tmp_path / "good.safetensors").write_bytes(good_model())
    lines = [["checkpoints", "export", "good.safetensors", "new/out.safetensors"]]
    (answer,) = ran(lines, warm=[], cwd=tmp_path)
    assert answer.code == 0
    assert any(act.startswith("os.mkdir") for act in answer.acts)
