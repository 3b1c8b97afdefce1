"""`resnetcli … | head`: long work ends when nobody reads its result any longer, unless the user said otherwise."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from resnetcli.cli.reader import watched_reader
from resnetcli.errors import Interrupted
from resnetcli.interrupts import READER_GONE, StopRequest

RESNETCLI = (sys.executable, "-m", "resnetcli")


def ended(argv: tuple[str, ...], sign: str, before: Callable[[], None] | None = None) -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout loses its reader when `sign` is on stderr."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*RESNETCLI, *argv], stdout=pipe, stderr=pipe, text=True, preexec_fn=before) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = ""
        while sign not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        process.stdout.close()
        return process.wait(timeout=120), said + process.stderr.read()


def test_a_measurement_ends_quietly() -> None:
    code, err = ended(("bench", "infer", "--seconds", "3000"), "Measuring: 0")
    assert (code, err) == (141, "Measuring: 0 of 18 turns\n")


def test_a_run_is_saved_first_and_says_how_it_goes_on(tmp_path: Path) -> None:
    run = ("train", "--data", "cifar10-mini", "--epochs", "1000", "--batch-size", "8", "--limit-train", "16")
    code, err = ended((*run, "--lookahead", "0", "--output-dir", str(tmp_path), "--name", "r"), "1/1000")
    assert code == 141
    assert "--resume" in err
    assert list((tmp_path / "r" / "checkpoints").glob("step-*"))


def ignore_hang_up() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.full
def test_under_nohup_it_goes_on_to_its_end() -> None:
    code, err = ended(("bench", "infer", "--seconds", "0.01", "--rounds", "1"), "Measuring: 0", ignore_hang_up)
    assert code == 141, "the report itself cannot be written"
    assert "Measuring: 6 of 6 turns" in err


@pytest.fixture
def stop() -> object:
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    request = StopRequest()
    request.install()
    yield request
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("make", [os.pipe, "socket"])
def test_a_reader_that_goes_is_heard_of(stop: StopRequest, make: object) -> None:
    reader, writer = os.pipe() if make is os.pipe else (s.detach() for s in socket.socketpair())
    with watched_reader(stop, writer), stop.deferred():
        assert not stop()
        os.close(reader)
        heard = threading.Event()
        while not stop():
            heard.wait(0.01)
    os.close(writer)
    assert stop.signum == READER_GONE


def test_a_reader_that_goes_when_all_is_done_is_not(stop: StopRequest) -> None:
    reader, writer = os.pipe()
    with watched_reader(stop, writer):
        (watcher,) = (thread for thread in threading.enumerate() if thread.name == "reader")
    os.close(reader)
    watcher.join()
    os.close(writer)
    assert not stop()


def test_a_file_and_a_closed_stream_are_not_watched(stop: StopRequest, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file, watched_reader(stop, file.fileno()):
        assert "reader" not in {thread.name for thread in threading.enumerate()}
    with watched_reader(stop, 10_000):
        assert "reader" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_behind_a_vanished_reader_is_still_a_first_one(
    stop: StopRequest, signum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends `tee` too: were this the second signal, the run would leave without saving."""
    monkeypatch.setattr(os, "_exit", sys.exit)
    with stop.deferred():
        stop.reader_is_gone()
        assert stop.signum == READER_GONE
        stop._handle(signal.SIGHUP, None)
        assert stop.signum == READER_GONE
        stop._handle(signum, None)
        assert stop.signum == signum
        with pytest.raises(SystemExit):
            stop._handle(signal.SIGINT, None)


def test_outside_of_deferred_work_it_interrupts(stop: StopRequest) -> None:
    with pytest.raises(Interrupted) as caught:
        stop.reader_is_gone()
    assert caught.value.exit_code == 141
