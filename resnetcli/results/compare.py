"""Two checkpoints on the same images."""

from __future__ import annotations

from typing import Literal

from resnetcli.results.base import SCHEMA_VERSION, Interval, Result


class Difference(Result):
    """Accuracy of B minus accuracy of A on the same `count` images, with its 95 % interval; within -1..1."""

    value: float
    low: float
    high: float
    count: int


class PairedClass(Result):
    """One class as A and B recognise it. `p` is for this class alone; `p_holm` allows for there being several."""

    name: str
    support: int
    a: Interval
    b: Interval
    only_a: int
    only_b: int
    difference: Difference
    p: float
    p_holm: float


class Paired(Result):
    """What follows from the answers of A and of B to the same images."""

    images: int
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    difference: Difference
    p: float
    """McNemar's test, mid-p."""
    p_exact: float
    """McNemar's test, exact and conditional: never too small, and a little larger than it need be."""
    better: Literal["A", "B"] | None
    """None: the test and the interval do not both tell them apart at 5 %."""
    classes: tuple[PairedClass, ...]


class Compared(Result):
    """One side of a comparison."""

    checkpoint: str
    chosen_by: str
    """As in `Protocol`."""
    may_have_seen: bool
    """Whether it may have been trained on images of this split, which would flatter it."""
    top1: Interval
    top5: Interval
    nll: float
    ece: float
    temperature: float | None = None
    """As in `EvaluateResult`."""


class DifferentAnswer(Result):
    """An image that A and B take for different classes; `image` is its place in the split, from 0."""

    image: int
    label: str
    a: str
    b: str
    right: Literal["A", "B"] | None


class CompareResult(Result):
    schema_version: int = SCHEMA_VERSION
    command: str = "compare"
    a: Compared
    b: Compared
    data: str
    split: str
    tta: str
    interval: str = "95 % Wilson"
    difference_interval: str = "95 % Tango score"
    test: str = "McNemar, exact binomial, mid-p"
    paired: Paired
    differences: tuple[DifferentAnswer, ...]
    """All of them, in the order of the split."""
    device: str
    precision: str
    seconds: float
    files: tuple[str, ...] = ()
