"""Files of settings: packaged recipes, a person's own TOML, and the config.json of a run."""

from __future__ import annotations

import json
import re
import stat
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from resnetcli.config.base import CONFIG_FILE, DEFAULT_RECIPE
from resnetcli.errors import UsageError
from resnetcli.spelling import suggestion
from resnetcli.untrusted import parse_json

MAX_BYTES = 2**16
"""Of a file of settings; the config.json of a run has 3,000. The time of a TOML parser grows with the square of a key's
parts, and what it keeps of them too: 40 kB of `a.a.a` took 1.5 GB."""
MAX_PARTS = 100
"""Of all the keys in one line of TOML; ours have one."""
_PART = re.compile(r"\.[ \t]*[^\s.]")


@dataclass(frozen=True)
class SettingsFile:
    """Flat settings as read, and the text that they were read from (for line numbers in messages)."""

    name: str
    values: dict[str, object]
    text: str

    def place(self, key: str) -> str:
        """`in NAME, line N`, where the key can be found."""
        pattern = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[=:\]]""")
        for number, line in enumerate(self.text.splitlines(), start=1):
            if pattern.match(line.lstrip("{, ")):
                return f"in {self.name}, line {number}"
        return f"in {self.name}"


def recipe_names() -> list[str]:
    """The packaged recipes, sorted."""
    folder = files("resnetcli") / "recipes"
    if not folder.is_dir():
        return []
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def complete_recipe(incomplete: str) -> list[str]:
    """Shell completion of --recipe."""
    return [name for name in recipe_names() if name.startswith(incomplete)]


def default_recipe() -> tuple[str, dict[str, object]]:
    """Name and settings of the recipe that applies where none is named."""
    return DEFAULT_RECIPE, read_recipe(DEFAULT_RECIPE).values if DEFAULT_RECIPE in recipe_names() else {}


def read_recipe(name: str) -> SettingsFile:
    """A packaged recipe by name, or a TOML file by path. Raises UsageError."""
    if name in recipe_names():
        text = (files("resnetcli") / "recipes" / f"{name}.toml").read_text("utf-8")
        return SettingsFile(f"recipe {name}", _parse(text, f"recipe {name}", is_json=False), text)
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return read_settings(Path(name), "--recipe")
    known = ", ".join(recipe_names())
    near = suggestion(name, recipe_names())
    raise UsageError(f"unknown recipe {name!r}{near}", f"recipes are {known}; a file of your own is given as PATH.toml")


def read_settings(path: Path, option: str) -> SettingsFile:
    """Read a TOML or (by its suffix) JSON file of flat settings. Raises UsageError with file and line."""
    try:
        text = _read(path, option).decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{option} {path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} {path}: not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{option} {path}: cannot be read ({reason})") from None
    return SettingsFile(str(path), _parse(text, f"{option} {path}", is_json=path.suffix == ".json"), text)


def _read(path: Path, option: str) -> bytes:
    """All of a file or, as a shell hands over what a command prints, a pipe. Raises UsageError, OSError, ValueError."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        inside = path / CONFIG_FILE
        hint = f"{option} {inside.as_posix()}" if inside.is_file() else "give a .toml or .json file"
        raise UsageError(f"{option} {path}: not a file", hint)
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UsageError(f"{option} {path}: more than {MAX_BYTES:,} bytes, which no file of settings needs")
    return data


def _parse(text: str, label: str, *, is_json: bool) -> dict[str, object]:
    try:
        values = parse_json(text) if is_json else _parse_toml(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{label}: not valid JSON, line {error.lineno}: {error.msg}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{label}: not valid TOML: {error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{label}: cannot be parsed ({error})") from None
    if not isinstance(values, dict):
        raise UsageError(f"{label}: must hold one JSON object of settings, not a {type(values).__name__}")
    return values


def _parse_toml(text: str) -> dict[str, object]:
    """Raises ValueError, also for keys of more parts than is cheap to follow."""
    for number, line in enumerate(text.split("\n"), start=1):
        if len(_PART.findall(line)) > MAX_PARTS:
            raise ValueError(f"line {number} has more than {MAX_PARTS} dots, as no key of a setting")
    return tomllib.loads(text)
