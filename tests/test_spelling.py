"""Suggestions: the right word where there is one, and none where a wrong one would mislead."""

from __future__ import annotations

from typing import get_args

import pytest

from resnetcli.cli.recipes import recipe_names
from resnetcli.cli.resolve import environment_name, option_name
from resnetcli.config.base import DatasetName, Precision, SplitName, StoredPrecision
from resnetcli.config.train import TrainConfig
from resnetcli.spelling import distance, nearest, suggestion

KEYS = tuple(TrainConfig.model_fields)
KNOWN: dict[str, tuple[str, ...]] = {
    "key": KEYS,
    "option": tuple(map(option_name, KEYS)),
    "variable": tuple(map(environment_name, KEYS)),
    "precision": get_args(Precision),
    "stored": get_args(StoredPrecision),
    "split": get_args(SplitName),
    "data": get_args(DatasetName),
    "optimizer": ("muon", "sgd", "adam", "adamw"),
    "recipe": tuple(recipe_names()),
    "command": ("train", "evaluate", "predict", "inspect", "compare", "data", "checkpoints", "bench"),
}
MEANT = [
    ("key", "epoch", "epochs"), ("key", "batch-size", "batch_size"), ("key", "batchsize", "batch_size"),
    ("key", "dataset", "data"), ("key", "optim", "optimizer"), ("key", "optimiser", "optimizer"),
    ("key", "warmup", "warmup_epochs"), ("key", "seeds", "seed"), ("key", "weightdecay", "weight_decay"),
    ("key", "LR", "lr"), ("key", "label_smooth", "label_smoothing"), ("key", "scheduler", "schedule"),
    ("option", "--epoch", "--epochs"), ("option", "--budgte", "--budget"), ("option", "--thread", "--threads"),
    ("variable", "RESNETCLI_EPOCH", "RESNETCLI_EPOCHS"), ("variable", "RESNETCLI_LRR", "RESNETCLI_LR"),
    ("precision", "fp23", "fp32"), ("precision", "BF16", "bf16"), ("stored", "pf16", "fp16"),
    ("split", "tset", "test"), ("split", "validation", "val"), ("split", "training", "train"),
    ("data", "cifar", "cifar10"), ("data", "cifar-10", "cifar10"), ("data", "cifar10_mini", "cifar10-mini"),
    ("optimizer", "sdg", "sgd"), ("optimizer", "AdamW", "adamw"), ("recipe", "fats", "fast"),
    ("recipe", "balance", "balanced"), ("command", "trian", "train"), ("command", "eval", "evaluate"),
    ("command", "checkpoint", "checkpoints"),
]  # fmt: skip
NOT_MEANT = [
    ("key", "train"), ("key", "model"), ("key", "training"), ("key", "bs"), ("key", "wd"), ("key", "config"),
    ("option", "--bogus"), ("option", "--verbose"),
    ("variable", "RESNETCLI_TRAIN"), ("variable", "RESNETCLI_XX"), ("variable", "RESNETCLI_URL"),
    ("precision", "fp16"), ("precision", "tf32"), ("precision", "half"), ("stored", "fp8"), ("stored", "int8"),
    ("data", "cifar100"), ("data", "mnist"), ("optimizer", "lamb"), ("optimizer", "lion"), ("recipe", "quick"),
    ("recipe", "slow"), ("command", "test"), ("command", "export"), ("command", ""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "word", "expected"), MEANT)
def test_a_slip_an_abbreviation_and_a_longer_form_are_understood(kind: str, word: str, expected: str) -> None:
    assert nearest(word, KNOWN[kind]) == expected
    assert suggestion(word, KNOWN[kind]) == f": did you mean {expected}?"


@pytest.mark.parametrize(("kind", "word"), NOT_MEANT)
def test_what_only_looks_alike_is_not_suggested(kind: str, word: str) -> None:
    assert nearest(word, KNOWN[kind]) is None
    assert suggestion(word, KNOWN[kind]) == ""


@pytest.mark.parametrize(
    ("a", "b", "steps"), [("", "", 0), ("abc", "", 3), ("abc", "acb", 1), ("abc", "abd", 1), ("ab", "ba", 1)]
)
def test_the_distance_counts_slips(a: str, b: str, steps: int) -> None:
    assert distance(a, b) == distance(b, a) == steps
