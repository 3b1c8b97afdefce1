"""What all results have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 2


class Result(BaseModel):
    """Base of all results. Accuracies and probabilities are fractions in 0..1, times are seconds, sizes are bytes."""

    # A command makes a few of these, and building the validators of all takes 20 ms.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Interval(Result):
    """A share of `count` trials with its 95 % Wilson score interval."""

    value: float
    low: float
    high: float
    count: int
