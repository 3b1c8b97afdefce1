"""Which room may import which: one table, held against every import in the package, wherever it stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import resnetcli

PACKAGE = Path(resnetcli.__file__).parent
SAID = {"config", "errors", "events", "results"}
"""What every room may know: settings, and what is said of the work."""
ARROWS: dict[str, set[str]] = {
    "__init__": {"surroundings"},
    "__main__": {"cli"},
    "surroundings": set(),
    "errors": set(),
    "durable": set(),
    "cpus": set(),
    "untrusted": set(),
    "spelling": set(),
    "pickle_guard": set(),
    "config": set(),
    "results": set(),
    "events": {"results"},
    "interrupts": {"errors"},
    "metrics": {"results"},
    "models": SAID,
    "data": {"cpus", "durable", "pickle_guard", "surroundings", "untrusted", *SAID},
    "engine": {"__init__", *SAID},  # the version, which a resumed run compares
    "checkpoints": {"durable", "pickle_guard", "spelling", "untrusted", *SAID},
    "reporting": {"results", "events", "errors", "surroundings"},
    "services": {
        *("models", "data", "engine", "checkpoints", "metrics"),
        *("cpus", "durable", "interrupts", "untrusted"),
        *SAID,
    },
    "cli": {"services", "reporting", "__init__", "interrupts", "spelling", "untrusted", *SAID},
}
NEVER = {room: {"typer", "rich"} for room in ("services", "engine", "models", "data", "checkpoints", "metrics")}
LIGHT = {"cli": {"torch", "torchvision", "numpy", "PIL", "matplotlib"}}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each import, those in functions and under TYPE_CHECKING among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=[path.relative_to(PACKAGE).as_posix() for path in MODULES])
def test_imports_follow_the_arrows(path: Path) -> None:
    room = _room(path)
    rooms = {_room(module) for module in MODULES}
    for line, name in _imports(path):
        top, *rest = name.split(".")
        if top == "resnetcli":
            target = rest[0] if rest and rest[0] in rooms else "__init__"
            assert target == room or target in ARROWS[room], f"{path}:{line}: {room} must not import {target}"
        assert top not in NEVER.get(room, set()) | LIGHT.get(room, set()), (
            f"{path}:{line}: {room} must not import {top}"
        )


def test_every_room_is_in_the_table() -> None:
    assert {_room(path) for path in MODULES} <= ARROWS.keys()
