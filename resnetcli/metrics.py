"""Confusion matrix in, everything else out: accuracies with their intervals, precision, F1, likelihood, calibration.

Plain Python on plain lists. Ten thousand answers take milliseconds, and nothing here has to know what a tensor is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from resnetcli.results import CalibrationBin, ClassScore, ConfusedPair, Interval, Scores

Z_95 = 1.959963984540054
"""The standard normal distribution has 95 % of its mass within this of zero."""
CALIBRATION_BINS = 15
"""Equal-width bins of the calibration error, as in Guo et al., On Calibration of Modern Neural Networks (2017)."""
CONFUSED_PAIRS = 10
SMALLEST_PROBABILITY = 1e-12
"""Floor under the logarithm: a float32 softmax can round a class to 0, and that must not make the mean infinite."""


def wilson(correct: int, count: int) -> Interval:
    """The share correct / count with its 95 % Wilson score interval (Wilson 1927).

    No trials tell nothing: value 0, anywhere within 0..1. Raises ValueError unless 0 <= correct <= count.
    """
    if not 0 <= correct <= count:
        raise ValueError(f"{correct} correct of {count} is impossible")
    if count == 0:
        return Interval(value=0.0, low=0.0, high=1.0, count=0)
    share = correct / count
    scale = 1 + Z_95**2 / count
    centre = (share + Z_95**2 / (2 * count)) / scale
    half_width = Z_95 * math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2)) / scale
    # At 0 and at 1 the interval ends exactly there; rounding alone could put the end past it.
    low = max(0.0, min(share, centre - half_width))
    high = min(1.0, max(share, centre + half_width))
    return Interval(value=share, low=low, high=high, count=count)


def confusion_matrix(labels: Sequence[int], predicted: Sequence[int], n: int) -> tuple[tuple[int, ...], ...]:
    """Counts of images, n x n; rows: actual class, columns: predicted class.

    Raises ValueError where the lengths differ or a class is not in 0..n-1.
    """
    matrix = [[0] * n for _ in range(n)]
    for label, guess in zip(labels, predicted, strict=True):
        if not (0 <= label < n and 0 <= guess < n):
            raise ValueError(f"class {label} or {guess} is not in 0..{n - 1}")
        matrix[label][guess] += 1
    return tuple(tuple(row) for row in matrix)


def scores(
    *,
    classes: Sequence[str],
    labels: Sequence[int],
    predicted: Sequence[int],
    in_top5: Sequence[bool],
    confidence: Sequence[float],
    true_probability: Sequence[float],
) -> Scores:
    """Everything that follows from the answers to one split; all sequences but `classes` have one entry per image.

    `in_top5`: the label is among the five most probable classes; `confidence`: probability of the predicted class;
    `true_probability`: probability of the label. Raises ValueError without images or where lengths differ.
    """
    images = len(labels)
    if images == 0:
        raise ValueError("no images to score")
    if {images} != {len(predicted), len(in_top5), len(confidence), len(true_probability)}:
        raise ValueError("labels, predicted, in_top5, confidence and true_probability differ in length")
    confusion = confusion_matrix(labels, predicted, len(classes))
    bins = _calibration(confidence, [label == guess for label, guess in zip(labels, predicted, strict=True)])
    return Scores(
        images=images,
        top1=wilson(sum(confusion[i][i] for i in range(len(classes))), images),
        top5=wilson(sum(map(bool, in_top5)), images),
        nll=-math.fsum(math.log(max(p, SMALLEST_PROBABILITY)) for p in true_probability) / images,
        ece=math.fsum(b.count * abs(b.accuracy - b.confidence) for b in bins) / images,
        classes=tuple(_class_score(confusion, i, name) for i, name in enumerate(classes)),
        confusion=confusion,
        most_confused=_most_confused(confusion, classes),
        calibration=bins,
    )


def _class_score(confusion: Sequence[Sequence[int]], index: int, name: str) -> ClassScore:
    support = sum(confusion[index])
    predicted = sum(row[index] for row in confusion)
    correct = confusion[index][index]
    return ClassScore(
        name=name,
        support=support,
        predicted=predicted,
        correct=correct,
        accuracy=wilson(correct, support),
        precision=correct / predicted if predicted else 0.0,
        # The harmonic mean of precision and recall, in the form that needs no special case for one of them being 0.
        f1=2 * correct / (support + predicted) if support + predicted else 0.0,
    )


def _most_confused(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> tuple[ConfusedPair, ...]:
    pairs = [
        ConfusedPair(actual=classes[i], predicted=classes[j], count=count, share=count / sum(row))
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    # sorted() is stable: pairs with the same count stay in class order.
    return tuple(sorted(pairs, key=lambda pair: -pair.count)[:CONFUSED_PAIRS])


def _calibration(confidence: Sequence[float], correct: Sequence[bool]) -> tuple[CalibrationBin, ...]:
    edges = [i / CALIBRATION_BINS for i in range(CALIBRATION_BINS + 1)]
    members: list[list[int]] = [[] for _ in range(CALIBRATION_BINS)]
    for image, p in enumerate(confidence):
        # A bin is open below and closed above; 0, and a float32 sum just above 1, belong to the outermost ones.
        members[min(max(bisect_left(edges, p) - 1, 0), CALIBRATION_BINS - 1)].append(image)
    return tuple(
        CalibrationBin(
            low=edges[i],
            high=edges[i + 1],
            count=len(inside),
            confidence=math.fsum(min(confidence[image], 1.0) for image in inside) / len(inside) if inside else 0.0,
            accuracy=sum(correct[image] for image in inside) / len(inside) if inside else 0.0,
        )
        for i, inside in enumerate(members)
    )
