"""Every call by which storage changes the disk, seen one by one, and what a disk may hold after a power failure.

`watched` puts itself between the program and the calls of `os` that `resnetcli.durable`, `pathlib` and `shutil` are
made of. Linux only: the path behind a descriptor is read from /proc.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from unittest import mock


@dataclass(frozen=True)
class Operation:
    """`kind`: create, write, sync, mkdir, rename, unlink or rmdir; `target` is the new name of a rename."""

    kind: str
    path: Path
    target: Path | None = None
    data: bytes = b""


@contextmanager
def watched(
    root: Path,
    after: Callable[[Operation], None],
    before: Callable[[Operation], None] = lambda operation: None,
    *,
    really_sync: bool = False,
) -> Iterator[None]:
    """Calls `before` and `after` around each operation below `root`; what `before` raises, the operation raises.

    Temporary names are numbered instead of random, so that the same work makes the same operations. Nothing waits
    for the disk unless `really_sync`: what these tests take away, they take away themselves.
    """
    real = SimpleNamespace(**{name: getattr(os, name) for name in (*_KINDS, "open", "write", "fsync")})

    def around(operation: Operation, call: Callable[[], object]) -> object:
        if not operation.path.is_relative_to(root):
            return call()
        before(operation)
        result = call()
        after(operation)
        return result

    def named(name: str) -> Callable[..., object]:
        def call(path, *args, **options):
            where = _resolved(path, options.get("dir_fd"))
            if os.path.lexists(where) == (name == "mkdir"):  # it will be refused, and changes nothing
                return getattr(real, name)(path, *args, **options)
            target = Path(os.fspath(args[0])).absolute() if _KINDS[name] == "rename" else None
            return around(Operation(_KINDS[name], where, target), lambda: getattr(real, name)(path, *args, **options))

        return call

    def open_(path, flags, *args, **options):
        if not flags & os.O_CREAT or os.path.lexists(path):
            return real.open(path, flags, *args, **options)
        where = _resolved(path, options.get("dir_fd"))
        return around(Operation("create", where), lambda: real.open(path, flags, *args, **options))

    def write(descriptor, data):
        operation = Operation("write", _behind(descriptor), data=bytes(data))
        return around(operation, lambda: real.write(descriptor, data))

    def fsync(descriptor):
        sync = real.fsync if really_sync else lambda _: None
        return around(Operation("sync", _behind(descriptor)), lambda: sync(descriptor))

    numbers = itertools.count()
    with (
        mock.patch.multiple(os, open=open_, write=write, fsync=fsync, **{name: named(name) for name in _KINDS}),
        mock.patch.object(uuid, "uuid4", side_effect=lambda: SimpleNamespace(hex=f"{next(numbers):08d}")),
    ):
        yield


_KINDS = {
    "mkdir": "mkdir",
    "rename": "rename",
    "replace": "rename",
    "unlink": "unlink",
    "remove": "unlink",
    "rmdir": "rmdir",
}


def _behind(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def _resolved(path: os.PathLike[str] | str, folder: int | None) -> Path:
    return Path(os.fspath(path)).absolute() if folder is None else _behind(folder) / os.fspath(path)


@dataclass
class File:
    data: bytes = b""
    synced: bytes = b""


@dataclass
class Folder:
    """`now` is what a program sees, `synced` what is certain, `pending` the states in between, oldest first."""

    now: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[dict[str, File | Folder]] = field(default_factory=list)


Tree = dict[str, "bytes | Tree"]


class Disk:
    """A file system that promises what POSIX does and nothing more.

    Data of a file is certain after a sync of the file, a name after a sync of its folder. What was not synced may be
    lost: of a file all, half, or replaced by zeros; of the changes of names in a folder any number of the last ones,
    in each folder independently of the others. A rename happens or does not.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = Folder()

    def apply(self, operation: Operation) -> None:
        folder, name = self._at(operation.path.parent), operation.path.name
        if operation.kind == "write":
            file = folder.now[name]
            file.data += operation.data
        elif operation.kind == "sync":
            self._sync(self.top if operation.path == self.root else folder.now[name])
        else:
            if operation.kind == "create":
                folder.now[name] = File()
            elif operation.kind == "mkdir":
                folder.now[name] = Folder()
            else:
                moved = folder.now.pop(name)
                if operation.kind == "rename":
                    assert operation.target.parent == operation.path.parent, "a rename between folders"
                    folder.now[operation.target.name] = moved
            folder.pending.append(dict(folder.now))

    def _at(self, path: Path) -> Folder:
        folder = self.top
        for part in path.relative_to(self.root).parts if path.is_relative_to(self.root) else ():
            folder = folder.now[part]
        return folder

    @staticmethod
    def _sync(node: File | Folder) -> None:
        if isinstance(node, File):
            node.synced = node.data
        else:
            node.synced, node.pending = dict(node.now), []

    def as_seen(self) -> Tree:
        """What a program sees that was not cut off."""
        return _seen(self.top)

    def after_power_loss(self) -> Iterator[Tree]:
        """Every state in which this disk may come back."""
        return _survivors(self.top)


def _seen(folder: Folder) -> Tree:
    return {name: node.data if isinstance(node, File) else _seen(node) for name, node in folder.now.items()}


def _survivors(folder: Folder) -> Iterator[Tree]:
    for names in [folder.synced, *folder.pending]:
        choices = [_contents(node) if isinstance(node, File) else list(_survivors(node)) for node in names.values()]
        for chosen in itertools.product(*choices):
            yield dict(zip(names, chosen, strict=True))


def _contents(file: File) -> list[bytes]:
    if file.data == file.synced:
        return [file.data]
    return [file.data, file.synced, file.data[: len(file.data) // 2], bytes(len(file.data))]


def write_out(tree: Tree, folder: Path) -> None:
    """Makes `folder` with this content."""
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            write_out(content, folder / name)
