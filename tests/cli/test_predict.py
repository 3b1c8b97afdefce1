"""`predict` on the command line: rows that come one by one, what is left after an interruption, bytes on stdin."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resnetcli.cli.main import run
from resnetcli.data import finding, images
from resnetcli.interrupts import StopRequest

Cli = Callable[..., Any]
COUNT = 24


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures that are answered four at a time."""
    monkeypatch.setattr("resnetcli.services.predict.inference_rows", lambda device: 4)
    monkeypatch.setattr("resnetcli.engine.evaluate.inference_rows", lambda device: 4)
    (tmp_path / "pictures").mkdir()
    for i in range(COUNT):
        Image.new("RGB", (32, 32), (i * 10, 0, 0)).save(tmp_path / "pictures" / f"{i:02d}.png")
    (tmp_path / "pictures" / "01.png").write_bytes(b"no picture")
    return tmp_path / "pictures"


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    """What the console script installs."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    request = StopRequest()
    request.install()
    yield request
    for signum, handler in before.items():
        signal.signal(signum, handler)


def answered(form: str, out: str) -> list[str]:
    """The names of the pictures that `out` answers."""
    if form == "csv":
        return [Path(row["path"]).name for row in csv.DictReader(io.StringIO(out))]
    if form == "jsonl":
        return [Path(json.loads(line)["path"]).name for line in out.splitlines()]
    if form == "json":
        return [Path(prediction["path"]).name for prediction in json.loads(out)["predictions"]]
    return [Path(line.split()[0]).name for line in out.splitlines() if line.startswith("pictures/")]


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "table"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_answered_before_a_signal_is_printed_whole(
    folder: Path,
    stop: StopRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    signum: int,
    code: int,
) -> None:
    decode = images.decode

    def interrupted(path: Path, *rest: Any) -> images.Decoded:
        if path.name == f"{COUNT - 1}.png":
            os.kill(os.getpid(), signum)
        return decode(path, *rest)

    monkeypatch.setattr(images, "decode", interrupted)
    assert run(["predict", "pictures", "--format", form, "--threads", "1"], stop) == code
    captured = capsys.readouterr()
    names = answered(form, captured.out)
    assert names == [f"{i:02d}.png" for i in range(len(names))]
    assert 4 <= len(names) < COUNT  # at most three batches of four are not answered yet
    assert f"{len(names)} pictures were answered, and the others were not" in captured.err
    if form == "json":
        document = json.loads(captured.out)
        assert (document["interrupted"], document["pictures"], document["failed"]) == (True, len(names), 1)
    if form == "table":
        assert "interrupted before the others" in captured.out


def test_an_interruption_before_the_first_answer_is_an_error_as_ever(
    folder: Path, stop: StopRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Iterator[finding.Found]:
        os.kill(os.getpid(), signal.SIGINT)
        yield from ()

    monkeypatch.setattr(finding, "find", interrupted)
    assert run(["predict", "pictures", "--json"], stop) == 130
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "interrupted"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_row_is_written_before_the_next_batch_is_computed(
    folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    from resnetcli.services import predict as service

    written: list[int] = []
    compute = service.logits_of
    monkeypatch.setattr(sys, "stdout", out := io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="\n"))

    def counting(*arguments: Any, **options: Any) -> Any:
        written.append(len(out.buffer.getvalue().splitlines()))  # type: ignore[attr-defined]
        return compute(*arguments, **options)

    monkeypatch.setattr(service, "logits_of", counting)
    assert cli("predict", "pictures", "--format", form).code == 3
    header = form == "csv"
    assert written == [0, *(4 * i + header for i in range(1, COUNT // 4))]


def test_csv_has_as_many_columns_whatever_comes_first(folder: Path, cli: Cli) -> None:
    outcome = cli("predict", "none.png", "pictures/00.png", "--format", "csv", "--top-k", "2")
    header, failed, good = csv.reader(io.StringIO(outcome.out))
    assert header[:5] == ["path", "label_1", "probability_1", "label_2", "probability_2"]
    assert len(header) == len(failed) == len(good) == 8
    assert cli("predict", "pictures/00.png", "--format", "csv", "--top-k", "99").out.count("label_") == 10


class Stdin:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "table"])
def test_the_bytes_of_a_picture_on_stdin_are_answered_in_every_form(
    folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    file = folder / "05.png"
    named = cli("predict", "pictures/05.png", "--format", form)
    monkeypatch.setattr(sys, "stdin", Stdin(file.read_bytes()))
    piped = cli("predict", "-", "--format", form)
    assert (named.code, piped.code) == (0, 0)
    if form == "table":
        assert piped.out.split("\n")[2].split() == ["-", *named.out.split("\n")[2].split()[1:]]
    else:
        assert piped.out == named.out.replace("pictures/05.png", "-")


def test_a_list_with_a_name_that_is_no_text_loses_no_answer(
    folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, separator in ((["-0"], b"\0"), ([], b"\n")):
        names = [b"pictures/00.png", b"caf\xe9.png", b"pictures/02.png"]
        monkeypatch.setattr(sys, "stdin", Stdin(separator.join(names) + separator))
        outcome = cli("predict", "-", *options, "--format", "json")
        assert outcome.code == 3
        predictions = json.loads(outcome.out)["predictions"]
        assert [(p["path"], p["error"] is None) for p in predictions] == [
            ("pictures/00.png", True),
            ("caf\udce9.png", False),
            ("pictures/02.png", True),
        ]
        monkeypatch.setattr(sys, "stdin", Stdin(separator.join(names)))
        assert "caf\\xe9.png" in cli("predict", "-", *options).out


def test_null_without_a_list_is_a_mistake_where_it_was_typed(
    folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = cli("predict", "pictures/00.png", "--null")
    assert outcome.code == 2
    assert "--null is about a list on stdin" in outcome.err
    monkeypatch.setenv("RESNETCLI_NULL", "1")
    assert cli("predict", "pictures/00.png").code == 0


def test_a_url_is_answered_with_the_command_that_fetches_it(cli: Cli) -> None:
    outcome = cli("predict", "https://example.org/a.png?b=[1]")
    assert outcome.code == 3
    assert (
        "URLs are not fetched; do `curl -fsSL 'https://example.org/a.png?b=[1]' | resnetcli predict -`" in outcome.out
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_csv_shows_a_terminal_no_control_characters_and_a_file_all(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    outcome = cli("predict", "none\x1b[31m.png", "--format", "csv")
    assert ("none?[31m.png" in outcome.out) == terminal
    assert ("none\x1b[31m.png" in outcome.out) != terminal
