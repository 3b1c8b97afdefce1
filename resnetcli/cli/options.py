"""Typer options generated from the models in config/, so that names, help texts and defaults live there only."""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from typer.core import TyperOption
from typer.models import OptionInfo

from resnetcli.cli.recipes import complete_recipe, recipe_names
from resnetcli.cli.resolve import Given, environment_name, environment_notices, option_fields, option_name
from resnetcli.cli.runs import complete_checkpoint
from resnetcli.cli.session import session_of
from resnetcli.config.base import Config

PANELS = (
    "Input",
    "Run",
    "Data",
    "Network",
    "Optimiser",
    "Averaging",
    "Augmentation",
    "Measurement",
    "Checkpoints",
    "Replay",
    "Output",
    "Machine",
    "Global",
)
"""The order in which help shows them."""

SHORT_FLAGS = {"output": "-o", "output_dir": "-o", "null": "-0"}


def complete_device(incomplete: str) -> list[str]:
    """Shell completion of --device, without torch: NVIDIA's GPUs of Linux by the names of their devices."""
    gpus = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    names = ["auto", "cpu", "cuda", *(f"cuda:{number}" for number in gpus), "mps"]
    return [name for name in names if name.startswith(incomplete)]


COMPLETIONS: dict[str, Callable[[str], list[str]]] = {
    "checkpoint": complete_checkpoint,
    "checkpoint_a": complete_checkpoint,
    "checkpoint_b": complete_checkpoint,
    "init": complete_checkpoint,
    "recipe": complete_recipe,
    "device": complete_device,
}


VARIABLES = "Every option has an environment variable: RESNETCLI_BATCH_SIZE for --batch-size, and so on."
METAVARS = {"device": "<auto|cpu|cuda|cuda:N|mps>", "recipe": f"<{'|'.join((*recipe_names(), 'file'))}>"}
"""Where words are a part of what is taken."""


def examples(*lines: str) -> str:
    """The epilog of a command."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  {line}" for line in lines), "", VARIABLES])


def switch(name: str, text: str, panel: str, *flags: str, callback: Callable[..., bool] | None = None) -> Any:
    """An option that is either there or not, off by default."""
    return typer.Option(
        *(flags or (option_name(name),)),
        help=f"{text} \\[default: off]",
        envvar=environment_name(name),
        show_default=False,
        rich_help_panel=panel,
        callback=callback,
    )


def _set_quiet(ctx: typer.Context, value: bool) -> bool:
    session = session_of(ctx)
    session.quiet = session.quiet or value
    return value


def _set_debug(ctx: typer.Context, value: bool) -> bool:
    session = session_of(ctx)
    session.debug = session.debug or value
    return value


AsJson = Annotated[bool, switch("json", "Print one JSON document on stdout, errors included.", "Output")]
Quiet = Annotated[
    bool, switch("quiet", "No progress on stderr, only warnings.", "Global", "--quiet", "-q", callback=_set_quiet)
]
Debug = Annotated[bool, switch("debug", "Show the traceback of an error.", "Global", callback=_set_debug)]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file of settings, or the config.json of a run. \\[default: none]",
        metavar="<path>",
        envvar=environment_name("config"),
        show_default=False,
        rich_help_panel="Run",
    ),
]
GLOBAL: dict[str, Any] = {"quiet": Quiet, "debug": Debug}


def takes(
    model: type[Config] | None = None,
    *,
    only: tuple[str, ...] | None = None,
    recipe: tuple[str, Mapping[str, object]] = ("", {}),
    common: tuple[str, ...] = (),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `model` (or `only` some), beside its own parameters and the global switches.

    The command is called with `given=` (what was said, not yet validated) and with its own parameters. `recipe` is
    the name and the settings of the recipe that applies by default, whose values the help texts show. With `common`,
    --help shows these options only, and --help-all all of them.
    """
    fields = {} if model is None else {n: f for n, f in option_fields(model).items() if only is None or n in only}
    fields = dict(sorted(fields.items(), key=lambda item: PANELS.index(_extra(item[1])["panel"])))

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for n, p in inspect.signature(function, eval_str=True).parameters.items() if n not in ("ctx", "given")]
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter("ctx", keyword, annotation=typer.Context)]
        parameters += [_parameter(name, info, recipe) for name, info in fields.items()]
        parameters += [parameter.replace(kind=keyword) for parameter in own]
        parameters += [inspect.Parameter(n, keyword, default=False, annotation=a) for n, a in GLOBAL.items()]
        parameters += [_help_parameter("help", frozenset(common), "--help", "-h")]
        if common:
            parameters += [_help_parameter("help_all", frozenset(), "--help-all")]
        for parameter in parameters[1:]:
            _declare_plainly(parameter)

        def command(ctx: typer.Context, **values: Any) -> None:
            for notice in environment_notices(os.environ):
                session_of(ctx).notify(notice)
            extra = {parameter.name: values[parameter.name] for parameter in own}
            if model is not None:
                extra["given"] = _given(ctx, {name: values[name] for name in fields})
            function(ctx, **extra)

        command.__name__ = function.__name__
        command.__doc__ = function.__doc__
        command.__module__ = function.__module__
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
        return command

    return decorate


def _help_parameter(name: str, shown: frozenset[str], *flags: str) -> inspect.Parameter:
    """The option that shows help, in place of Click's; of the command's options only those in `shown`, unless that is
    empty."""

    def show(ctx: typer.Context, value: bool) -> None:
        if not value or ctx.resilient_parsing:
            return
        left_out = [p for p in ctx.command.params if shown and isinstance(p, TyperOption) and p.name not in shown]
        for param in left_out:
            param.hidden = True
        text = ctx.get_help()  # empty where it has been printed, as it is with rich
        for param in left_out:
            param.hidden = False
        typer.echo(text, nl=bool(text))
        raise typer.Exit

    text = "Show these common options, and exit." if shown else "Show all options, and exit."
    declared = typer.Option(
        *flags,
        help=text,
        is_eager=True,
        expose_value=False,
        callback=show,
        rich_help_panel="Global",
        show_default=False,
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, declared])


def _declare_plainly(parameter: inspect.Parameter) -> None:
    """Names the environment variables once, in the epilog, and no type beside a flag."""
    kind, declared, *_ = get_args(parameter.annotation)
    declared.show_envvar = False
    if isinstance(declared, OptionInfo) and bool in (kind, *get_args(kind)):
        declared.metavar = ""


def from_flag(ctx: typer.Context, parameter: str) -> bool:
    """Whether the value was typed, not exported."""
    source = ctx.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def _given(ctx: typer.Context, values: Mapping[str, object]) -> Given:
    flags: dict[str, object] = {}
    environment: dict[str, object] = {}
    for name, value in values.items():
        if value is not None:  # no parameter has a default here, so that what is there was given
            (flags if from_flag(ctx, name) else environment)[name] = value
    return Given(flags, environment)


def _extra(info: FieldInfo) -> dict[str, Any]:
    """The panel, unit and so on that `config.option` put into the field."""
    assert isinstance(info.json_schema_extra, dict)
    return info.json_schema_extra


def _parameter(name: str, info: FieldInfo, recipe: tuple[str, Mapping[str, object]]) -> inspect.Parameter:
    extra = _extra(info)
    kind, many = _kind(info.annotation)
    shared: dict[str, Any] = {
        "help": f"{info.description}{_default_text(name, info, str(extra['unit']), recipe)}",
        "envvar": environment_name(name),
        "show_default": False,
        "autocompletion": COMPLETIONS.get(name) or _choice_completion(kind),
    }
    annotation: Any = list[str] if many else bool if kind is bool else str
    if extra["argument"]:
        declared = typer.Argument(metavar=name.removesuffix("s").upper(), **shared)
    else:
        long = option_name(name)
        flags = [f"{long}/--no-{long[2:]}" if kind is bool else long]
        flags += [SHORT_FLAGS[name]] if name in SHORT_FLAGS else []
        metavar = METAVARS.get(name) or f"<{_kind_name(kind)}>"
        declared = typer.Option(*flags, metavar=metavar, rich_help_panel=extra["panel"], **shared)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation | None, declared]
    )


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type of one value, and whether there may be several."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0], True
    return annotation, False


def _kind_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return {"int": "int", "float": "float", "str": "text"}.get(kind.__name__, "path")


def _choice_completion(kind: Any) -> Callable[[str], list[str]] | None:
    if get_origin(kind) is not Literal:
        return None
    choices = get_args(kind)

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def _default_text(name: str, info: FieldInfo, unit: str, recipe: tuple[str, Mapping[str, object]]) -> str:
    """` [default: 512 images (recipe fast)]`, with the bracket escaped for rich's markup."""
    recipe_name, recipe_values = recipe
    value = recipe_values.get(name, info.default)
    if info.is_required():
        return " \\[required]"
    if value is None:
        if "default:" in (info.description or ""):
            return ""
        return f" \\[default: none{f'; in {unit}' if unit else ''}]"
    source = f" (recipe {recipe_name})" if name in recipe_values else ""
    unit = unit.removesuffix("s") if value == 1 else unit
    return f" \\[default: {_shown(value)}{f' {unit}' if unit else ''}{source}]"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
