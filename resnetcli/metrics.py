"""Answers in, everything else out: accuracies with their intervals, precision, F1, likelihood, calibration, and what
two sets of answers to the same images say of each other.

Plain Python on plain lists. Ten thousand answers take milliseconds, and nothing here has to know what a tensor is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

from resnetcli.results.base import Interval
from resnetcli.results.compare import Difference, Paired, PairedClass
from resnetcli.results.evaluate import CalibrationBin, ClassScore, ConfusedPair, Scores

Z_95 = 1.959963984540054
"""The standard normal distribution has 95 % of its mass within this of zero."""
CALIBRATION_BINS = 15
"""Equal-width bins of the calibration error, as in Guo et al., On Calibration of Modern Neural Networks (2017)."""
CONFUSED_PAIRS = 10
SIGNIFICANCE = 0.05
"""Below this p, and with an interval without 0, two accuracies are called different."""
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
    ece, bins = calibration(confidence, [label == guess for label, guess in zip(labels, predicted, strict=True)])
    return Scores(
        images=images,
        top1=wilson(sum(confusion[i][i] for i in range(len(classes))), images),
        top5=wilson(sum(map(bool, in_top5)), images),
        nll=likelihood(true_probability),
        ece=ece,
        classes=tuple(_class_score(confusion, i, name) for i, name in enumerate(classes)),
        confusion=confusion,
        most_confused=_most_confused(confusion, classes),
        calibration=bins,
    )


def likelihood(true_probability: Sequence[float]) -> float:
    """Mean negative log-likelihood in nats, from the probability of the label of each image."""
    return -math.fsum(math.log(max(p, SMALLEST_PROBABILITY)) for p in true_probability) / len(true_probability)


def calibration(confidence: Sequence[float], correct: Sequence[bool]) -> tuple[float, tuple[CalibrationBin, ...]]:
    """Expected calibration error, within 0..1, and the bins that it is the mean of (Guo et al. 2017, section 2); from
    the probability of the predicted class of each image, and whether it was right."""
    bins = _bins(confidence, correct)
    return math.fsum(b.count * abs(b.accuracy - b.confidence) for b in bins) / len(confidence), bins


def mcnemar(only_a: int, only_b: int) -> tuple[float, float]:
    """McNemar's test of two classifiers that answered the same images: two-sided p, (mid-p, exact conditional).

    `only_a`, `only_b`: images that one alone got right. Under the hypothesis that both are equally good, each of them
    is a fair coin's throw (McNemar 1947). Counted in whole numbers, so that no approximation begins anywhere, however
    many there are. The mid-p, which counts half of what is exactly as extreme, keeps its level and finds more than the
    exact conditional p (Fagerland, Lydersen and Laake 2013, https://doi.org/10.1186/1471-2288-13-91). Where nothing
    tells the two apart both are 1.
    """
    throws, fewer = only_a + only_b, min(only_a, only_b)
    if throws == 0:
        return 1.0, 1.0
    ways, below = 1, 0
    for i in range(fewer):
        below += ways
        ways = ways * (throws - i) // (i + 1)
    outcomes = 2**throws
    if only_a == only_b:  # every outcome is at least as extreme, this one alone is exactly so
        return (2 * outcomes - ways) / (2 * outcomes), 1.0
    return (2 * below + ways) / outcomes, 2 * (below + ways) / outcomes


def difference(only_a: int, only_b: int, count: int) -> Difference:
    """Accuracy of B minus accuracy of A on the same `count` images, with its 95 % score interval for paired shares
    (Tango 1998, Statistics in Medicine 17:891-908; recommended by Fagerland, Lydersen and Laake 2014, 33:2850-2875).

    The interval holds the differences that a score test does not reject. It leaves out 0 exactly where McNemar's
    chi-square without correction says p < 0.05, and has a width where no image tells the two apart. No images tell
    nothing: value 0, anywhere within -1..1. Raises ValueError unless only_a + only_b <= count.
    """
    if only_a < 0 or only_b < 0 or only_a + only_b > count:
        raise ValueError(f"{only_a} and {only_b} of {count} is impossible")
    if count == 0:
        return Difference(value=0.0, low=-1.0, high=1.0, count=0)

    def rejected(d: float) -> bool:
        # `q` is the likeliest share of images that A alone gets right, if the true difference is d: the positive
        # solution of 2 n q^2 + linear q + constant = 0.
        linear = (2 * count - only_b + only_a) * d - only_a - only_b
        constant = -only_a * d * (1 - d)
        q = (math.sqrt(max(linear**2 - 8 * count * constant, 0.0)) - linear) / (4 * count)
        return (only_b - only_a - count * d) ** 2 > Z_95**2 * count * (2 * q + d * (1 - d))

    value = (only_b - only_a) / count
    return Difference(value=value, low=_border(rejected, -1.0, value), high=_border(rejected, 1.0, value), count=count)


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, raised so that p < 0.05 in any of them, where none should be, has a chance of
    5 % in all (Holm 1979)."""
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, test in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[test]))
        adjusted[test] = largest
    return adjusted


def paired(*, classes: Sequence[str], labels: Sequence[int], a: Sequence[int], b: Sequence[int]) -> Paired:
    """Everything that follows from the answers `a` and `b` to the same images, all given as class numbers.

    Raises ValueError without images or where lengths differ.
    """
    if not labels:
        raise ValueError("no images to compare on")
    counts = [[[0, 0], [0, 0]] for _ in classes]
    for label, in_a, in_b in zip(labels, a, b, strict=True):
        counts[label][in_a == label][in_b == label] += 1
    tests = [mcnemar(only_a, only_b)[0] for (_, only_b), (only_a, _) in counts]
    # A class without images is no test, and must not make the others harder to pass.
    tested = [i for i, ((neither, only_b), (only_a, both)) in enumerate(counts) if neither + only_b + only_a + both]
    adjusted = dict(zip(tested, holm([tests[i] for i in tested]), strict=True))
    (neither, only_b), (only_a, both) = ([sum(c[i][j] for c in counts) for j in (0, 1)] for i in (0, 1))
    total = difference(only_a, only_b, len(labels))
    p, p_exact = mcnemar(only_a, only_b)
    different = p < SIGNIFICANCE and not total.low <= 0 <= total.high
    return Paired(
        images=len(labels),
        both_right=both,
        only_a=only_a,
        only_b=only_b,
        both_wrong=neither,
        difference=total,
        p=p,
        p_exact=p_exact,
        better=None if not different else "B" if total.value > 0 else "A",
        classes=tuple(
            _paired_class(name, table, test, adjusted.get(i, 1.0))
            for i, (name, table, test) in enumerate(zip(classes, counts, tests, strict=True))
        ),
    )


def _paired_class(name: str, table: Sequence[Sequence[int]], p: float, p_holm: float) -> PairedClass:
    """`table[a][b]`: images of the class, by whether A and whether B is right."""
    (neither, only_b), (only_a, both) = table
    support = neither + only_b + only_a + both
    return PairedClass(
        name=name,
        support=support,
        a=wilson(both + only_a, support),
        b=wilson(both + only_b, support),
        only_a=only_a,
        only_b=only_b,
        difference=difference(only_a, only_b, support),
        p=p,
        p_holm=p_holm,
    )


def _border(rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where between `outside` and `inside` a test stops rejecting, to the last bits of a float."""
    for _ in range(60):
        middle = (outside + inside) / 2
        if rejected(middle):
            outside = middle
        else:
            inside = middle
    return inside


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
        precision=correct / predicted if predicted else None,
        # The harmonic mean of precision and recall, in the form that needs no special case for one of them being 0.
        f1=2 * correct / (support + predicted) if support else None,
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


def _bins(confidence: Sequence[float], correct: Sequence[bool]) -> tuple[CalibrationBin, ...]:
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
            interval=wilson(sum(correct[image] for image in inside), len(inside)),
        )
        for i, inside in enumerate(members)
    )
