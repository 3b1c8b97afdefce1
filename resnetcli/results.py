"""What a service returns: frozen, typed, and the same object that `--json` prints."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""Beyond these a temperature says that nothing was there to fit it on."""
MAX_NUMBER = 1e12
"""Far above any statistic of an image, far below what a product of two would overflow at."""
_Number = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER, allow_inf_nan=False)]


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


class ClassScore(Result):
    """One class, one against the rest. `accuracy` is the recall: the share of its images that were recognised."""

    name: str
    support: int
    predicted: int
    correct: int
    accuracy: Interval
    precision: float
    f1: float


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


class Calibration(Result):
    """What a run's validation images said of how sure its weights may be."""

    temperature: float = Field(ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE, allow_inf_nan=False)
    """Logits are divided by it before the softmax."""
    images: int = Field(ge=1)
    split: Literal["val"] = "val"


class Appearance(Result):
    """What images of the data look like, whatever they show: the Gaussian of seven statistics of their pixels, and the
    distance from its mean within which 99 % of them lie."""

    mean: tuple[_Number, ...] = Field(min_length=7, max_length=7)
    precision: tuple[Annotated[tuple[_Number, ...], Field(min_length=7, max_length=7)], ...] = Field(
        min_length=7, max_length=7
    )
    """Inverse of the covariance."""
    threshold: float = Field(ge=0, le=MAX_NUMBER, allow_inf_nan=False)
    images: int = Field(ge=1)
    split: Literal["val", "train"]


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


class EpochRow(Result):
    """One row of metrics.jsonl and metrics.csv; the validation columns are null in a final run."""

    epoch: int
    step: int
    train_loss: float
    train_top1: float
    val_loss: float | None
    val_top1: float | None
    lr: float
    images_per_s: float
    seconds: float
    memory_mib: float


class TrainResult(Result):
    schema_version: int = SCHEMA_VERSION
    command: str = "train"
    run_dir: str
    checkpoint: str
    """The checkpoint that was measured: best on validation, or the last epoch of a final run."""
    epochs: int
    steps: int
    stopped: str
    """ "finished", "patience" or "max_time"."""
    train_seconds: float
    history: tuple[EpochRow, ...]
    measured: EvaluateResult | None
    """On the test split, unless the run was told to leave it alone; None where the run stopped before its end."""


class DryRunResult(Result):
    """One real step, and what the whole run would need."""

    schema_version: int = SCHEMA_VERSION
    command: str = "train --dry-run"
    config: dict[str, object]
    origins: dict[str, str]
    """For each setting: "flag", "environment", "file", "recipe" or "default"."""
    device: str
    precision: str
    parameters: int
    train_images: int
    val_images: int
    steps: int
    first_loss: float
    step_seconds: float
    """Of a step with the images of the run's beginning."""
    last_step_seconds: float
    """Of a step with the images of its end: larger where it begins with smaller images."""
    estimated_seconds: float
    peak_memory: int
    disk_needed: int
    disk_free: int


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


class LayerRow(Result):
    """One node of the layer tree. Parameters and MACs include everything below it."""

    path: str
    kind: str
    depth: int
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    buffers: int
    macs: int
    """Multiply-accumulates of convolutions and linear layers for one image."""
    activation_bytes: int
    """float32 bytes of the outputs of the leaves, for the whole batch."""


class InspectResult(Result):
    schema_version: int = SCHEMA_VERSION
    command: str = "inspect"
    architecture: str
    shortcut: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerRow, ...]
    convolutions: int
    parameters: int
    trainable_parameters: int
    buffer_elements: int
    macs: int
    conv_macs: int
    flops: int
    """2 x MACs."""
    parameter_bytes: int
    activation_bytes: int
    checkpoint: CheckpointInfo | None = None


class FileInfo(Result):
    name: str
    size: int
    sha256: str


class CheckpointInfo(Result):
    """Where weights came from and what is known of them."""

    path: str
    kind: str
    """ "packaged", "run", "checkpoint", "portable" or "foreign"."""
    step: int | None = None
    epoch: float | None = None
    created: str | None = None
    recipe: str | None = None
    data: str | None = None
    chosen_by: str = "unknown"
    metrics: dict[str, float] = {}
    calibration: Calibration | None = None
    strangeness_threshold: float | None = None
    class_names: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    versions: dict[str, str] = {}
    files: tuple[FileInfo, ...] = ()
    rounded_to: str | None = None
    """Half precision that the weights were stored in; None: they are as training left them."""
    rounding_error: float | None = None
    """No weight differs by more from what was trained."""
    best: bool = False
    last: bool = False


class CheckpointProblem(Result):
    path: str
    message: str


class ReplayedPart(Result):
    """One part of a checkpoint beside what the replay came to: how many of its tensors or figures differ."""

    name: str
    count: int
    different: int
    first: str | None = None
    """The first that differs, recorded and replayed."""
    max_difference: float | None = None
    """Of the numbers that differ; null where none do."""


class ChangedVersion(Result):
    """Something that bit-identical repetition depends on, and that is not what it was."""

    name: str
    recorded: str
    here: str


class ReplayResult(Result):
    """Recorded steps, computed once more: does this machine come to what the run has saved?"""

    from_checkpoint: str
    to_checkpoint: str
    from_step: int
    to_step: int
    equal: bool
    parts: tuple[ReplayedPart, ...]
    recorded_sha256: str
    """Of all tensors of the later checkpoint, by name."""
    replayed_sha256: str
    changed: tuple[ChangedVersion, ...]
    device: str
    threads: int
    precision: str
    seconds: float


class CheckpointsResult(Result):
    """Answer of `checkpoints list`, `show`, `verify`, `prune` and `export`."""

    schema_version: int = SCHEMA_VERSION
    command: str
    checkpoints: tuple[CheckpointInfo, ...]
    problems: tuple[CheckpointProblem, ...] = ()
    removed: tuple[str, ...] = ()
    written: str | None = None
    replay: ReplayResult | None = None
    """Of `verify --replay`."""


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
    class_counts: dict[str, int] = {}
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


class Spread(Result):
    """A rate over the rounds of a measurement, in their order, with their median and their extremes."""

    median: float
    low: float
    high: float
    rounds: tuple[float, ...]


class Machine(Result):
    """What a speed was measured on."""

    device: str
    name: str
    """Model of the GPU, or of the CPU."""
    threads: int
    precision: str
    torch: str


class BenchResult(Result):
    """Speed of the tool beside a plain PyTorch loop and beside the machine's own matrix products."""

    schema_version: int = SCHEMA_VERSION
    command: str
    """ "bench train" or "bench infer"."""
    machine: Machine
    shortcut: str
    optimizer: str | None
    batch_size: int
    plain_batch_size: int
    tool: Spread
    """Images a second."""
    plain: Spread
    """Images a second."""
    ratio: float
    """Median of the tool over median of the plain loop."""
    images: int
    """What the two times are for: the training images of CIFAR-10, or its test images."""
    image_size: int
    """Pixels a side."""
    plain_image_size: int
    seconds: float
    plain_seconds: float
    matrix: Spread
    """Floating-point operations a second of plain matrix products in the tool's precision."""
    flops_per_image: int
    """Floating-point operations that an image needs: 2 for each multiply-accumulate, none for a tap on padding."""
    roof: Spread
    """Images a second, if an image were made of such products: `matrix` over `flops_per_image`."""
    roof_share: float
    """Median of the tool over median of the roof."""
    plain_roof_share: float
    peak_memory: int
    """Of the tool's process (on a GPU: of its allocator), the images among it, after the tool's first turn."""


InspectResult.model_rebuild()
