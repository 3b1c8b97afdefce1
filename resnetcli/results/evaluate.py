"""A measurement on one split."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from resnetcli.results.base import SCHEMA_VERSION, Interval, Result


class ClassScore(Result):
    """One class, one against the rest. `accuracy` is the recall: the share of its images that were recognised."""

    name: str
    support: int
    predicted: int
    correct: int
    accuracy: Interval
    precision: float | None
    """None: no image was taken for this class."""
    f1: float | None
    """None: there are no images of this class."""


class ConfusedPair(Result):
    """`count` images of class `actual` were taken for `predicted`, which is `share` of that class."""

    actual: str
    predicted: str
    count: int
    share: float


class CalibrationBin(Result):
    """Images whose top probability lies in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float
    interval: Interval
    """Of the accuracy, which a few images do not tell well."""


class Uncalibrated(Result):
    """What `Scores` would say without the temperature."""

    nll: float
    ece: float


class Scores(Result):
    """Everything that follows from the answers to one split."""

    images: int
    top1: Interval
    top5: Interval
    nll: float
    ece: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Rows: actual class; columns: predicted class; images."""
    most_confused: tuple[ConfusedPair, ...]
    calibration: tuple[CalibrationBin, ...]


class Protocol(Result):
    """How an accuracy came about: without it the number means little."""

    data: str
    split: str
    chosen_by: str
    """The split that chose the weights: "val" (best epoch there), "none" (last epoch), "user" (named by hand) or
    "unknown" (a foreign file)."""
    tta: str
    interval: str = "95 % Wilson"


class Answer(NamedTuple):
    """One image of a split: its place there, class numbers, and the probability of the predicted class."""

    image: int
    label: int
    predicted: int
    confidence: float


class EvaluateResult(Result):
    schema_version: int = SCHEMA_VERSION
    command: str = "evaluate"
    checkpoint: str
    protocol: Protocol
    scores: Scores
    temperature: float | None = None
    """What the logits were divided by; None: nothing."""
    uncalibrated: Uncalibrated | None = None
    device: str
    precision: str
    seconds: float
    images_per_s: float
    files: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = Field(default=(), exclude=True, repr=False)
    """Image by image, for predictions.csv; not part of the JSON document."""
