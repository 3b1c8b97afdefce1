"""Answers for pictures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from resnetcli.results.base import SCHEMA_VERSION, Result

NoticeKind = Literal["first_frame", "metadata", "colours", "upright", "cropped", "resized", "out_of_distribution"]
"""What a notice is about: the frame that was taken; metadata that were ignored; colours that were converted, and
transparency; the picture turned upright; cropped to a square and resized; resized; unlike all that is known."""


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
    notice_kinds: tuple[NoticeKind, ...] = ()
    """Of each notice, what it is about."""
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
    top_k: int
    """Classes in the answer for each picture."""
    image_size: int
    """Pixels a side of what the network sees."""
    temperature: float | None = None
    """What the logits were divided by; None: nothing."""
    strangeness_threshold: float | None = None
    """Within it lie 99 % of the images that the checkpoint knows."""
    predictions: tuple[Prediction, ...]
    pictures: int
    failed: int
    interrupted: bool = False
    """Whether a signal came before the last picture: those that were answered by then are here."""
    left_out: LeftOut = Field(default_factory=LeftOut)
