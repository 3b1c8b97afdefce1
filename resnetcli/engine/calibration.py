"""A temperature for the logits, so that probabilities mean what they say."""

from __future__ import annotations

import math

from torch import Tensor

from resnetcli.results.checkpoints import MAX_TEMPERATURE, MIN_TEMPERATURE, Calibration


def calibrate(logits: Tensor, labels: Tensor) -> Calibration | None:
    """The temperature for logits float[N,C] of the validation split and its labels int64[N]; None where a logit is not
    finite."""
    if not logits.isfinite().all():
        return None
    return Calibration(temperature=fit_temperature(logits, labels), images=len(labels))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T for which softmax(logits / T) has the least mean cross-entropy on labels int64[N]; logits float[N,C].

    Guo et al., "On Calibration of Modern Neural Networks" (2017, https://arxiv.org/abs/1706.04599), section 4.2. The
    cross-entropy is convex in 1/T, so that bisection on the sign of its slope, in float64, ends at the minimum: there
    the mean logit of the label equals the one that the probabilities expect. Where the minimum lies outside of
    MIN_TEMPERATURE..MAX_TEMPERATURE (every answer right: at 0), the nearer end; where T changes nothing, 1. Raises
    ValueError without images.
    """
    if not len(labels):
        raise ValueError("no images to fit a temperature on")
    logits = logits.double()
    logits = logits - logits.amax(1, keepdim=True)
    of_label = logits.gather(1, labels[:, None])[:, 0]

    def slope(log_temperature: float) -> float:
        """Of the cross-entropy in 1/T."""
        probabilities = (logits / math.exp(log_temperature)).softmax(1)
        return ((probabilities * logits).sum(1) - of_label).mean().item()

    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    if not logits.any():
        return 1.0
    if slope(low) <= 0:
        return MIN_TEMPERATURE
    if slope(high) >= 0:
        return MAX_TEMPERATURE
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return min(max(math.exp(low), MIN_TEMPERATURE), MAX_TEMPERATURE)


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature) of logits float[N,C], float64[N,C]."""
    return (logits.double() / temperature).softmax(1)
