"""What would look into the current folder for code or settings, and how it does not: libraries that are imported, and
programs that are started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType


@contextmanager
def inside(folder: str | Path) -> Iterator[None]:
    """`folder` as current folder of this process, for as long as it takes to import a library.

    The one before is held open, where the system lets us, for it may have no name any more. Where it cannot be opened,
    nothing in it can, and it stays.
    """
    if os.chdir in os.supports_fd:
        try:
            before = os.open(os.curdir, getattr(os, "O_PATH", os.O_RDONLY))
        except OSError:
            yield
            return
        try:
            os.chdir(folder)
            try:
                yield
            finally:
                os.chdir(before)
        finally:
            os.close(before)
    else:
        name = os.getcwd()  # noqa: PTH109  # as the system writes it
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(name)


class _TorchFinder:
    """Has torch imported in the root folder, whoever imports it.

    Some of NVIDIA's libraries that torch's Linux wheels load have an empty entry in their list of places to search
    (libcusparseLt 0.8.1: "$ORIGIN:"). That is the current folder, and a `libcuda.so.1` in it would be executed.
    """

    def __init__(self) -> None:
        self.looking = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torch" or self.looking:
            return None
        from importlib.util import find_spec

        self.looking = True
        try:
            spec = find_spec(name)
        finally:
            self.looking = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with inside(os.sep):
                    execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def keep_torch_out_of_the_current_folder() -> None:
    """From here on torch does not see the current folder while it is imported. Nothing, where it was before."""
    if os.name != "nt" and "torch" not in sys.modules:
        sys.meta_path.insert(0, _TorchFinder())


def program(name: str) -> str | None:
    """Where the program `name` lies: in a folder of PATH that is named from the root.

    On Windows `shutil.which` takes one in the current folder first, and everywhere an empty or a relative entry of PATH
    means a place that follows the current folder.
    """
    endings = os.environ.get("PATHEXT", ".COM;.EXE;.BAT;.CMD").split(os.pathsep) if os.name == "nt" else [""]
    for folder in filter(os.path.isabs, os.get_exec_path()):
        for ending in endings:
            path = os.path.join(folder, name + ending)  # noqa: PTH118  # tests have Windows's endings on Unix
            if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
                return path
    return None
