"""Answers for pictures."""

from __future__ import annotations

from pydantic import Field

from resnetcli.results.base import SCHEMA_VERSION, Result


class Guess(Result):
    label: str
    probability: float


class Prediction(Result):
    """The answer for one picture, or why there is none (`error`); `notices` say what was done to it first, and whether
    it looks like none of the classes."""

    path: str
    guesses: tuple[Guess, ...] = ()
    strangeness: float | None = None
    """How far the picture's looks are from those of the images that the checkpoint knows; None: it does not say."""
    notices: tuple[str, ...] = ()
    error: str | None = None


class LeftOut(Result):
    """What lay in the folders that were named and is not among the predictions."""

    kinds: dict[str, int] = Field(default_factory=dict)
    """Images of kinds that cannot be read: how many of each suffix."""
    linked_folders: int = 0
    """Folders that are links; they are not entered."""


class PredictResult(Result):
    schema_version: int = SCHEMA_VERSION
    command: str = "predict"
    checkpoint: str
    test_top1: float | None = None
    """Accuracy on the test split that the checkpoint states of itself, single view; None: it states none."""
    tta: str
    precision: str
    temperature: float | None = None
    """What the logits were divided by; None: nothing."""
    strangeness_threshold: float | None = None
    """Within it lie 99 % of the images that the checkpoint knows."""
    predictions: tuple[Prediction, ...]
    pictures: int
    failed: int
    left_out: LeftOut = Field(default_factory=LeftOut)
