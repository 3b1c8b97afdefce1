"""A temperature for the logits, so that probabilities mean what they say."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from resnetcli.results.checkpoints import MAX_TEMPERATURE, MIN_TEMPERATURE, Calibration, at_bound, earned

FOLDS = 5
FOLD_TOLERANCE = 1e-4
"""Of the temperatures of the folds; a gain does not see less."""


def calibrate(logits: Tensor, labels: Tensor) -> Calibration | None:
    """The temperature for logits float[N,C] of the validation split and its labels int64[N].

    None where a logit is not finite, where the best temperature lies at or beyond a bound, and where images that a
    temperature was not fitted on do not gain by it: see `earned`.
    The fit itself always gains on its own images, and on few or easy ones that is all it does.
    """
    if len(labels) < FOLDS or not logits.isfinite().all():
        return None
    temperature = fit_temperature(logits, labels)
    if at_bound(temperature):
        return None
    known = judged(Calibration(temperature=temperature, images=len(labels)), logits, labels)
    return known if earned(known) else None


def judged(known: Calibration, logits: Tensor, labels: Tensor) -> Calibration:
    """`known`, which was fitted on logits float[N,C] and labels int64[N], with the mean gain of images held out of such
    a fit, in nats, and its standard error."""
    gains = held_out_gains(logits, labels)
    error = (gains.std() / math.sqrt(len(gains))).item()
    return known.model_copy(update={"gain": gains.mean().item(), "gain_error": error})


def held_out_gains(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much each image's cross-entropy falls, in nats, with the temperature of the folds that it is not in:
    float64[N] of logits float[N,C] and labels int64[N], N at least FOLDS. Every FOLDS-th image is in one fold."""
    fold = torch.arange(len(labels), device=labels.device) % FOLDS
    gains = torch.empty(len(labels), dtype=torch.float64, device=labels.device)
    for held_out in (fold == number for number in range(FOLDS)):
        temperature = fit_temperature(logits[~held_out], labels[~held_out], FOLD_TOLERANCE)
        mine, theirs = logits[held_out].double(), labels[held_out]
        before, after = (F.cross_entropy(mine / t, theirs, reduction="none") for t in (1.0, temperature))
        gains[held_out] = before - after
    return gains


def fit_temperature(logits: Tensor, labels: Tensor, tolerance: float = 0.0) -> float:
    """The T for which softmax(logits / T) has the least mean cross-entropy on labels int64[N]; logits float[N,C].

    Guo et al., "On Calibration of Modern Neural Networks" (2017, https://arxiv.org/abs/1706.04599), section 4.2. The
    cross-entropy is convex in 1/T, so that bisection on the sign of its slope, in float64, ends at the minimum: there
    the mean logit of the label equals the one that the probabilities expect. Where the minimum lies outside of
    MIN_TEMPERATURE..MAX_TEMPERATURE (every answer right: at 0), the nearer end; where T changes nothing, 1. It ends
    where `tolerance`, relative, is reached. Raises ValueError without images.
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
    while low < (middle := (low + high) / 2) < high and high - low > tolerance:
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return min(max(math.exp(low), MIN_TEMPERATURE), MAX_TEMPERATURE)


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature) of logits float[N,C], float64[N,C]."""
    return (logits.double() / temperature).softmax(1)
