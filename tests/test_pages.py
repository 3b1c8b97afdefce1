"""Every command that a page shows is one that the tool takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

import resnetcli
from resnetcli.cli.app import COMMANDS

PACKAGE = Path(resnetcli.__file__).parent
ROOT = PACKAGE.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "examples").glob("*.md")), *sorted((PACKAGE / "weights").glob("*.md")))
SHOWN = re.compile(rf"resnetcli ((?:{'|'.join(COMMANDS)})(?: [^`|\n]*)?)(?=[`|\n])")


def shown() -> Iterator[tuple[str, str]]:
    """The page and the words behind `resnetcli`, of lines of blocks and of code within a line."""
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        spans = "\n".join(f"{span}`" for span in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text))
        for words in dict.fromkeys(SHOWN.findall(f"{blocks}\n{spans}\n")):
            if "…" not in words:
                yield page.name, words.strip()


@pytest.mark.parametrize(("page", "words"), sorted(set(shown())))
def test_a_command_on_a_page_is_understood(page: str, words: str) -> None:
    name, *rest = shlex.split(words)
    command = get_command(import_module(f"resnetcli.cli.{name}").app)
    if hasattr(command, "commands") and rest:
        command, rest = command.commands[rest[0]], rest[1:]
    if rest or not hasattr(command, "commands"):
        command.make_context(f"resnetcli {words}", rest)  # raises what a person would read


def test_there_are_commands_to_look_at() -> None:
    words = [words for _, words in shown()]
    assert len(words) > 20
    assert {line.split()[0] for line in words} == set(COMMANDS)
