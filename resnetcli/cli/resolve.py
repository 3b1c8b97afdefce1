"""Settings from several places to one frozen config: flags > environment > --config > recipe > defaults."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from resnetcli.cli.recipes import SettingsFile, read_recipe, read_settings
from resnetcli.config import base, commands, train
from resnetcli.config.base import ENV_PREFIX, Config
from resnetcli.config.train import ADDED_LATER, BUDGET_DECIDES, MAX_LR, TrainConfig
from resnetcli.errors import UsageError
from resnetcli.events import Notice
from resnetcli.spelling import suggestion

Origin = Literal["flag", "environment", "file", "recipe", "default", "scaled"]
"""Where a value came from; "scaled": the recipe's, for another batch size than the recipe's own."""
C = TypeVar("C", bound=Config)
T = TypeVar("T", bound=TrainConfig)

# Options that are no setting of any config, but have an environment variable all the same.
EXTRA_OPTIONS = ("json", "config", "resume", "extend", "dry_run", "force", "replay", "debug", "quiet")


@dataclass(frozen=True)
class Given:
    """What the command line and the environment said, by field name, before validation."""

    flags: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.flags or name in self.environment

    def get(self, name: str) -> object:
        return self.flags.get(name, self.environment.get(name))

    def words(self, name: str) -> str:
        """The value as it could be typed again."""
        return shlex.quote(str(self.get(name)))

    def without(self, names: Iterable[str]) -> Given:
        dropped = set(names)
        return Given(
            {name: value for name, value in self.flags.items() if name not in dropped},
            {name: value for name, value in self.environment.items() if name not in dropped},
        )


def resolve(model: type[C], given: Given) -> C:
    """The config of a command that knows neither files nor recipes.

    Raises UsageError, naming the option or the variable.
    """
    return _merge(model, given, file=None, recipe=None)[0]


def resolve_train(given: Given, config_file: Path | None) -> tuple[TrainConfig, dict[str, Origin]]:
    """The config of a training run, and where each of its values came from. Raises as `resolve_as_train` does."""
    config, origins = resolve_as_train(TrainConfig, given, config_file)
    rates = [name for name in ("lr", "sgd_lr") if origins[name] == "recipe"]
    if not rates or origins["batch_size"] in ("recipe", "default"):
        return config, origins
    factor = rate_factor(config, tuned_for(config.recipe))
    if factor == 1:
        return config, origins
    update = {name: min(factor * getattr(config, name), MAX_LR) for name in rates}
    scaled: dict[str, Origin] = dict.fromkeys(rates, "scaled")
    return config.model_copy(update=update), {**origins, **scaled}


def tuned_for(recipe: str) -> int:
    """The batch size that the learning rates of a recipe are for."""
    stated = read_recipe(recipe).values.get("batch_size")
    return stated if isinstance(stated, int) and stated > 1 else TrainConfig().batch_size


def rate_factor(config: TrainConfig, reference: int) -> float:
    """What the learning rates that were tuned for batches of `reference` images are multiplied with for those of
    `config`: the square root of the ratio, as Krizhevsky, "One weird trick for parallelizing convolutional neural
    networks" (2014, https://arxiv.org/abs/1404.5997), derives and Malladi et al., "On the SDEs and scaling rules for
    adaptive gradient algorithms" (2022, https://arxiv.org/abs/2205.10287), for Adam.

    Measured (one seed, fp32): `train --data cifar10-mini --epochs 1 --batch-size 32` has a training loss of 3.07 at the
    rates for 512, 2.07 at these, and 2.15 at rates in proportion; validation 24.0, 30.0 and 24.5 % of 200 images. With
    five blocks in place of thirteen and four epochs of some thousand images, 32 needs no scaling (1 to 2 points better
    than the root with Muon, Adam and SGD), and proportion is 2 to 7 points worse than the root. Larger batches: both
    helped Adam (at 512) and Muon (at 2,048), and SGD (lr 0.2 for 512) diverged at 2,048, so that it is never scaled up.
    """
    ratio = config.batch_size / reference
    return math.sqrt(min(ratio, 1.0) if config.optimizer == "sgd" else ratio)


def resolve_as_train(model: type[T], given: Given, config_file: Path | None) -> tuple[T, dict[str, Origin]]:
    """The config of a command that goes by the settings of a training run, and where each value came from.

    Raises UsageError for an unknown key, recipe or value and for a file that cannot be read.
    """
    file = None if config_file is None else read_settings(config_file, "--config")
    stated = given.get("recipe")
    if stated is None and file is not None:
        stated = file.values.get("recipe")
    name = TrainConfig.model_fields["recipe"].default if stated is None else stated
    if not isinstance(name, str):
        raise UsageError(f"recipe = {name!r} {_place(file, 'recipe')}: must be the name of a recipe or a TOML file")
    if file is not None and file.values.keys() >= TrainConfig.model_fields.keys() - set(ADDED_LATER):
        # The config.json of a run says everything: it must keep working where its recipe file has moved or changed.
        if "recipe" in given.flags and name != file.values["recipe"]:
            raise UsageError(
                f"--recipe {name}: {file.name} sets every value, so that the recipe would change nothing",
                "leave out --recipe or --config",
            )
        return _merge(model, given, file, recipe=None)
    return _merge(model, given, file, read_recipe(name))


def option_name(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def environment_name(name: str) -> str:
    return f"{ENV_PREFIX}{name.upper()}"


def option_fields(model: type[Config]) -> dict[str, FieldInfo]:
    """The fields that are options. A stored config may have others, which only the program writes."""
    return {name: info for name, info in model.model_fields.items() if isinstance(info.json_schema_extra, dict)}


def environment_notices(environ: Mapping[str, str]) -> list[Notice]:
    """One warning for each RESNETCLI_ variable that no command reads."""
    everything = [value for module in (base, commands, train) for value in vars(module).values()]
    models = [value for value in everything if isinstance(value, type) and issubclass(value, Config)]
    known = {environment_name(name) for model in models for name in option_fields(model)}
    known |= {environment_name(name) for name in EXTRA_OPTIONS}
    return [
        Notice(f"the environment variable {name} is not one of ours and changes nothing{suggestion(name, known)}", True)
        for name in sorted(environ)
        if name.startswith(ENV_PREFIX) and name not in known
    ]


def _merge(
    model: type[C], given: Given, file: SettingsFile | None, recipe: SettingsFile | None
) -> tuple[C, dict[str, Origin]]:
    """Lay the layers over each other, weakest first, and validate once."""
    for source in (recipe, file):
        if source is not None:
            _check_keys(model, source)
    if recipe is not None and "recipe" in recipe.values:
        raise UsageError(
            f"recipe = {recipe.values['recipe']!r} {_place(recipe, 'recipe')}: a recipe cannot name another"
        )
    for name, value in given.flags.items():
        if value == "":
            raise UsageError(
                f"{option_name(name)} got an empty value", f"give a value, or leave {option_name(name)} out"
            )

    values: dict[str, object] = {}
    origins: dict[str, Origin] = dict.fromkeys(model.model_fields, "default")
    layers: list[tuple[Origin, Mapping[str, object]]] = [
        ("recipe", recipe.values if recipe is not None else {}),
        ("file", file.values if file is not None else {}),
        ("environment", given.environment),
        ("flag", given.flags),
    ]
    for origin, layer in layers:
        for name, value in layer.items():
            values[name] = value
            origins[name] = origin
    places = {"file": file, "recipe": recipe}
    if values.get("budget") is not None:
        _budget_or_epochs(model, values, origins, places)
    said = ("flag", "environment")
    if "extensions" in values and (origins["epochs"] in said or (values.get("budget") and origins["budget"] in said)):
        # They say how the file's number of epochs came about, and another was asked for.
        del values["extensions"]
        origins["extensions"] = "default"
    try:
        return model.model_validate(values), origins
    except ValidationError as error:
        problems = [_problem(model, details, values, origins, places) for details in error.errors(include_url=False)]
        raise UsageError("; ".join(dict.fromkeys(text for text, _ in problems)), problems[0][1]) from None


def _budget_or_epochs(
    model: type[Config],
    values: dict[str, object],
    origins: dict[str, Origin],
    places: Mapping[str, SettingsFile | None],
) -> None:
    """Drops a budget where epochs were said in a stronger place. Raises UsageError where a budget is told in its own
    place, or a stronger one, what it has to choose."""
    strength = ("default", "recipe", "file", "environment", "flag").index
    if strength(origins["epochs"]) > strength(origins["budget"]):
        values["budget"], origins["budget"] = None, origins["epochs"]
        return
    for name in BUDGET_DECIDES:
        if strength(origins[name]) >= strength(origins["budget"]):
            budget, other = (_label(model, n, values[n], origins[n], places) for n in ("budget", name))
            raise UsageError(f"{budget} beside {other}: a budget chooses it", "leave out one of them")


def _check_keys(model: type[Config], source: SettingsFile) -> None:
    for key in source.values:
        if key not in model.model_fields:
            near = suggestion(key, model.model_fields)
            if isinstance(source.values[key], dict):
                raise UsageError(
                    f"unknown key {key!r} {_place(source, key)}: a table, and settings have none",
                    f"write the keys of [{key}] at the top of the file, without the table's name",
                )
            raise UsageError(
                f"unknown key {key!r} {_place(source, key)}{near}",
                "the keys are the long options of `resnetcli train`, with _ for -",
            )


def _problem(
    model: type[Config],
    details: Any,
    values: Mapping[str, object],
    origins: Mapping[str, Origin],
    places: Mapping[str, SettingsFile | None],
) -> tuple[str, str]:
    """One pydantic error as (message, hint), naming the option, variable or key by which the value came."""
    if not details["loc"]:
        return str(details["ctx"]["error"]), ""  # a combination of settings: its message names them and their values
    name = str(details["loc"][0])
    info = model.model_fields[name]
    if details["type"] == "missing":
        return f"{name.replace('_', ' ')}: nothing given", ""
    value = values[name]
    label = _label(model, name, value, origins[name], places)
    # Those of `Literal[…]`, and of `Literal[…] | None` too.
    parts = (info.annotation, *get_args(info.annotation))
    choices = [choice for part in parts for choice in get_args(part) if isinstance(choice, str)]
    if choices:
        return f"{label}: must be one of {', '.join(choices)}{suggestion(str(value), choices)}", ""
    hint = info.description or "" if details["type"] == "string_pattern_mismatch" else ""
    return f"{label}: {_requirement(details)}", hint


def _label(
    model: type[Config], name: str, value: object, origin: Origin, places: Mapping[str, SettingsFile | None]
) -> str:
    """A setting as its option, variable or key said it."""
    if origin == "flag":
        extra = model.model_fields[name].json_schema_extra
        argument = isinstance(extra, dict) and extra.get("argument")
        return f"{name.upper() if argument else option_name(name)} {value}"
    if origin == "environment":
        return f"{environment_name(name)}={value}"
    return f"{name} = {value!r} {_place(places[origin], name)}"


def _requirement(details: Any) -> str:
    """What pydantic says, in the words of this program."""
    kind = details["type"]
    if kind.startswith("int_"):
        return "must be a whole number"
    if kind.startswith("float_"):
        return "must be a number"
    if kind.startswith("bool_"):
        return "must be true or false"
    if kind == "finite_number":
        return "must be finite"
    if kind == "string_pattern_mismatch":
        return "is not in a form that is understood"
    if kind in ("string_type", "path_type"):
        return "must be text"
    return re.sub(r"^(Input|String|Value) should ", "must ", str(details["msg"]))


def _place(source: SettingsFile | None, key: str) -> str:
    return "" if source is None else source.place(key)
