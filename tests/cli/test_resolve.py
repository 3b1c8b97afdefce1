"""Where a setting comes from: flags > environment > --config > recipe > defaults."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from resnetcli.cli.recipes import read_recipe, recipe_names
from resnetcli.cli.resolve import Given, environment_notices, resolve, resolve_train
from resnetcli.config.base import DEFAULT_RECIPE
from resnetcli.config.commands import EvaluateConfig
from resnetcli.config.train import TrainConfig
from resnetcli.errors import UsageError


def _write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    return _write(tmp_path / "slow.toml", "# a recipe of mine\nepochs = 50\nlr = 0.5\nflip = false\n")


# flag, environment, file, recipe (given or not) -> who decides
PRECEDENCE = [
    ("7", "6", 5, True, 7, "flag"),
    (None, "6", 5, True, 6, "environment"),
    (None, None, 5, True, 5, "file"),
    (None, None, None, True, 50, "recipe"),
    (None, None, None, False, TrainConfig.model_fields["epochs"].default, "default"),
    ("7", None, None, False, 7, "flag"),
    ("7", None, 5, False, 7, "flag"),
    (None, "6", None, True, 6, "environment"),
]


@pytest.mark.parametrize(("flag", "environment", "file", "in_recipe", "epochs", "origin"), PRECEDENCE)
def test_the_strongest_source_decides(
    flag: str | None,
    environment: str | None,
    file: int | None,
    in_recipe: bool,
    epochs: int,
    origin: str,
    tmp_path: Path,
) -> None:
    recipe = _write(tmp_path / "r.toml", "epochs = 50\n" if in_recipe else "lr = 0.5\n")
    config_file = None if file is None else Path(_write(tmp_path / "c.toml", f"epochs = {file}\n"))
    flags = {"recipe": recipe} | ({} if flag is None else {"epochs": flag})
    config, origins = resolve_train(Given(flags, {} if environment is None else {"epochs": environment}), config_file)
    assert (config.epochs, origins["epochs"]) == (epochs, origin)
    assert origins["recipe"] == "flag"
    assert origins.keys() == TrainConfig.model_fields.keys()


def test_recipe_may_be_named_in_the_file_and_in_the_environment(recipe: str, tmp_path: Path) -> None:
    file = Path(_write(tmp_path / "c.toml", f"recipe = '{recipe}'\nlr = 0.25\n"))
    config, origins = resolve_train(Given(), file)
    assert (config.epochs, config.lr, config.flip) == (50, 0.25, False)
    assert (origins["recipe"], origins["epochs"], origins["lr"]) == ("file", "recipe", "file")
    config, origins = resolve_train(Given(environment={"recipe": recipe}), None)
    assert (config.epochs, origins["recipe"]) == (50, "environment")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 5\n", r"unknown key 'epoch' in .*c\.toml, line 1: did you mean epochs\?"),
        ("lr = 1\nbatch-size = 5\n", r"unknown key 'batch-size' in .*, line 2: did you mean batch_size\?"),
        ("[train]\nlr = 1\n", r"unknown key 'train' in .*, line 1: a table, and settings have none$"),
        ("train = 1\n", r"unknown key 'train' in .*, line 1$"),
        ("lr = 1\nlr = 2\n", r"not valid TOML: .*line 2"),
        ("lr = -1\n", r"lr = -1 in .*c\.toml, line 1: must be greater than 0"),
        ("lr = nan\n", r"lr = nan in .*: must be finite"),
        ("epochs = 1.5\n", r"epochs = 1.5 in .*: must be a whole number"),
        ("device = 'tpu'\n", r"device = 'tpu' in .*: is not in a form"),
        ("recipe = 3\n", r"recipe = 3 in .*: must be the name of a recipe"),
        ("grad_accum = 3\n", r"grad_accum 3 does not divide batch_size"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(text: str, message: str, recipe: str, tmp_path: Path) -> None:
    path = Path(_write(tmp_path / "c.toml", text))
    given = Given() if "recipe" in text else Given({"recipe": recipe})
    with pytest.raises(UsageError, match=message):
        resolve_train(given, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[1, 2]", "one JSON object"),
        (b"{", "not valid JSON, line 1"),
        (b"[" * 60_000, "cannot be parsed"),
        (b"", "not valid JSON"),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        resolve_train(Given(), path)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("deep.toml", "a" + ".a" * 101 + " = 1\n", "line 1 has more than 100 dots"),
        ("quoted.toml", 'epochs = 1\n"\u2028"' + ' . "\u2028"' * 101 + " = 1\n", "line 2 has more than 100 dots"),
        ("header.toml", "[a" + ".a" * 20_000 + "]\n", "line 1 has more than 100 dots"),
        ("long.toml", "# " + "x" * 2**16, "more than 65,536 bytes"),
        ("long.json", '{"epochs":' + " " * 2**16 + "3}", "more than 65,536 bytes"),
        ("lists.json", "[" * 60_000, "nested too deeply"),
        ("twice.json", '{"epochs": 3, "lr": 0.1, "epochs": 30}', "the key 'epochs' is there twice"),
    ],
)
def test_a_settings_file_that_would_be_costly_or_says_two_things_is_refused(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        resolve_train(Given(), Path(_write(tmp_path / name, text)))


def test_dots_in_a_comment_and_in_a_path_are_no_parts_of_a_key(tmp_path: Path) -> None:
    text = f"# {'.' * 200}\ncache_dir = '{'../' * 60}cache'\nepochs = 50 # e.g. as in {'etc. ' * 90}\n"
    assert resolve_train(Given(), Path(_write(tmp_path / "c.toml", text)))[0].epochs == 50


def test_a_device_as_config_is_refused_and_a_pipe_is_read_as_a_shell_gives_it() -> None:
    with pytest.raises(UsageError, match="not a file"):
        resolve_train(Given(), Path("/dev/zero"))
    reader, writer = os.pipe()
    os.write(writer, b"epochs = 50\n")
    os.close(writer)
    try:
        assert resolve_train(Given(), Path(f"/dev/fd/{reader}"))[0].epochs == 50
    finally:
        os.close(reader)


def test_a_folder_as_config_points_to_the_config_json_inside(tmp_path: Path) -> None:
    _write(tmp_path / "config.json", "{}")
    with pytest.raises(UsageError, match="not a file") as caught:
        resolve_train(Given(), tmp_path)
    assert "config.json" in caught.value.hint


def test_an_unknown_recipe_suggests_and_lists() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'fats': did you mean fast") as caught:
        read_recipe("fats")
    assert all(name in caught.value.hint for name in recipe_names())


def test_a_recipe_cannot_name_another(tmp_path: Path) -> None:
    path = _write(tmp_path / "r.toml", "recipe = 'fast'\n")
    with pytest.raises(UsageError, match="cannot name another"):
        resolve_train(Given({"recipe": path}), None)


@pytest.mark.parametrize("name", [DEFAULT_RECIPE, *(name for name in recipe_names() if name != DEFAULT_RECIPE)])
def test_every_packaged_recipe_is_valid_and_says_in_a_comment_what_it_is(name: str) -> None:
    config, origins = resolve_train(Given({"recipe": name}), None)
    assert config.recipe == name
    assert "recipe" in origins.values()
    assert read_recipe(name).text.startswith("#")


def test_an_unknown_variable_is_pointed_out_with_the_right_one() -> None:
    notices = environment_notices({"RESNETCLI_LRR": "1", "RESNETCLI_LR": "1", "HOME": "/"})
    assert [notice.warning for notice in notices] == [True]
    assert "did you mean RESNETCLI_LR?" in notices[0].text


def test_flags_and_variables_are_named_in_messages() -> None:
    with pytest.raises(UsageError, match=r"^--threads -1: must be greater than or equal to 0$"):
        resolve(EvaluateConfig, Given({"checkpoint": "x", "threads": "-1"}))
    with pytest.raises(
        UsageError, match=r"^RESNETCLI_SPLIT=tset: must be one of test, val, train: did you mean test\?"
    ):
        resolve(EvaluateConfig, Given({"checkpoint": "x"}, {"split": "tset"}))
    with pytest.raises(UsageError, match=r"^--precision fp16: must be one of auto, fp32, bf16$"):
        resolve(EvaluateConfig, Given({"checkpoint": "x", "precision": "fp16"}))
    with pytest.raises(UsageError, match="--output got an empty value"):
        resolve(EvaluateConfig, Given({"checkpoint": "x", "output": ""}))


def _any_value(name: str) -> st.SearchStrategy[Any]:
    info = TrainConfig.model_fields[name]
    adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
    numbers = st.one_of(
        st.integers(-2, 2**63), st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1), st.integers(0, 64)
    )
    words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
    choices = st.sampled_from(["cpu", "cuda:3", "cifar10-mini", "muon", "cosine", "zero", "projection", "bf16", "npm"])

    def fits(value: object) -> bool:
        try:
            adapter.validate_python(value)
        except ValueError:
            return False
        return True

    # What does not fit becomes the default: of most fields most values do not, and filtering them out takes for ever.
    anything = st.one_of(numbers, words, choices, st.booleans(), st.none())
    return anything.map(lambda value: value if fits(value) else info.default)


@st.composite
def _configs(draw: st.DrawFn) -> TrainConfig:
    names = draw(st.sets(st.sampled_from(sorted(TrainConfig.model_fields)), max_size=6))
    values = {name: draw(_any_value(name)) for name in names - {"budget"}}  # a run's config says what it came to
    try:
        return TrainConfig.model_validate(values)
    except ValueError:  # a combination that does not hold
        return TrainConfig()


@settings(deadline=None, max_examples=60)
@hypothesis_given(config=_configs())
def test_the_config_json_of_any_run_gives_the_same_config_back(
    config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "config.json"
    path.write_text(config.model_dump_json(indent=2), encoding="utf-8")
    again, origins = resolve_train(Given(), path)
    assert again == config
    assert set(origins.values()) == {"file"}


def test_a_complete_file_leaves_a_recipe_on_the_command_line_nothing_to_say(tmp_path: Path) -> None:
    path = Path(_write(tmp_path / "config.json", json.dumps(TrainConfig().model_dump(mode="json"))))
    with pytest.raises(UsageError, match="the recipe would change nothing"):
        resolve_train(Given({"recipe": "seed"}), path)
    config, origins = resolve_train(Given({"epochs": "3"}), path)
    assert (config.epochs, origins["epochs"]) == (3, "flag")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=100)
@hypothesis_given(values=st.dictionaries(st.sampled_from([*sorted(TrainConfig.model_fields), "x"]), _json, max_size=4))
def test_a_settings_file_of_anything_is_a_config_or_an_error_of_one_line(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    message = ""
    try:
        config, _ = resolve_train(Given(), path)
        assert TrainConfig.model_validate(config.model_dump()) == config
    except UsageError as error:
        message = error.message
    assert "Traceback" not in message
    assert len(message) < 5000


BUDGETS = [  # flags, environment, --config, the recipe's own: what decides, budget or epochs
    ({"budget": "15"}, {}, "", "epochs = 50", "budget"),
    ({"budget": "15"}, {}, "epochs = 5", "", "budget"),
    ({"budget": "15"}, {"epochs": "5"}, "", "", "budget"),
    ({"epochs": "5"}, {"budget": "15"}, "", "", "epochs"),
    ({}, {"epochs": "5"}, "budget = 15", "", "epochs"),
    ({}, {}, "epochs = 5", "budget = 15", "epochs"),
    ({}, {}, "", "budget = 15", "budget"),
    ({"budget": "15", "epochs": "5"}, {}, "", "", None),
    ({}, {"budget": "15", "epochs": "5"}, "", "", None),
    ({}, {}, "budget = 15\nepochs = 5", "", None),
    ({"budget": "15", "start_size_until": "0.5"}, {}, "", "", None),
    ({"start_size_until": "0.5"}, {"budget": "15"}, "", "", None),
]


@pytest.mark.parametrize(("flags", "environment", "file", "recipe_text", "decides"), BUDGETS)
def test_a_budget_and_a_number_of_epochs_exclude_each_other_where_they_are_said_as_strongly(
    flags: dict[str, str], environment: dict[str, str], file: str, recipe_text: str, decides: str | None, tmp_path: Path
) -> None:
    given = Given({"recipe": _write(tmp_path / "r.toml", recipe_text), **flags}, environment)
    path = Path(_write(tmp_path / "c.toml", file))
    if decides is None:
        with pytest.raises(UsageError, match=r"(?i)budget.*15.* beside .*: a budget chooses it"):
            resolve_train(given, path)
        return
    config, _ = resolve_train(given, path)
    assert config.budget == (15 if decides == "budget" else None)
    if decides == "epochs":
        assert config.epochs == 5


@pytest.mark.parametrize(
    ("flags", "epochs", "kept"),
    [({}, 20, True), ({"lr": "1"}, 20, True), ({"epochs": "30"}, 30, False), ({"budget": "5"}, 20, False)],
)
def test_the_config_of_an_extended_run_repeats_it_unless_other_epochs_are_asked_for(
    flags: dict[str, str], epochs: int, kept: bool, tmp_path: Path
) -> None:
    extension = {"epoch": 10, "step": 0, "epochs": 10, "policy": "restart"}
    stored = TrainConfig(epochs=20).model_dump(mode="json") | {"extensions": [extension]}
    config, origins = resolve_train(Given(flags), Path(_write(tmp_path / "config.json", json.dumps(stored))))
    assert config.epochs == epochs
    assert [e.model_dump() for e in config.extensions] == kept * [extension]
    assert origins["extensions"] == ("file" if kept else "default")


def test_extensions_are_no_option_and_no_variable() -> None:
    assert len(environment_notices({"RESNETCLI_EXTENSIONS": "x", "RESNETCLI_EXTEND": "stretch"})) == 1


SCALED = [  # flags, environment, --config: lr and sgd_lr as shares of the recipe's, and where lr comes from
    ({}, {}, "", 1, 1, "recipe"),
    ({"batch_size": "512"}, {}, "", 1, 1, "recipe"),
    ({"batch_size": "32"}, {}, "", 0.25, 0.25, "scaled"),
    ({"batch_size": "2048"}, {}, "", 2, 2, "scaled"),
    ({}, {"batch_size": "128"}, "", 0.5, 0.5, "scaled"),
    ({}, {}, "batch_size = 128", 0.5, 0.5, "scaled"),
    ({"batch_size": "32", "lr": "0.08"}, {}, "", 1, 0.25, "flag"),
    ({"batch_size": "32"}, {"sgd_lr": "0.012"}, "", 0.25, 1, "scaled"),
    ({"batch_size": "32"}, {}, "lr = 0.08", 1, 0.25, "file"),
    ({"batch_size": "2048", "optimizer": "sgd"}, {}, "", 1, 1, "recipe"),
    ({"batch_size": "128", "optimizer": "sgd"}, {}, "", 0.5, 0.5, "scaled"),
]


@pytest.mark.parametrize("stated", ["'many'", "-5", "true", "[]"])
def test_a_recipe_of_no_batch_size_that_makes_sense_is_no_bug_where_another_is_stated(
    stated: str, tmp_path: Path
) -> None:
    recipe = _write(tmp_path / "r.toml", f"batch_size = {stated}\nlr = 900.0")
    config, _ = resolve_train(Given({"recipe": recipe, "batch_size": "4096", "optimizer": "adam"}), None)
    assert config.lr == 1000  # the largest that there is


@pytest.mark.parametrize(("flags", "environment", "file", "lr", "sgd_lr", "origin"), SCALED)
def test_rates_of_a_recipe_are_scaled_for_another_batch_size_and_stated_ones_never(
    flags: dict[str, str], environment: dict[str, str], file: str, lr: float, sgd_lr: float, origin: str, tmp_path: Path
) -> None:
    text = "batch_size = 512\nlr = 0.08\nsgd_lr = 0.012\noptimizer = 'muon'"
    given = Given({"recipe": _write(tmp_path / "r.toml", text), **flags}, environment)
    config, origins = resolve_train(given, Path(_write(tmp_path / "c.toml", file)))
    assert (config.lr, config.sgd_lr) == (0.08 * lr, 0.012 * sgd_lr)
    assert origins["lr"] == origin
    stored = Path(_write(tmp_path / "config.json", config.model_dump_json()))
    assert resolve_train(Given(), stored)[0] == config  # which has the rates that were used
    again = resolve_train(Given({"batch_size": "16"}), stored)[0]
    assert (again.lr, again.sgd_lr) == (config.lr, config.sgd_lr)


def test_the_config_of_an_earlier_version_still_says_everything(tmp_path: Path) -> None:
    """It lacks what was added since, and its recipe may be gone."""
    config = TrainConfig(recipe="gone.toml", epochs=7).model_dump(mode="json")
    del config["budget"], config["allow_slow"], config["allow_oversubscription"], config["soft_lock"]
    again, _ = resolve_train(Given(), Path(_write(tmp_path / "config.json", json.dumps(config))))
    assert again == TrainConfig(recipe="gone.toml", epochs=7)
