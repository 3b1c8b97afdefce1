"""Files that others may have written: what is not plain is not waited for, what is too long is not read to its end."""

from __future__ import annotations

import ast
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from resnetcli.checkpoints.locks import RunLock, check_not_in_use
from resnetcli.checkpoints.vetting import vetted_copy
from resnetcli.data import archives, cifar10, network
from resnetcli.errors import DataError, RunInUseError
from resnetcli.services import machine
from resnetcli.untrusted import open_plain, parse_json, read_plain
from tests.test_arrows import MODULES, PACKAGE

ELSEWHERE = {
    "cli/recipes.py": "a file of settings may be a pipe, as a shell gives it, and has a limit of its own",
    "cpus.py": "what the kernel writes",
    "engine/runtime.py": "what the kernel writes",
    "data/images.py": "images have limits of their own, and their kind is asked before they are opened",
    "data/network.py": "a download, and npm's log in a folder that was just made",
    "cli/main.py": "standard streams that are closed",
}
"""Modules that read in another way than through `open_plain`, and why."""


def _reads(path: Path) -> bool:
    """Whether a module opens files by a call of its own, in whatever mode."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            owner = getattr(getattr(function, "value", None), "id", "")
            known = owner in ("os", "Image", "gzip", "tarfile", "webbrowser")
            if name in ("read_text", "read_bytes") or (name == "open" and not known):
                return True
    return False


def test_every_module_reads_files_through_one_reader_or_says_why_not() -> None:
    assert {path.relative_to(PACKAGE).as_posix() for path in MODULES if _reads(path)} == ELSEWHERE.keys()


@pytest.fixture(params=["pipe", "device", "folder", "link to a device"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Path]:
    """Puts something that is no plain file in a place."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")

    def put(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero" if request.param == "device" else "/dev/tty")
        return path

    return put


def test_what_is_no_plain_file_is_refused_at_once(odd: Callable[[Path], Path], tmp_path: Path) -> None:
    path = odd(tmp_path / "x")
    for read in (open_plain, lambda path: read_plain(path, 10), vetted_copy):
        with pytest.raises(OSError, match="not a plain file"):
            read(path)


def test_what_becomes_a_pipe_after_it_was_asked_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "x")
    (tmp_path / "plain").write_bytes(b"")
    before = (tmp_path / "plain").stat()
    monkeypatch.setattr(Path, "stat", lambda path: before)
    with pytest.raises(OSError, match="not a plain file"):
        open_plain(tmp_path / "x")


def test_a_file_is_read_up_to_its_limit_and_not_beyond(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_plain(tmp_path / "x", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_plain(tmp_path / "x", 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice"),
        ('{"a": 1, "\\u0061": 2}', "the key 'a' is there twice"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "0," * 2**17 + "0]", "more than 131,072 values"),
        ("{", "line 1"),
    ],
)
def test_json_that_says_two_things_or_costs_too_much_is_refused(text: str, said: str) -> None:
    for kind in (text, text.encode()):
        with pytest.raises(ValueError, match=said):
            parse_json(kind)


def test_the_name_of_a_holder_is_read_from_a_plain_file_alone(odd: Callable[[Path], Path], tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()
    odd(tmp_path / ".holder")
    with pytest.raises(RunInUseError, match="another process"):
        check_not_in_use(tmp_path)
    lock.release()


@pytest.mark.parametrize("said", ["process 1 on \x1b[31mx", "process 1 on a, who says: rm -rf", "x" * 4096, ""])
def test_what_no_holder_writes_is_not_shown(said: str, tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()
    (tmp_path / ".holder").write_text(said)
    with pytest.raises(RunInUseError, match="another process"):
        check_not_in_use(tmp_path)
    (tmp_path / ".holder").write_text(f"process {os.getpid()} on {platform.node()}")
    with pytest.raises(RunInUseError, match=f"process {os.getpid()} on "):
        check_not_in_use(tmp_path)
    lock.release()


def test_what_was_measured_of_a_machine_is_measured_again_where_its_file_is_none(
    odd: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "measure_bf16_gain", lambda: 2.0)
    assert machine._remembered_gain(odd(tmp_path / "machine.json")) == 2.0


def test_a_file_of_measurements_that_is_too_long_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "measure_bf16_gain", lambda: 2.0)
    path = tmp_path / "machine.json"
    path.write_text('{"bf16_gain": {}}' + " " * machine.MAX_BYTES)
    assert machine._remembered_gain(path) == 2.0
    monkeypatch.setattr(machine, "measure_bf16_gain", lambda: pytest.fail("measured again"))
    assert machine._remembered_gain(path) == 2.0


def test_data_sets_are_read_from_plain_files_alone(odd: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a plain file"):
        cifar10.load(odd(tmp_path / "cache" / "cifar10.bin"))
    batch = odd(tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin")
    with pytest.raises(DataError, match="lacks data_batch_1"):
        archives.read(batch.parent)
    archive = odd(tmp_path / "cifar-10-binary.tar.gz")
    with pytest.raises(DataError, match="not a plain file" if not archive.is_dir() else "none of the folders"):
        archives.read(archive)
    assert not network.has_md5(archive, "")
