"""What was measured is reported also where its files cannot be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resnetcli.checkpoints.storage import TEMPORARY
from resnetcli.cli.report_files import write_training
from resnetcli.reporting import plots
from resnetcli.services.reports import UNFINISHED
from tests.limits import files_limited_to
from tests.reporting.examples import train_result

Cli = Callable[..., Any]
MINI = ("--data", "cifar10-mini")


@pytest.mark.parametrize("line", ["evaluate pretrained", "compare pretrained pretrained"])
def test_a_full_disk_costs_the_files_but_not_the_figures(cli: Cli, line: str) -> None:
    with files_limited_to(50):
        outcome = cli(*line.split(), *MINI, "--output", "report", "--json")
    assert outcome.code == 7
    assert "cannot write report/report.json" in outcome.err
    document = json.loads(outcome.out)
    assert document["command"] == line.split()[0]
    assert document["files"] == []
    assert not Path("report").exists()


@pytest.mark.parametrize(
    "line", ["compare pretrained nowhere --output a/b", "evaluate nowhere --output a/b --save-plots"]
)
def test_a_measurement_that_fails_leaves_no_folder(cli: Cli, line: str) -> None:
    assert cli(*line.split()).code == 4
    assert cli("evaluate", "nowhere", "--save-plots").code == 4
    assert not list(Path().iterdir())


@pytest.mark.parametrize("line", ["compare pretrained nowhere", "evaluate nowhere"])
def test_a_report_that_could_not_be_written_is_refused_before_the_measurement(cli: Cli, line: str) -> None:
    Path("file").touch()
    Path("loop").symlink_to("loop")
    for output, code, message in (
        ("file/below", 7, "file is a file"),
        ("loop", 2, "is a file"),
        ("loop/below", 7, "Too many levels of symbolic links"),
        (f"a/{'ü' * 200}", 7, "File name too long"),
    ):
        outcome = cli(*line.split(), "--output", output)
        assert (outcome.code, message in " ".join(outcome.err.split())) == (code, True), outcome.err


def test_pictures_go_to_a_folder_that_holds_nothing_but_what_was_left_of_a_killed_command(
    cli: Cli, tmp_path: Path
) -> None:
    line = ("evaluate", "pretrained", *MINI, "--save-plots")
    report = tmp_path / "report"
    report.mkdir()
    for name in ("confusion.png", f"{TEMPORARY}calibration.png-12345678"):
        (report / name).write_text("half")
    (report / UNFINISHED).write_text("confusion.png\ncalibration.png")
    assert cli(*line).code == 0
    assert sorted(p.name for p in report.iterdir()) == ["calibration.png", "confusion.png"]
    assert (report / "confusion.png").read_bytes()[1:4] == b"PNG"
    assert cli(*line).code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report", "report-2"]


def test_a_run_whose_report_cannot_be_written_shows_its_table(cli: Cli) -> None:
    quick = (*MINI, "--epochs", "1", "--limit-train", "64", "--batch-size", "32", "--name", "r")
    assert cli("train", *quick).code == 0
    for file in Path("runs/r/report").iterdir():
        file.unlink()
    Path("runs/r/report").rmdir()
    Path("runs/r/report").touch()
    outcome = cli("train", "--resume", "runs/r")
    assert outcome.code == 7
    assert "cannot write runs/r/report" in outcome.err
    assert "Classes, worst first" in outcome.out


@pytest.fixture(
    params=[MemoryError(), RuntimeError("latex was not found\nlog"), ImportError("no matplotlib")], ids=repr
)
def nothing_can_be_drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns what a warning says of the reason."""

    def fail(*_: object) -> bytes:
        raise request.param

    for name in ("confusion_png", "calibration_png", "history_png"):
        monkeypatch.setattr(plots, name, fail)
    return f"could not be drawn ({type(request.param).__name__}"


def test_pictures_that_cannot_be_drawn_cost_a_run_neither_its_tables_nor_its_exit_code(
    nothing_can_be_drawn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Path("r/report")
    report.mkdir(parents=True)
    (report / "confusion.png").touch()
    written = write_training(train_result().model_copy(update={"run_dir": "r"}))
    assert written.measured is not None
    tables = {"report.json", "per_class.csv", "confusion.csv", "predictions.csv"}
    assert {Path(name).name for name in written.measured.files} == tables
    assert {path.name for path in report.iterdir()} == tables  # and no picture of an earlier measurement
    warnings = capsys.readouterr().err
    for name in ("history.png", "confusion.png", "calibration.png"):
        assert f"warning: {name} {nothing_can_be_drawn}" in warnings


def test_one_picture_that_cannot_be_drawn_costs_evaluate_that_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(plots, "confusion_png", fail)
    outcome = cli("evaluate", "pretrained", *MINI, "--output", "report", "--save-plots", "--json")
    assert outcome.code == 0
    assert "warning: confusion.png could not be drawn (MemoryError)" in outcome.err
    files = json.loads(outcome.out)["files"]
    assert sorted(files) == sorted(map(str, Path("report").iterdir()))
    assert "report/calibration.png" in files
