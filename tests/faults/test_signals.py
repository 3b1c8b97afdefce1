"""The signals that stop a run, at moments spread over everything that it does, once and twice.

Each case is a process that signals itself at the n-th function call of a phase, and what is left is gone on with. The
network is a small one, all else is the program.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from resnetcli.checkpoints.manager import newest_intact, step_folders, verify_folder
from resnetcli.interrupts import STOPPING, WARNINGS, StopRequest
from tests.data.test_network import CONTENT, MD5, Server, server  # noqa: F401  # a fixture
from tests.faults.children import Child, Moment, resnetcli, train_arguments
from tests.services.test_train import assert_same_end

SETTINGS: dict[str, object] = {
    "limit_train": 64, "batch_size": 16, "epochs": 2, "lookahead": 3, "branch_scale": 0.3, "optimizer": "sgd",
    "lr": 0.02, "precision": "fp32", "threads": 1, "save_every": 1e9, "quiet": True,
}  # fmt: skip
ARGUMENTS = train_arguments("run", **SETTINGS)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU, signal.SIGUSR2)
PHASES = ("load", "step", "save", "evaluate")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A run that nothing disturbed, and how many calls each of its phases made."""
    folder = tmp_path_factory.mktemp("whole")
    ended = resnetcli(ARGUMENTS, folder, moment=Moment("all", 10**9, 0))
    assert ended.code == 0, ended.err
    return folder / "run", ended.report["calls"]


def moments(calls: dict[str, int], count: int, signals: tuple[signal.Signals, ...] = SIGNALS) -> list[Moment]:
    """`count` in each phase, evenly over its calls, the signals in turn."""
    return [
        Moment(phase, calls[phase] * (2 * i + 1) // (2 * count + 1), signals[(i + shift) % len(signals)])
        for shift, phase in enumerate(PHASES)
        for i in range(count)
    ]


def assert_left_whole(run: Path) -> None:
    """Every checkpoint that can be seen is what was written."""
    for folder in step_folders(run):
        verify_folder(folder)


def go_on(folder: Path) -> None:
    """What a user would do next: resume, or, where nothing was saved yet, start again."""
    run = folder / "run"
    argv = ["train", "--resume=run", "--quiet"] if step_folders(run) else ARGUMENTS
    ended = resnetcli(argv, folder)
    assert ended.code == 0, ended.err
    assert not [p for p in run.rglob(".*") if p.name != ".lock"], "litter"


def stopped_and_gone_on_with(moment: Moment, folder: Path, whole: Path) -> None:
    folder.mkdir()
    ended = resnetcli(ARGUMENTS, folder, moment=moment)
    assert ended.report["fired"] is not None, moment
    assert ended.code == 128 + moment.signum, (moment, ended.err)
    assert ended.err.count("stopped: ") == (not ended.out), ended.err  # or else its result was ready by then
    assert "Traceback" not in ended.err
    assert not ended.orphans
    assert_left_whole(folder / "run")
    steps_before, saves_before = ended.report["fired"]
    assert ended.report["steps"] - steps_before <= 1
    assert ended.report["saves"] - saves_before <= 2  # the one that was going on, and one more
    if ended.report["steps"]:
        assert newest_intact(folder / "run")[1].position.global_step == ended.report["steps"]
    go_on(folder)
    assert_same_end(whole, folder / "run")
    shutil.rmtree(folder)


def twice(moment: Moment, folder: Path, whole: Path) -> None:
    folder.mkdir()
    ended = resnetcli(ARGUMENTS, folder, moment=moment)
    assert ended.code == 128 + moment.signum, (moment, ended.err)
    assert "Traceback" not in ended.err
    assert not ended.orphans
    assert_left_whole(folder / "run")
    go_on(folder)
    assert_same_end(whole, folder / "run")
    shutil.rmtree(folder)


def in_turn(calls: dict[str, int], count: int) -> list[Moment]:
    """Moments at which two signals come, the second a few to a few thousand calls after the first."""
    return [
        Moment(m.phase, m.call, m.signum, again=m.signum, gap=1 + 7 ** (i % 5))
        for i, m in enumerate(moments(calls, count, (signal.SIGINT, signal.SIGTERM)))
    ]


ONCE = "SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 or SIGXCPU while loading, stepping, saving or evaluating"
ONCE_OUTCOME = "128 + the signal; saved within a step and a save; nothing left running; resumed bit-equal"
TWICE = "the same signal again a moment later"
TWICE_OUTCOME = "left at once with that code; all checkpoints whole; resumed bit-equal"


def quick_and_full(quick: int, full: int) -> pytest.MarkDecorator:
    """The test with few moments in the normal run, with many behind the marker."""
    return pytest.mark.parametrize(
        "count", [pytest.param(quick, marks=pytest.mark.slow), pytest.param(full, marks=pytest.mark.full)]
    )


@quick_and_full(3, 25)
def test_a_run_stopped_at_any_moment_saves_leaves_and_ends_byte_equal_after_resume(whole, tmp_path, broke, count):
    cases = moments(whole[1], count)
    for i, moment in enumerate(cases):
        stopped_and_gone_on_with(moment, tmp_path / str(i), whole[0])
    broke(15, ONCE, len(cases), ONCE_OUTCOME)


@quick_and_full(1, 8)
def test_a_second_signal_leaves_at_once_and_loses_nothing_that_was_saved(whole, tmp_path, broke, count):
    cases = in_turn(whole[1], count)
    for i, moment in enumerate(cases):
        twice(moment, tmp_path / str(i), whole[0])
    broke(15, TWICE, len(cases), TWICE_OUTCOME)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [(signal.SIGXCPU, signal.SIGXCPU), (signal.SIGUSR1, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP)],
)
def test_a_system_that_warns_twice_does_not_keep_a_run_from_saving(whole, tmp_path, broke, first, then):
    moment = Moment("step", whole[1]["step"] // 2, first, again=then, gap=5)
    stopped_and_gone_on_with(moment, tmp_path / "warned", whole[0])
    broke(15, "a warning again, or a SIGTERM after it", 1, ONCE_OUTCOME)


def ignore_interrupts() -> None:
    """In a child: what `trap '' INT` and the `&` of a script leave behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.slow
def test_a_run_in_the_background_of_a_script_does_not_hear_the_interrupt_of_its_terminal(whole, tmp_path, broke):
    moment = Moment("step", whole[1]["step"] // 2, signal.SIGINT)
    ended = resnetcli(ARGUMENTS, tmp_path, moment=moment, prepare=ignore_interrupts)
    assert ended.report["fired"] is not None
    assert (ended.code, "stopp" in ended.err) == (0, False), ended.err
    assert_same_end(whole[0], tmp_path / "run")
    broke(15, "SIGINT where it was ignored from the start", 1, "the run goes on to its end")


def hold_step(started: str) -> None:
    """In a child: the first step says that it is there, and waits for a signal."""
    from resnetcli.engine.loop import Trainer

    step = Trainer.step

    def held(self: Trainer, *batch: object) -> float:
        rate = step(self, *batch)
        if not Path(started).exists():
            Path(started).touch()
            signal.pause()
        return rate

    Trainer.step = held


def on_terminal(name: str, started: str) -> None:
    """In a child: as `hold_step`, with the terminal `name` for its own, and for stdout and stderr."""
    terminal = os.open(name, os.O_RDWR)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(terminal, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
    os.environ["TERM"] = "xterm"
    hold_step(started)


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_saves_though_it_can_say_nothing_more(whole, tmp_path, broke):
    master, slave = pty.openpty()
    argv = [a for a in ARGUMENTS if a != "--quiet"]  # so that there are bars, which cannot be drawn any longer
    child = Child(argv, tmp_path, prepare=partial(on_terminal, os.ttyname(slave), "started"))
    shown = b""
    while not (tmp_path / "started").exists():
        assert child.process.exitcode is None, shown.decode()
        if select.select([master], [], [], 0.01)[0]:
            shown += os.read(master, 65536)
    assert b"run run" in shown
    os.close(slave)
    os.close(master)
    ended = child.wait()
    assert (ended.code, ended.orphans) == (129, ()), ended
    assert newest_intact(tmp_path / "run")[1].position.global_step == 1
    go_on(tmp_path)
    assert_same_end(whole[0], tmp_path / "run")
    broke(15, "the terminal of a run is closed", 1, "129; saved within a step; resumed bit-equal")


@pytest.mark.slow
def test_a_run_whose_messages_nobody_reads_any_longer_goes_on(whole, tmp_path, broke):
    argv = [a for a in ARGUMENTS if a != "--quiet"]
    ended = resnetcli(argv, tmp_path, prepare=deaf)
    assert ended.code == 0, ended
    assert "top-1" in ended.out
    assert_same_end(whole[0], tmp_path / "run")
    broke(15, "the reader of stderr has gone, or its disk is full", 1, "the run goes on to its end")


def deaf() -> None:
    """In a child: nothing can be written to stderr."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Puts the handlers of this process back afterwards."""
    before = {s: signal.getsignal(s) for s in STOPPING}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("switched_off", STOPPING)
def test_a_signal_that_was_switched_off_before_stays_off(handlers, switched_off):
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(switched_off, signal.SIG_IGN)
    stop = StopRequest()
    stop.install()
    assert [signal.getsignal(s) == stop._handle for s in STOPPING] == [s != switched_off for s in STOPPING]
    stop.uninstall()
    assert [signal.getsignal(s) for s in STOPPING] == [
        signal.SIG_IGN if s == switched_off else signal.SIG_DFL for s in STOPPING
    ]


def test_which_second_signal_leaves_at_once(monkeypatch):
    monkeypatch.setattr(os, "_exit", sys.exit)

    def left(*signums: int) -> int | None:
        """The exit code at the last of these signals, None where the work goes on to its save."""
        stop = StopRequest()
        with stop.deferred():
            try:
                for signum in signums:
                    stop._handle(signum, None)
            except SystemExit as error:
                return error.code
        assert stop.signum == signums[0]
        return None

    for warning in WARNINGS:
        assert left(signal.SIGTERM, warning, warning) is None
        assert left(warning, warning, signal.SIGTERM) is None  # a batch system's second word
        assert left(warning, signal.SIGTERM, signal.SIGTERM) == 143
        assert left(warning, signal.SIGINT) == 130
    assert left(signal.SIGTERM, signal.SIGINT) == 130
    assert left(signal.SIGINT, signal.SIGTERM) == 143


def test_a_system_without_some_of_the_signals_has_the_others(monkeypatch):
    """Windows, of which this is the part that matters here."""
    from resnetcli import interrupts

    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGQUIT"):
        monkeypatch.delattr(signal, name)
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    windows = ModuleType("interrupts")
    exec(compile(Path(interrupts.__file__).read_text(), "interrupts.py", "exec"), windows.__dict__)
    assert windows.STOPPING == (signal.SIGINT, 21, signal.SIGTERM)
    assert windows.WARNINGS == ()


def downloads(url: str) -> None:
    """In a child: CIFAR-10 is a small file at `url`."""
    from torchvision.datasets import CIFAR10

    from resnetcli.data import archives, cifar10

    CIFAR10.url, CIFAR10.tgz_md5 = url, MD5
    os.environ["no_proxy"] = "127.0.0.1"
    archives.read = lambda path: path.read_bytes()
    cifar10.write = lambda path, content, origin: path.write_bytes(content)
    cifar10.CACHE_BYTES = 0


def stopped_download(site: Server, folder: Path, moment: Moment) -> None:
    folder.mkdir()
    argv = ["data", "download", "--source=official", "--cache-dir=cache", "--json"]
    ended = resnetcli(argv, folder, moment=moment, prepare=partial(downloads, site.url))
    assert ended.code == 128 + moment.signum, ended
    assert not ended.orphans
    assert "Traceback" not in ended.err
    kept = folder / "cache" / "cifar10" / "cifar10.bin"
    assert not kept.exists() or kept.read_bytes() == CONTENT
    have = next((folder / "cache").rglob("*.part")).stat().st_size if list(folder.rglob("*.part")) else 0
    site.ranges.clear()
    resnetcli(argv, folder, prepare=partial(downloads, site.url))
    if have:
        assert site.ranges == [f"bytes={have}-"]  # nothing is fetched twice
    assert kept.read_bytes() == CONTENT
    assert not list(folder.rglob("*.part"))


DOWNLOAD = "SIGINT, SIGTERM, SIGHUP or another stopping signal while downloading"
DOWNLOAD_OUTCOME = "128 + the signal; nothing half-done under its name; the next one goes on where this one was"


@pytest.mark.slow
def test_a_download_stopped_at_any_moment_is_gone_on_with(server, tmp_path, broke):  # noqa: F811
    for i, (call, signum) in enumerate(zip((40, 900, 1500), SIGNALS[:3], strict=True)):
        stopped_download(server, tmp_path / str(i), Moment("download", call, signum))
    broke(15, DOWNLOAD, 3, DOWNLOAD_OUTCOME)


@pytest.mark.full
def test_a_download_stopped_at_many_moments(server, tmp_path, broke):  # noqa: F811
    for i in range(20):
        stopped_download(server, tmp_path / str(i), Moment("download", 1 + 80 * i, SIGNALS[i % len(SIGNALS)]))
    broke(15, DOWNLOAD, 20, DOWNLOAD_OUTCOME)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_command_stopped_while_python_still_imports_is_stopped_without_a_traceback(tmp_path, broke, signum):
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler); module = sys.argv.pop(1)\n"
        "class Late:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == module: os.kill(os.getpid(), {int(signum)})\n"
        "sys.meta_path.insert(0, Late())\n"
        "from resnetcli.cli.main import main; main()"
    )
    modules = ("typer", "resnetcli.cli.train", "torch.nn")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RESNETCLI_")}
    environment["PYTHONPATH"] = str(Path.cwd())
    for module in modules:
        argv = [sys.executable, "-c", program, module, *ARGUMENTS]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 128 + signum, (module, done.stderr)
        assert "Traceback" not in done.stderr, module
        assert done.stderr.count("stopped: ") == 1
    broke(15, "SIGINT or SIGTERM while modules are imported", len(modules), "130 or 143, one line, no traceback")
