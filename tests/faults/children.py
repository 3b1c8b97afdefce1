"""Processes to break, each a whole `resnetcli …` that starts in milliseconds.

A fork server has imported torch and started no thread; each child is forked from it, leads a session of its own, and
can be told to send itself a signal at the n-th function call of a phase: a moment that is the same every time, and may
lie anywhere, in our code or in a library's.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "torch._dynamo",  # what torch imports when it makes its first optimiser: two seconds
        *(f"resnetcli.{name}" for name in ("cli.app", "cli.failures", "cli.train", "cli.checkpoints", "cli.evaluate")),
        *(f"resnetcli.services.{name}" for name in ("train", "evaluate", "predict", "checkpoints", "dry_run")),
        *(f"resnetcli.reporting.{name}" for name in ("tables", "files", "errors", "live", "plots")),
        "tests.faults.children",
        "tests.small",
    ]
)


@dataclass(frozen=True)
class Moment:
    """At the `call`-th call inside `phase`: send `signum`, and where `again` is given that one too, `gap` calls later.

    Phases: "load" (all until the first step), "step", "save", "evaluate", "download", "all".
    """

    phase: str
    call: int
    signum: int
    again: int | None = None
    gap: int = 1


@dataclass(frozen=True)
class Ended:
    """What is left of a child. `code` is -n where signal n killed it; `report` is what it counted of itself."""

    code: int
    out: str
    err: str
    report: dict[str, Any] = field(default_factory=dict)
    orphans: tuple[int, ...] = ()
    seconds: float = 0.0


class Child:
    """A running `resnetcli argv` in the folder `cwd`."""

    def __init__(
        self,
        argv: Sequence[str],
        cwd: Path,
        *,
        moment: Moment | None = None,
        small: bool = True,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.cwd = cwd
        self.files = Path(f"{cwd}/child-{time.monotonic_ns()}")
        self.began = time.monotonic()
        arguments = (list(argv), str(cwd), str(self.files), moment, small, prepare)
        self.process = _context.Process(target=_child, args=arguments)
        self.process.start()

    def wait(self, seconds: float = 300.0) -> Ended:
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still running after {seconds:g} s"
        report = Path(f"{self.files}.json")
        ended = Ended(
            code=self.process.exitcode,
            out=Path(f"{self.files}.out").read_text(errors="replace"),
            err=Path(f"{self.files}.err").read_text(errors="replace"),
            report=json.loads(report.read_text()) if report.exists() else {},
            orphans=tuple(_in_session(self.process.pid)),
            seconds=time.monotonic() - self.began,
        )
        for path in self.cwd.glob(f"{self.files.name}.*"):
            path.unlink()
        return ended


def resnetcli(argv: Sequence[str], cwd: Path, **settings: Any) -> Ended:
    """Runs a command line in a child, to its end."""
    return Child(argv, cwd, **settings).wait()


def train_arguments(name: str, **settings: object) -> list[str]:
    """`train` on the packaged sample; a setting that is None is left out."""
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in settings.items() if v is not None and not isinstance(v, bool)]
    switches = [f"--{'' if v else 'no-'}{k.replace('_', '-')}" for k, v in settings.items() if isinstance(v, bool)]
    return ["train", "--data=cifar10-mini", "--output-dir=.", f"--name={name}", *flags, *switches]


def _in_session(session: int | None) -> list[int]:
    """Living processes of a session, for a second: what is being killed may need a moment to be gone."""
    found: list[int] = []
    for _ in range(20):
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, sid = path.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(sid) == session and state != "Z":
                found.append(int(path.parent.name))
        if not found:
            break
        time.sleep(0.05)
    return found


def _child(
    argv: list[str], cwd: str, files: str, moment: Moment | None, small: bool, prepare: Callable[[], None] | None
) -> None:
    os.setsid()
    os.chdir(cwd)
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{files}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background may have it switched off
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    for name in [*os.environ]:
        if name.startswith("RESNETCLI_"):
            del os.environ[name]
    from resnetcli.cli.main import main
    from resnetcli.reporting import plots
    from tests.small import small_network

    if small:
        for name in ("history_png", "confusion_png", "calibration_png"):
            setattr(plots, name, lambda *parts: b"drawn")  # drawing takes longer than training does
    if prepare is not None:
        prepare()
    sys.argv = ["resnetcli", *argv]
    watch = Watch(moment)
    try:
        with small_network() if small else nullcontext():
            watch.start()
            main()
    finally:
        sys.setprofile(None)
        Path(f"{files}.json").write_text(json.dumps(watch.report()))


class Watch:
    """Counts calls by phase and steps; sends the signals of a moment when it has come."""

    def __init__(self, moment: Moment | None) -> None:
        from resnetcli.checkpoints.manager import CheckpointManager
        from resnetcli.data import network
        from resnetcli.engine import evaluate, loop

        self.moment = moment
        self.calls = dict.fromkeys(("load", "step", "save", "evaluate", "download", "all"), 0)
        self.inside = {"load": 1, "all": 1}
        self.steps = self.saves = 0
        self.fired: tuple[int, int] | None = None
        self.phases: dict[CodeType, str] = {
            loop.Trainer.step.__code__: "step",
            CheckpointManager.save.__code__: "save",
            evaluate.collect_logits.__code__: "evaluate",
            network.download.__code__: "download",
        }

    def start(self) -> None:
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType, event: str, arg: object) -> None:
        phase = self.phases.get(frame.f_code) if event in ("call", "return") else None
        if event == "return":
            if phase is not None:
                self.inside[phase] -= 1
                self.steps += phase == "step"
                self.saves += phase == "save"
            return
        if event not in ("call", "c_call"):
            return
        if phase is not None:
            self.inside[phase] = self.inside.get(phase, 0) + 1
            if phase == "step":
                self.inside["load"] = 0
        for name, depth in self.inside.items():
            self.calls[name] += depth > 0
        if self.moment is not None and phase is None and self.inside.get(self.moment.phase, 0) > 0:
            self._send(self.moment, self.calls[self.moment.phase] - self.moment.call)

    def _send(self, moment: Moment, late: int) -> None:
        if self.fired is None and late >= 0:
            self.fired = self.steps, self.saves
            if moment.again is None:
                self.moment = None
            else:
                self.moment = Moment("all", self.calls["all"] + moment.gap, moment.again)
            os.kill(os.getpid(), moment.signum)
        elif self.fired is not None and late >= 0:
            self.moment = None
            os.kill(os.getpid(), moment.signum)

    def report(self) -> dict[str, Any]:
        return {"calls": self.calls, "steps": self.steps, "saves": self.saves, "fired": self.fired}
