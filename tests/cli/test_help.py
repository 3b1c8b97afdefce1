"""Help: quick, complete, and the same everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from resnetcli.cli.app import COMMANDS, app
from resnetcli.cli.options import complete_device
from resnetcli.cli.resolve import EXTRA_OPTIONS
from resnetcli.config.base import ENV_PREFIX, Config

Cli = Callable[..., Any]
HEAVY = ("torch", "torchvision", "numpy", "PIL", "matplotlib")
WITHOUT_VARIABLE = ("help", "help_all", "version", "install_completion", "show_completion")


def _commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    yield (), get_command(app)
    for name in COMMANDS:
        command = get_command(import_module(f"resnetcli.cli.{name}").app)
        yield (name,), command
        if isinstance(command, TyperGroup):
            for sub in command.commands:
                yield (name, sub), command.commands[sub]


ALL = list(_commands())
IDS = [" ".join(("resnetcli", *words)) for words, _ in ALL]


@pytest.mark.parametrize("words", [words for words, _ in ALL], ids=IDS)
def test_every_command_answers_both_spellings_of_help_with_an_example(words: tuple[str, ...], cli: Cli) -> None:
    for flag in ("--help", "-h"):
        outcome = cli(*words, flag)
        assert outcome.code == 0
        assert "Usage: resnetcli" in outcome.out
        assert "Examples" in outcome.out
        assert outcome.err == ""


@pytest.mark.parametrize(("words", "command"), ALL, ids=IDS)
def test_every_option_says_what_it_is_its_default_and_its_variable(words: tuple[str, ...], command: Any) -> None:
    for param in command.params:
        assert param.help, f"{param.name} has no help"
        if not isinstance(param, TyperOption) or param.name in WITHOUT_VARIABLE:
            continue
        assert "[default: " in param.help or "(default: " in param.help or "[required]" in param.help, param.name
        assert str(param.envvar).startswith(ENV_PREFIX), param.name


def test_the_unknown_variable_check_knows_every_variable_that_is_read() -> None:
    models = list(_subclasses(Config))
    known = {ENV_PREFIX + name.upper() for name in EXTRA_OPTIONS}
    known |= {ENV_PREFIX + name.upper() for model in models for name in model.model_fields}
    read = {param.envvar for _, command in ALL for param in command.params if param.envvar is not None}
    assert read <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says_of_itself(name: str) -> None:
    command = get_command(import_module(f"resnetcli.cli.{name}").app)
    assert (command.help or "").splitlines()[0] == COMMANDS[name][1]


def test_units_are_shown_with_defaults(cli: Cli) -> None:
    out = cli("inspect", "--help").out
    assert "[default: 1 image]" in out


HELPS = [["--help"], ["--version"], ["train", "--help"], ["compare", "--help"], ["bench", "train", "--help"]]


@pytest.mark.parametrize("argv", [*HELPS, ["predict", "--hepl"]])
def test_no_heavy_import_before_there_is_work(argv: list[str]) -> None:
    code = (
        "import sys; from resnetcli.cli.main import run; code = run(sys.argv[1:]);"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]; sys.exit(repr(loaded) if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_global_switches_stand_before_and_behind_the_command(cli: Cli) -> None:
    before, behind = cli("--debug", "compare"), cli("compare", "--debug")
    assert before.code == behind.code == 2
    assert "Traceback" in before.err
    assert "Traceback" in behind.err


def test_version_is_one_line(cli: Cli) -> None:
    assert cli("--version").out.startswith("resnetcli ")


def _subclasses(model: type[Config]) -> Iterator[type[Config]]:
    for child in model.__subclasses__():
        yield child
        yield from _subclasses(child)


def test_train_shows_its_common_options_first_and_all_where_that_is_asked(cli: Cli) -> None:
    short, whole = cli("train", "--help").out, cli("train", "--help-all").out
    assert len(short.splitlines()) < 100 < len(whole.splitlines())
    for option in ("--recipe", "--epochs", "--budget", "--resume", "--dry-run", "--device", "--help-all", "--json"):
        assert option in short
    for option in ("--lookahead", "--cutmix", "--no-flip"):
        assert option not in short.split("Examples")[0]
        assert option in whole
    assert cli("train", "--help").out == short, "what was left out once is still there for --help-all"


@pytest.mark.parametrize(("words", "command"), ALL, ids=IDS)
def test_help_says_once_where_the_variables_are_and_no_type_beside_a_flag(
    words: tuple[str, ...], command: Any, cli: Cli
) -> None:
    out = cli(*words, "--help").out
    assert "<bool>" not in out
    assert "env var" not in out
    assert out.count("RESNETCLI_BATCH_SIZE for --batch-size") == bool(words)


def test_recipes_are_named_and_devices_complete_without_torch(cli: Cli) -> None:
    assert "<balanced|best|fast|seed|file>" in cli("train", "--help").out
    assert complete_device("c")[:2] == ["cpu", "cuda"]
    assert complete_device("a") == ["auto"]
    assert complete_device("x") == []
