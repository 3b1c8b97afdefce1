"""A process that imports torch once, on one thread, and forks a child for each run that a test starts, kills or fences
in. `python -m tests.faults.worker` reads a request a line, and answers each with a line.

Tests fork by themselves where nothing is computed; behind torch's threads, a child of theirs could not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Worker:
    """The other side: starts work in a child and waits for it."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
        )
        self.run("nothing")  # has imported everything once it answers

    def start(self, work: str, *arguments: Any) -> int:
        """Starts a function of this module in a child; returns its process id."""
        return int(self._ask({"work": work, "arguments": arguments}))

    def wait(self, child: int) -> int:
        """How the child ended: exit code, or minus the signal."""
        return int(self._ask({"wait": child}))

    def run(self, work: str, *arguments: Any) -> int:
        return self.wait(self.start(work, *arguments))

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, request: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def nothing() -> int:
    return 0


def content_hash(run: Path) -> str:
    """Of all tensors and metrics in the newest checkpoint: what does not depend on when it was computed."""
    from resnetcli.checkpoints.manager import newest_intact

    _, snapshot = newest_intact(run)
    digest = hashlib.sha256(json.dumps([snapshot.header.metrics, snapshot.position.global_step]).encode())
    for tensors in (snapshot.model, snapshot.trainer):
        for name in sorted(tensors):
            digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


def acknowledged(path: str) -> int:
    """The highest step of which a child has said that it is saved; -1 before the first."""
    return max((int(line) for line in Path(path).read_text().split()), default=-1) if Path(path).exists() else -1


@contextmanager
def acknowledging(path: str, then: Callable[[int], None] = lambda count: None) -> Iterator[None]:
    """Inside, each checkpoint that was saved is written to `path` at once; `then` is told how many those are."""
    from resnetcli.checkpoints.manager import CheckpointManager, Snapshot

    real, descriptor, count = CheckpointManager.save, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), [0]

    def save(self: CheckpointManager, snapshot: Snapshot) -> Path:
        folder = real(self, snapshot)
        os.write(descriptor, f"{snapshot.position.global_step}\n".encode())
        count[0] += 1
        then(count[0])
        return folder

    CheckpointManager.save = save  # type: ignore[method-assign]
    try:
        yield
    finally:
        CheckpointManager.save = real  # type: ignore[method-assign]
        os.close(descriptor)


def train_tiny(run: str, acks: str) -> int:
    """A network of a few hundred numbers in the real loop, saved by the real saver after each of 30 steps."""
    from resnetcli.checkpoints.format import Architecture, ModelHeader
    from resnetcli.checkpoints.locks import RunLock
    from resnetcli.checkpoints.manager import CheckpointManager, newest_intact, step_folders
    from resnetcli.engine.evaluate import loss_and_top1
    from resnetcli.events import ignore
    from resnetcli.services.setup import Setup
    from resnetcli.services.train import Validation, _saver, restore
    from tests.checkpoints.samples import NORMALIZATION
    from tests.engine.test_loop import CONFIG, CPU, Batches, trainer

    os.fsync = lambda descriptor: None  # a kill takes nothing from the kernel
    config = CONFIG.model_copy(update={"save_every": 0.0, "keep_last": 2})
    loop, header = trainer(config), ModelHeader(
        architecture=Architecture(), class_names=("a", "b"), normalization=NORMALIZATION, versions={"torch": "2"}
    )  # fmt: skip
    setup = Setup(config, CPU, None, None, loop, 80, None, header, 0.0)  # type: ignore[arg-type]
    images, labels = next(Batches()(99))
    Path(run).mkdir(exist_ok=True)
    with acknowledging(acks), RunLock(Path(run)):
        manager = CheckpointManager(Path(run), config.keep_last)
        if step_folders(Path(run)):
            folder, snapshot = newest_intact(Path(run))
            loop.model.load_state_dict(snapshot.model)
            restore(setup, snapshot, folder)
        loop.run(
            validate=lambda: loss_and_top1(loop.model.eval()(images).detach(), labels),
            save=_saver(setup, Validation(setup, lambda: False), manager, ignore),
            on_event=ignore,
            stop=lambda: False,
        )
    return 0


def command(argv: list[str], acks: str, fence: dict[str, Any]) -> int:
    """`resnetcli ARGV` as a user would start it. `fence`: on a small disk of its own (`disk`, `options`), something
    done (`action`) once so many checkpoints are saved (`after`), and in the end what became of the run (`run`) written
    to `report`. stderr goes to the file `log`."""
    from resnetcli.cli.main import main
    from tests.faults.sandbox import make_read_only, mount_small_disk, own_mounts

    run = Path(fence.get("run", ""))
    actions: dict[str, Callable[[], object]] = {
        "make it read-only": lambda: make_read_only(Path(fence["disk"])),
        "remove the run": lambda: shutil.rmtree(run),
        "move the run": lambda: run.rename(run.with_name("moved")),
        "put a file in its place": lambda: (shutil.rmtree(run), run.write_text("a file")),
    }

    def then(count: int) -> None:
        if count == fence.get("after"):
            actions[fence["action"]]()

    log = os.open(fence["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = open(log, "w", buffering=1)  # noqa: PTH123, SIM115
    if "disk" in fence:
        own_mounts()
        mount_small_disk(Path(fence["disk"]), fence["options"])
    sys.argv = ["resnetcli", *argv]
    code = 0
    with acknowledging(acks, then):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
    if "report" in fence:
        Path(fence["report"]).write_text(json.dumps(_state_of(run)))
    return code


def _state_of(run: Path) -> dict[str, Any]:
    from resnetcli.checkpoints.manager import newest_intact, step_folders, verify_folder
    from resnetcli.errors import CheckpointError

    files = sorted(path.relative_to(run).as_posix() for path in run.rglob("*")) if run.is_dir() else None
    try:
        newest = newest_intact(run)[1].position.global_step
        intact = [verify_folder(folder).step for folder in step_folders(run)]
    except CheckpointError:
        newest, intact = None, []
    return {"files": files, "newest": newest, "intact": intact}


def _serve() -> None:
    for name in (
        "resnetcli.cli.train",
        "resnetcli.reporting.plots",
        "resnetcli.services.train",
        "tests.engine.test_loop",
        "tests.faults.children",
    ):
        import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                _child(request)
        print(answer, flush=True)


def _child(request: dict[str, Any]) -> None:
    code = 70
    try:
        code = globals()[request["work"]](*request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
