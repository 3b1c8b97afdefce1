"""What is known of checkpoints, and what the commands about them answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from resnetcli.results.base import SCHEMA_VERSION, Result

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""Beyond these a temperature says that nothing was there to fit it on."""
MAX_NUMBER = 1e12
"""Far above any statistic of an image, far below what a product of two would overflow at."""
_Number = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER, allow_inf_nan=False)]


class Calibration(Result):
    """What a run's validation images said of how sure its weights may be."""

    temperature: float = Field(ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE, allow_inf_nan=False)
    """Logits are divided by it before the softmax."""
    images: int = Field(ge=1)
    split: Literal["val"] = "val"
    gain: float | None = Field(default=None, allow_inf_nan=False)
    """Nats by which it lowers the cross-entropy of an image that it was not fitted on, in the mean; None: not known,
    as of the versions that kept every temperature."""
    gain_error: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Standard error of `gain`."""


SIGNIFICANT = 2.0
"""Standard errors by which the mean gain of held-out images must exceed 0: of temperatures that gain nothing, about
one in fifty would pass for one that does."""


def earned(known: Calibration) -> bool:
    """Whether images that the temperature was not fitted on gain by it; where that is not known, it stays."""
    return known.gain is None or known.gain_error is None or known.gain > SIGNIFICANT * known.gain_error


def at_bound(temperature: float) -> bool:
    """Whether a fit ended at a bound, so that its temperature says nothing."""
    return temperature <= MIN_TEMPERATURE * 1.001 or temperature >= MAX_TEMPERATURE / 1.001


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


_Text = Annotated[str, Field(max_length=1000)]
Setting = bool | int | Annotated[float, Field(allow_inf_nan=False)] | _Text | None
MAX_GENERATIONS = 64


class Ancestor(Result):
    """Weights that a run started from: which they were, to the bit, and what they had been trained on."""

    name: _Text
    """What the run knew them by: the name of packaged weights, or the last part of a path."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the file that they were read from. A portable copy is another file, with a digest of its own."""
    created: _Text | None = None
    step: int | None = Field(default=None, ge=0)
    epoch: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    data: _Text | None = None
    val_fraction: float | None = Field(default=None, ge=0, le=0.5)
    split_seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    recipe: _Text | None = None
    config: dict[_Text, Setting] = Field(default_factory=dict, max_length=200)
    """The settings that they were trained with, without places on a machine."""
    origin: _Text | None = None
    """The foreign file that they were imported from, if they were."""
    versions: dict[_Text, _Text] = Field(default_factory=dict, max_length=50)


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
    """When it was saved; of one that resnetcli 0.1.0 saved, when its run began."""
    recipe: str | None = None
    data: str | None = None
    chosen_by: str = "unknown"
    metrics: dict[str, float] = Field(default_factory=dict)
    calibration: Calibration | None = None
    strangeness_threshold: float | None = None
    class_names: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    versions: dict[str, str] = Field(default_factory=dict)
    lineage: tuple[Ancestor, ...] = ()
    """The weights that training started from, those that their training started from, and so on."""
    files: tuple[FileInfo, ...] = ()
    rounded_to: str | None = None
    """Half precision that the weights were stored in; None: they are as training left them."""
    rounding_error: float | None = None
    """No weight differs by more from what was trained."""
    best: bool = False
    last: bool = False


class RunInfo(Result):
    """One run directory, by its headers alone."""

    path: str
    checkpoints: int
    epoch: float | None = None
    """Of the newest checkpoint, as `step` and `created`."""
    step: int | None = None
    created: str | None = None
    size: int
    val_top1: float | None = None
    """Of the best checkpoint, as `test_top1`."""
    test_top1: float | None = None


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
    runs: tuple[RunInfo, ...] = ()
    """Of `list` without a run: those in the folder of runs, the newest last."""
    problems: tuple[CheckpointProblem, ...] = ()
    removed: tuple[str, ...] = ()
    """What `prune` removed; with `dry_run`, what it would remove."""
    removed_bytes: int = 0
    dry_run: bool = False
    written: str | None = None
    replay: ReplayResult | None = None
    """Of `verify --replay`."""
