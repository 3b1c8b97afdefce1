"""The curves of a run are there after its first epoch, whatever ends it, and never end it themselves."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resnetcli.cli.curves import PAUSES, Curves, keeping_curves
from resnetcli.errors import Interrupted
from resnetcli.events import EpochDone, Event, Notice, RunHistory, ignore
from resnetcli.interrupts import StopRequest
from resnetcli.reporting import plots
from resnetcli.services.train import resume, train
from tests.reporting.examples import curve_notes, history
from tests.services.runs import short_config
from tests.small import small_network

Cli = Callable[..., Any]
PNG = b"\x89PNG\r\n\x1a\n"
RUN = ("train", "--data", "cifar10-mini", "--limit-train", "32", "--batch-size", "16", "--epochs", "2", "--name", "r")


class Drawn:
    """In place of `history_png`: how many epochs each picture had, and what time it took."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.epochs, self.seconds, self.now = list[int](), seconds, 0.0

    def __call__(self, rows: Any, notes: Any) -> bytes:
        self.epochs.append(len(rows))
        self.now += self.seconds
        return b"picture"

    def clock(self) -> float:
        return self.now


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    drawn = Drawn(seconds=0.5)
    monkeypatch.setattr(plots, "history_png", drawn)
    return drawn


def stopped_at_the_first_epoch(name: str) -> None:
    stop = StopRequest()

    def on_event(event: Event) -> None:
        if isinstance(event, EpochDone):
            stop.signum = signal.SIGTERM

    with small_network(), pytest.raises(Interrupted), keeping_curves(on_event) as curves:
        train(short_config(Path("runs"), name=name, limit_train=32), stop=stop, on_event=curves)


def test_a_stopped_run_has_its_curves(drawn: Drawn) -> None:
    stopped_at_the_first_epoch("r")
    assert Path("runs/r/report/history.png").read_bytes() == b"picture"
    assert drawn.epochs == [1]
    assert [p.name for p in Path("runs/r/report").iterdir()] == ["history.png"]


def test_curves_that_are_missing_come_back_when_the_run_goes_on(drawn: Drawn) -> None:
    stopped_at_the_first_epoch("r")
    Path("runs/r/report/history.png").unlink()
    stop = StopRequest()
    stop.signum = signal.SIGTERM
    with small_network(), pytest.raises(Interrupted), keeping_curves(ignore) as curves:
        resume(Path("runs/r"), {}, stop=stop, on_event=curves)
    assert drawn.epochs == [1, 1]
    assert Path("runs/r/report/history.png").is_file()


def test_short_epochs_are_drawn_less_often_and_the_end_always(drawn: Drawn, tmp_path: Path) -> None:
    curves, rows = Curves(ignore, drawn.clock), history(12)
    curves(RunHistory(tmp_path, (), curve_notes()))
    for row in rows:
        curves(EpochDone(row, best=False))
        drawn.now += PAUSES * drawn.seconds / 4
    assert drawn.epochs == [1, 5, 9]
    curves.draw()
    curves.draw()
    assert drawn.epochs == [1, 5, 9, 12]


def test_a_picture_that_cannot_be_drawn_is_one_warning_and_costs_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise MemoryError("no memory left")

    monkeypatch.setattr(plots, "history_png", broken)
    with small_network():
        outcome = cli(*RUN)
    assert outcome.code == 0
    assert outcome.err.count("history.png is not kept up to date (MemoryError: no memory left)") == 1
    assert outcome.err.count("history.png") == 1
    assert "report.json" in {p.name for p in Path("runs/r/report").iterdir()}


def test_a_folder_that_refuses_the_picture_does_not_end_the_training(drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "report").touch()
    said: list[Event] = []
    curves = Curves(said.append, drawn.clock)
    curves(RunHistory(tmp_path, (), curve_notes()))
    for row in history(3):
        curves(EpochDone(row, best=False))
        drawn.now += 1000
    assert [isinstance(event, Notice) and event.warning for event in said].count(True) == 1
    assert len(drawn.epochs) == 1


def test_evaluate_makes_the_whole_report_of_a_stopped_run(cli: Cli) -> None:
    stopped_at_the_first_epoch("r")
    folder = Path("runs/r/report")
    assert (folder / "history.png").read_bytes().startswith(PNG)
    kept = (folder / "history.png").stat().st_mtime_ns
    line = ("evaluate", "runs/r", "--save-plots", "--output")
    with small_network():
        assert cli(*line, "runs/r/report").code == 0
        assert cli(*line, "elsewhere").code == 0
        assert cli("evaluate", "runs/r/checkpoints/step-0000002", *line[2:], "third").code == 0
    files = {"report.json", "per_class.csv", "confusion.csv", "predictions.csv", "confusion.png", "calibration.png"}
    assert (
        {p.name for p in folder.iterdir()} == {p.name for p in Path("elsewhere").iterdir()} == files | {"history.png"}
    )
    assert (folder / "history.png").stat().st_mtime_ns == kept
    assert {p.name for p in Path("third").iterdir()} == files
