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

from resnetcli.checkpoints.manager import CheckpointManager, newest_intact, step_folders
from resnetcli.checkpoints.storage import REPLACED, TEMPORARY
from resnetcli.errors import ResnetCliError, StorageError
from resnetcli.services.checkpoints import prune
from resnetcli.services.history import write_history
from tests.checkpoints.test_manager import snapshot
from tests.faults.children import can_mount, in_child, limit_file_size, make_read_only, mount_small_disk, own_mounts
from tests.faults.worker import ROOT, Worker, acknowledged
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


def remove_checkpoints(run):
    shutil.rmtree(run / "checkpoints")


def put_a_file_there(run):
    shutil.rmtree(run)
    run.write_text("a file")


@pytest.mark.parametrize("vanish", [remove, move, remove_checkpoints, put_a_file_there])
def test_a_run_directory_that_vanished_is_an_error_and_not_made_anew(tmp_path, broke, vanish):
    run = tmp_path / "run"
    run.mkdir()
    manager = CheckpointManager(run, keep_last=2)
    manager.save(snapshot(1))
    vanish(run)
    before = sorted(tmp_path.rglob("*"))
    for write in (lambda: manager.save(snapshot(2)), lambda: write_history(run, []) if not run.is_dir() else None):
        if vanish is remove_checkpoints and run.is_dir() and write.__code__.co_names[0] == "write_history":
            continue
        with pytest.raises(StorageError) as caught:
            write()
        assert caught.value.exit_code == 7
        assert str(run) in caught.value.message
    assert sorted(tmp_path.rglob("*")) == before
