"""Answers for pictures."""

from __future__ import annotations

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
