"""Disks that are full, read-only or gone, at the start and in the middle of a run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resnetcli.checkpoints.locks import RunLock
from resnetcli.checkpoints.manager import CheckpointManager, newest_intact, step_folders
from resnetcli.checkpoints.storage import REPLACED, TEMPORARY
from resnetcli.errors import StorageError
from resnetcli.services.checkpoints import prune
from resnetcli.services.history import write_history
from tests.checkpoints.samples import snapshot
from tests.faults.sandbox import can_mount, in_child, limit_file_size, make_read_only, mount_small_disk, own_mounts
from tests.faults.worker import ROOT, acknowledged
from tests.services.runs import SHORT

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.usefixtures("no_waiting"),
]
needs_mount = pytest.mark.skipif("not can_mount()", reason="this machine allows no mounts, not even in a namespace")

NEEDED = re.compile(r"\(([\d,]+) bytes are needed, ([\d,]+) are free on this disk\)")


def saving(run, step, numbers=64):
    """Saves one checkpoint as a process of its own would; returns the message and exit code of what went wrong."""
    content = snapshot(step)
    content.model["w"] = torch.full((numbers,), float(step))
    try:
        CheckpointManager(run, keep_last=2).save(content)
    except StorageError as error:
        return [error.message, error.exit_code]
    return None


def contents(run):
    return {p.relative_to(run).as_posix(): p.read_bytes().hex() for p in run.rglob("*") if p.is_file()}


def check_refused(answer, size):
    message, code = answer
    assert code == 7
    match = NEEDED.search(message)
    assert match, message
    assert int(match[1].replace(",", "")) == size, message


def test_a_limit_on_file_sizes_is_an_error_that_names_the_bytes_and_touches_nothing(tmp_path, broke):
    saving(tmp_path, 1)
    sizes = [path.stat().st_size for path in step_folders(tmp_path)[0].iterdir()]
    before = contents(tmp_path)
    limits = [0, 1, *range(100, max(sizes), 50), max(sizes) - 1]

    def save(tell, limit):
        limit_file_size(limit)
        tell(saving(tmp_path, 2))

    for limit in limits:
        _, (answer,) = in_child(lambda tell, limit=limit: save(tell, limit))
        check_refused(answer, sum(sizes))
        assert contents(tmp_path) == before
        assert newest_intact(tmp_path)[1].position.global_step == 1
    broke(
        5,
        "a limit on the size of a file (RLIMIT_FSIZE) at several points",
        len(limits),
        "exit 7 with the bytes needed and free; the previous checkpoint untouched; no litter",
    )


@needs_mount
def test_a_small_disk_that_fills_up_is_an_error_that_names_the_bytes_and_touches_nothing(tmp_path, broke):
    """Pages of 4 KiB: a checkpoint of 5,000 numbers takes 8 or more, an inode each file and folder."""

    def fill(tell, options):
        own_mounts()
        mount_small_disk(tmp_path, options)
        first = saving(tmp_path, 1, 5000)
        before = contents(tmp_path)
        second = None if first else saving(tmp_path, 2, 5000)
        litter = [p.name for p in tmp_path.rglob("*") if p.name.startswith((TEMPORARY, REPLACED))]
        newest = newest_intact(tmp_path)[1].position.global_step if step_folders(tmp_path) else None
        tell({"first": first, "second": second, "kept": contents(tmp_path) == before, "litter": litter, "at": newest})

    saving(tmp_path, 3, 5000)
    size = sum(path.stat().st_size for path in step_folders(tmp_path)[0].iterdir())
    shutil.rmtree(tmp_path / "checkpoints")
    # The root of a disk takes an inode and `checkpoints` another; a checkpoint takes four.
    disks = [f"nr_blocks={n}" for n in range(1, 2 * 8)] + [f"nr_inodes={n}" for n in range(3, 2 + 2 * 4)]
    refused = {"first": 0, "second": 0}
    for options in disks:
        _, (found,) = in_child(lambda tell, options=options: fill(tell, options))
        which = "first" if found["first"] else "second"
        check_refused(found[which], size)
        refused[which] += 1
        assert found["kept"], options
        assert not found["litter"], options
        assert found["at"] == (None if which == "first" else 1)
    assert min(refused.values()) >= 5
    broke(
        5,
        "a full disk (tmpfs without blocks or inodes) at several points",
        len(disks),
        "exit 7 with the bytes needed and free; the previous checkpoint untouched; no litter",
    )


@needs_mount
def test_a_full_disk_can_be_pruned(tmp_path):
    def fill_and_prune(tell):
        own_mounts()
        mount_small_disk(tmp_path, "size=200k")
        manager = CheckpointManager(tmp_path, keep_last=9)
        for step in (1, 2, 3):
            manager.save(snapshot(step))
        try:
            (tmp_path / "ballast").write_bytes(bytes(2**20))
        except OSError:
            tell(shutil.disk_usage(tmp_path).free)
        removed = prune(tmp_path, keep_last=1, dry_run=False).removed
        tell([len(removed), saving(tmp_path, 4)])

    assert in_child(fill_and_prune)[1] == [0, [2, None]]


def remove(run):
    shutil.rmtree(run)


def move(run):
    run.rename(run.with_name("moved"))


def put_a_file_there(run):
    shutil.rmtree(run)
    run.write_text("a file")


def remove_checkpoints(run):
    shutil.rmtree(run / "checkpoints")


GONE = [remove, move, put_a_file_there]


@pytest.mark.parametrize("vanish", [*GONE, remove_checkpoints])
def test_a_run_directory_that_vanished_is_an_error_and_not_made_anew(tmp_path, broke, vanish):
    run = tmp_path / "run"
    run.mkdir()
    manager = CheckpointManager(run, keep_last=2)
    manager.save(snapshot(1))
    vanish(run)
    before = sorted(tmp_path.rglob("*"))
    writes = [lambda: manager.save(snapshot(2))] + [lambda: write_history(run, [])] * (vanish in GONE)
    for write in writes:
        with pytest.raises(StorageError, match=re.escape(str(run))) as caught:
            write()
        assert caught.value.exit_code == 7
    assert sorted(tmp_path.rglob("*")) == before
    broke(6, "an output directory that vanishes in mid-run", len(writes), LOUD)


LOUD = "exit 7 from the next save, nothing made anew; never exit 0 with a missing save"
EARLY = "refused before torch is imported; nothing made"


@needs_mount
def test_a_disk_that_becomes_read_only_is_an_error_that_lets_go_of_the_run(tmp_path, broke):
    def go_on(tell):
        own_mounts()
        mount_small_disk(tmp_path, "size=1m")
        try:
            with RunLock(tmp_path):
                manager = CheckpointManager(tmp_path, keep_last=2)
                manager.save(snapshot(1))
                make_read_only(tmp_path)
                manager.save(snapshot(2))
        except StorageError as error:
            tell([error.message, error.exit_code, newest_intact(tmp_path)[1].position.global_step])

    ((message, code, newest),) = in_child(go_on)[1]
    assert "step-0000002: Read-only file system" in message
    assert (code, newest) == (7, 1)
    broke(6, "an output directory that becomes read-only in mid-run", 1, LOUD)


IN_ONE_PROCESS = """
import json, os, sys
from resnetcli.cli.main import run
codes = [run(argv) for argv in json.loads(sys.argv[1])]
print(json.dumps([codes, sorted({"torch", "torchvision", "numpy"} & sys.modules.keys())]))
"""


def started(commands):
    """Exit codes and messages of command lines in a fresh process, and which heavy modules that had imported."""
    arguments = [sys.executable, "-c", IN_ONE_PROCESS, json.dumps(commands)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT, env=environment())
    codes, modules = json.loads(done.stdout.splitlines()[-1])
    return codes, done.stderr, modules


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_an_output_directory_that_cannot_be_is_refused_before_torch_is_imported(tmp_path, broke):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    commands = [
        ["train", f"--output-dir={tmp_path / 'file'}"],
        ["train", f"--output-dir={tmp_path / 'file' / 'below' / 'it'}"],
        ["train", f"--resume={tmp_path / 'run'}"],
        ["train", f"--resume={tmp_path / 'vanished'}"],
        ["train", f"--resume={tmp_path / 'file'}"],
    ]
    codes, said, modules = started(commands)
    assert codes == [7, 7, 7, 4, 4]
    assert "file is a file" in said
    assert "checkpoints is not a folder that can be written to" in said
    assert modules == []
    assert sorted(tmp_path.rglob("*")) == before
    broke(6, "an output directory that is a file or gone, at the start", len(commands), EARLY)


@needs_mount
def test_a_read_only_output_directory_is_refused_before_torch_is_imported(tmp_path, broke):
    commands = [
        ["train", f"--output-dir={tmp_path}"],
        ["train", f"--output-dir={tmp_path / 'new' / 'runs'}"],
        ["train", f"--resume={tmp_path / 'run'}"],
    ]

    def start(tell):
        own_mounts()
        mount_small_disk(tmp_path, "size=1m")
        (tmp_path / "run" / "checkpoints").mkdir(parents=True)
        make_read_only(tmp_path)
        tell(started(commands))

    ((codes, said, modules),) = in_child(start)[1]
    assert codes == [7, 7, 7]
    assert said.count("written to") + said.count("not writable") == 3
    assert modules == []
    broke(6, "a read-only output directory, at the start", len(commands), EARLY)


OPTIONS = {**SHORT, "save_every": 0, "threads": 1, "device": "cpu"}
SAVES = 9
"""The beginning and eight steps."""
CASES = [
    pytest.param("make it read-only", 4, marks=[needs_mount, pytest.mark.full]),
    ("remove the run", SAVES),
    pytest.param("remove the run", 1, marks=pytest.mark.full),
    pytest.param("move the run", 5, marks=pytest.mark.full),
    pytest.param("put a file in its place", 5, marks=pytest.mark.full),
    pytest.param("make it read-only", 1, marks=[needs_mount, pytest.mark.full]),
    pytest.param("make it read-only", SAVES, marks=[needs_mount, pytest.mark.full]),
]


def train(worker, tmp_path, fence):
    """A real run, named r, on a disk of its own; exit code, what it said, what it acknowledged, what is there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    fence = {"log": str(tmp_path / "log"), "report": str(tmp_path / "report"), "run": str(disk / "r"), **fence}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in OPTIONS.items()]
    code = worker.run("command", ["train", *flags, f"--output-dir={disk}", "--name=r"], str(tmp_path / "acks"), fence)
    said, report = (tmp_path / "log").read_text(), json.loads((tmp_path / "report").read_text())
    return code, " ".join(said.split()), acknowledged(str(tmp_path / "acks")), report


@pytest.mark.slow
@pytest.mark.parametrize(("action", "after"), CASES)
def test_a_real_run_whose_output_directory_is_taken_away_never_ends_well(worker, tmp_path, broke, action, after):
    disk = {"disk": str(tmp_path / "disk"), "options": "size=2g"} if can_mount() else {}
    code, said, saved, report = train(worker, tmp_path, {**disk, "action": action, "after": after})
    assert code in ((7,) if after < SAVES or action == "make it read-only" else (4, 7)), said
    assert saved == after - 1
    if action == "make it read-only":
        assert report["newest"] == saved
        assert "Read-only file system" in said
    else:
        assert report["files"] in (None, [])
    assert "Traceback" not in said
    broke(6, f"{action} in mid-run (`resnetcli train`, cifar10-mini)", 1, "exit 7 or 4 and one message, never exit 0")


@needs_mount
@pytest.mark.full
@pytest.mark.parametrize("mebibytes", [50, 150, 250])
def test_a_real_run_on_a_full_disk_says_how_much_it_needs_and_keeps_what_it_saved(worker, tmp_path, broke, mebibytes):
    fence = {"disk": str(tmp_path / "disk"), "options": f"size={mebibytes}m"}
    code, said, saved, report = train(worker, tmp_path, fence)
    assert code == 7, said
    match = NEEDED.search(said)
    assert match, said
    needed, free = (int(number.replace(",", "")) for number in match.groups())
    assert needed > 64 * 2**20
    assert free < needed
    assert report["newest"] == (saved if saved >= 0 else None)
    assert len(report["intact"]) == len([f for f in report["files"] if re.fullmatch(r"checkpoints/step-\d+", f)])
    assert not [f for f in report["files"] if Path(f).name.startswith((TEMPORARY, REPLACED, ".holder"))]
    broke(
        5,
        "a disk that fills up in mid-run (`resnetcli train`, cifar10-mini)",
        1,
        "exit 7 with the bytes needed and free; the previous checkpoint untouched; no litter",
    )
