"""Data sets, fetched, checked and looked at."""

from __future__ import annotations

from pydantic import Field

from resnetcli.results.base import SCHEMA_VERSION, Result


class BatchCheck(Result):
    """One batch of CIFAR-10 held against its canonical digest."""

    name: str
    images: int
    sha256: str
    ok: bool


class DataResult(Result):
    """Answer of `data download` and `data verify`."""

    schema_version: int = SCHEMA_VERSION
    command: str
    data: str
    path: str
    source: str
    size: int
    seconds: float
    batches: tuple[BatchCheck, ...] = ()
    class_counts: dict[str, int] = Field(default_factory=dict)
    """Training images of each class."""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    """Of the training images per channel, in 0..255."""


class DataShowResult(Result):
    schema_version: int = SCHEMA_VERSION
    command: str = "data show"
    data: str
    split: str
    labels: tuple[str, ...]
    indices: tuple[int, ...]
    written: str | None = None
