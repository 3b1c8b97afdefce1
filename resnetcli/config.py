"""The only home of defaults, units, bounds and help texts.

Each command has one frozen model. A field's description is the help text of its option, `unit` and the default are
appended to it, `panel` groups it, and its environment variable is `RESNETCLI_` and the field's name in capitals.
Nothing else in the program repeats a default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

DatasetName = Literal["cifar10", "cifar10-mini"]
SourceName = Literal["auto", "cache", "disk", "official", "npm"]
SplitName = Literal["test", "val", "train"]
Shortcut = Literal["identity", "projection"]
Precision = Literal["auto", "fp32", "bf16"]
HalfPrecision = Literal["fp16", "bf16"]
StoredPrecision = Literal["fp32", "fp16", "bf16"]
TestTimeAugmentation = Literal["none", "flip", "shift"]

ENV_PREFIX = "RESNETCLI_"
DEFAULT_RECIPE = "fast"
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DEVICES = r"^(auto|cpu|cuda(:\d+)?|mps)$"
IMAGE_SIZE = 32
"""Pixels a side of the images that the network is made for."""
PRETRAINED = "pretrained"
"""Name of the packaged weights."""
MAX_EPOCHS = 10_000
"""A checkpoint carries one row of history for each, and its reader takes no header of any length."""


def option(default: Any, description: str, *, panel: str, unit: str = "", argument: bool = False, **bounds: Any) -> Any:
    """A pydantic field that also says how the command line shows it (`argument`: positional, without dashes)."""
    extra: dict[str, JsonValue] = {"panel": panel, "unit": unit, "argument": argument}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


class Config(BaseModel):
    """Base of all configurations: immutable, and an unknown key is an error."""

    # A command uses one or two of these models, and building the validators of all takes 30 ms.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class ComputeOptions(Config):
    """Where the arithmetic happens."""

    device: str = option(
        "auto",
        "Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:N or mps.",
        panel="Machine",
        pattern=DEVICES,
    )
    threads: int = option(0, "CPU threads; 0 takes what torch chooses.", panel="Machine", unit="threads", ge=0, le=4096)


class CacheOptions(Config):
    """Which images, and where the verified ones lie."""

    data: DatasetName = option(
        "cifar10", "The data set: cifar10, or the small sample of it that travels inside the package.", panel="Data"
    )
    cache_dir: Path | None = option(
        None, "Folder that keeps the verified CIFAR-10 (default: your user cache folder).", panel="Data"
    )


class DataOptions(CacheOptions):
    """Which images, and where they may come from."""

    data_dir: Path = option(
        Path("data"), "Folder searched for CIFAR-10 archives or batches that you already have.", panel="Data"
    )
    source: SourceName = option(
        "auto", "Take CIFAR-10 from this source only; auto tries cache, disk, official, npm in turn.", panel="Data"
    )


class TrainConfig(ComputeOptions, DataOptions):
    """One training run, completely: the same config, machine and thread count give the same weights."""

    recipe: str = option(
        DEFAULT_RECIPE, "Named settings to start from, or a TOML file with such settings.", panel="Run"
    )
    epochs: int = option(10, "Passes over the training images.", panel="Run", unit="epochs", ge=1, le=MAX_EPOCHS)
    seed: int = option(
        0, "Seed of the initial weights, the order and the augmentation.", panel="Run", ge=0, le=2**63 - 1
    )
    output_dir: Path = option(Path("runs"), "Folder that holds the run directories.", panel="Run")
    name: str | None = option(
        None,
        "Name of the run directory (default: the recipe's name and the next free number).",
        panel="Run",
        pattern=r"^[\w][\w.+-]*$",
        max_length=200,
    )
    init: str | None = option(
        None, "Start from the weights of this checkpoint (pretrained, ours or a foreign state_dict).", panel="Run"
    )
    max_time: float | None = option(
        None, "Save and stop, resumable, after this long.", panel="Run", unit="minutes", gt=0, le=1e6
    )
    patience: int = option(
        0, "Stop after so many epochs without a better validation accuracy; 0 never.", panel="Run", unit="epochs", ge=0
    )

    val_fraction: float = option(
        0.1,
        "Share of the training images held out for validation (stratified); 0 is a final run: it trains on "
        "all images and reports its last epoch.",
        panel="Data",
        ge=0,
        le=0.5,
    )
    split_seed: int = option(0, "Seed of the validation split.", panel="Data", ge=0, le=2**63 - 1)
    limit_train: int | None = option(
        None, "Use only so many training images (stratified).", panel="Data", unit="images", ge=1
    )
    measure_on: Literal["test", "val"] = option(
        "test",
        "What the measurement that ends the run reads; val leaves the test images unread while settings are chosen.",
        panel="Data",
    )

    shortcut: Shortcut = option(
        "identity",
        "Network variant: identity shortcuts, or a 1x1 projection on every shortcut.",
        panel="Network",
    )
    branch_scale: float = option(
        1.0,
        "Initial BatchNorm scale at the end of each residual branch; below 1 calms the first steps.",
        panel="Network",
        gt=0,
        le=10,
    )

    optimizer: Literal["muon", "sgd", "adam", "adamw"] = option(
        "sgd", "Optimiser; muon drives the matrices of layers 2-4 and leaves the rest to SGD.", panel="Optimiser"
    )
    lr: float = option(0.1, "Peak learning rate.", panel="Optimiser", gt=0, le=1e3)
    sgd_lr: float = option(
        0.02, "Peak learning rate of what muon leaves to SGD: stem, head, BatchNorm.", panel="Optimiser", gt=0, le=1e3
    )
    bias_lr_scale: float = option(
        1.0, "Factor on the learning rate of BatchNorm's biases.", panel="Optimiser", gt=0, le=1e3
    )
    momentum: float = option(0.9, "Momentum of sgd and muon (Nesterov).", panel="Optimiser", ge=0, lt=1)
    weight_decay: float = option(
        0.0,
        "Weight decay of convolutions and head; never of BatchNorm, nor of what muon drives.",
        panel="Optimiser",
        ge=0,
        le=10,
    )
    schedule: Literal["linear", "cosine", "step", "constant"] = option(
        "linear", "How the learning rate falls after warm-up.", panel="Optimiser"
    )
    warmup_epochs: float = option(
        0.0, "Linear rise of the learning rate at the start.", panel="Optimiser", unit="epochs", ge=0
    )
    step_epochs: int = option(20, "schedule=step: epochs between two drops.", panel="Optimiser", unit="epochs", ge=1)
    step_factor: float = option(3.0, "schedule=step: the learning rate is divided by this.", panel="Optimiser", gt=1)
    batch_size: int = option(512, "Images per optimiser step.", panel="Optimiser", unit="images", ge=2, le=65536)
    grad_accum: int = option(
        1, "Split a batch into so many parts to need less memory.", panel="Optimiser", unit="parts", ge=1, le=1024
    )
    label_smoothing: float = option(0.0, "Share of a label spread over all classes.", panel="Optimiser", ge=0, lt=1)
    lookahead: int = option(
        0,
        "Lookahead: average and pull back the weights every so many steps; 0 is off.",
        panel="Averaging",
        unit="steps",
        ge=0,
    )
    ema: float = option(
        0.0,
        "Exponential moving average of the weights: the share of it that a step keeps, for instance 0.999; 0 is off.",
        panel="Averaging",
        ge=0,
        lt=1,
    )

    crop_padding: int = option(
        4, "Random crop after padding each side by this; 0 is off.", panel="Augmentation", unit="pixels", ge=0, le=16
    )
    padding_mode: Literal["zero", "reflect"] = option(
        "reflect", "What the padding of the random crop shows.", panel="Augmentation"
    )
    flip: bool = option(True, "Mirror half of the images left to right.", panel="Augmentation")
    alternating_flip: bool = option(
        False,
        "Mirror an image in every second epoch instead of by chance; only in which of two it begins is drawn.",
        panel="Augmentation",
    )
    augment: Literal["none", "trivial"] = option(
        "none",
        "After crop and flip: trivial gives each image one of 14 operations (TrivialAugment, wide) with any strength.",
        panel="Augmentation",
    )
    augment_share: float = option(
        1.0, "Share of the images that --augment gives an operation.", panel="Augmentation", ge=0, le=1
    )
    start_size: int = option(
        IMAGE_SIZE,
        f"Side of the images in the first part of the run, shrunk after crop, flip and --augment; {IMAGE_SIZE} is off. "
        "Best are 20, 24 and 28, the largest of equal cost.",
        panel="Augmentation",
        unit="pixels",
        ge=17,  # the network halves four times, and its last map must be 2x2
        le=IMAGE_SIZE,
    )
    start_size_until: float = option(
        0.5, "Share of the epochs that begin with images of --start-size.", panel="Augmentation", gt=0, le=1
    )
    erasing: float = option(
        0.0,
        "Random erasing: share of the images that get the mean colour in a random box of 2 to 40 % of them; 0 is off.",
        panel="Augmentation",
        ge=0,
        le=1,
    )
    cutout: int = option(
        0,
        "Cutout: side of a square of the mean colour at a random place of each image, as at full size; 0 is off.",
        panel="Augmentation",
        unit="pixels",
        ge=0,
        le=IMAGE_SIZE,
    )
    mixup: float = option(
        0.0,
        "Mixup: blend each image and label with another's, by a share from Beta(this, this); 0 is off.",
        panel="Augmentation",
        ge=0,
        le=100,
    )
    cutmix: float = option(
        0.0,
        "CutMix: paste a box of another image into each, its area from Beta(this, this); 0 is off. Beside mixup each "
        "step takes one of the two.",
        panel="Augmentation",
        ge=0,
        le=100,
    )
    mix_share: float = option(
        1.0, "Share of the steps whose images --mixup or --cutmix mixes.", panel="Augmentation", ge=0, le=1
    )

    precision: Precision = option(
        "auto", "Arithmetic of training: auto takes bf16 where it is faster, else fp32.", panel="Machine"
    )
    save_every: float = option(
        60.0,
        "Time between two checkpoints inside an epoch; 0 saves after every step. An epoch's end always saves.",
        panel="Checkpoints",
        unit="seconds",
        ge=0,
    )
    keep_last: int = option(
        2, "Newest checkpoints to keep, beside the best.", panel="Checkpoints", unit="checkpoints", ge=1
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> TrainConfig:
        if self.batch_size % self.grad_accum:
            raise ValueError(f"grad_accum {self.grad_accum} does not divide batch_size {self.batch_size}")
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} is longer than epochs {self.epochs}")
        if self.patience and not self.val_fraction:
            raise ValueError(f"patience {self.patience} needs validation images, and val_fraction is 0")
        if self.measure_on == "val" and not self.val_fraction:
            raise ValueError("measure_on val needs validation images, and val_fraction is 0")
        if self.lookahead and self.ema:
            raise ValueError(f"lookahead {self.lookahead} and ema {self.ema:g} exclude each other: set one to 0")
        return self


def unused_settings(config: TrainConfig) -> dict[str, str]:
    """Settings that have no effect beside the others, with the reason."""
    unused: dict[str, str] = {}
    if config.init is not None:
        unused |= dict.fromkeys(("branch_scale", "shortcut"), "--init brings its own network")
    if config.optimizer != "muon":
        unused["sgd_lr"] = f"it belongs to --optimizer muon, not {config.optimizer}"
    if config.optimizer in ("adam", "adamw"):
        unused["momentum"] = f"{config.optimizer} has its own"
    if config.schedule != "step":
        unused |= dict.fromkeys(("step_epochs", "step_factor"), f"it belongs to --schedule step, not {config.schedule}")
    if not config.crop_padding:
        unused["padding_mode"] = "--crop-padding is 0"
    if config.augment == "none":
        unused["augment_share"] = "--augment is none"
    if not config.mixup and not config.cutmix:
        unused["mix_share"] = "--mixup and --cutmix are 0"
    if not config.flip:
        unused["alternating_flip"] = "--no-flip"
    if config.start_size == IMAGE_SIZE:
        unused["start_size_until"] = f"--start-size is {IMAGE_SIZE}, full size"
    return unused


class InferenceOptions(ComputeOptions):
    """Where and how the arithmetic of a measurement or a prediction happens."""

    precision: Precision = option(
        "fp32",
        "Arithmetic: fp32 (the same answers everywhere, up to its rounding), bf16 (faster where the processor has it), "
        "or auto: bf16 where it is faster.",
        panel="Machine",
    )
    tta: TestTimeAugmentation = option(
        "none",
        "Test-time augmentation: flip averages over the image and its mirror image, shift over both as they are and "
        "moved by a pixel (6 times the work).",
        panel="Measurement",
    )
    calibrate: bool = option(
        True,
        "Divide logits by the temperature in the checkpoint, fitted on the validation images of its run, so that "
        "probabilities mean what they say; no answer changes. A checkpoint without one is taken as it is.",
        panel="Measurement",
    )


class ReplayConfig(Config):
    """Recorded steps of a run, computed once more. What is not stated here is as it was in the run."""

    steps: int | None = option(
        None,
        "With --replay: of the checkpoints, the newest two that lie at most so far apart.",
        panel="Replay",
        unit="steps",
        ge=1,
    )
    device: str | None = option(
        None, "With --replay: where to compute (default: as the run).", panel="Replay", pattern=DEVICES
    )
    threads: int | None = option(
        None, "With --replay: CPU threads (default: as the run).", panel="Replay", ge=0, le=4096
    )
    data_dir: Path | None = option(
        None, "With --replay: folder searched for CIFAR-10 archives (default: as the run).", panel="Replay"
    )
    cache_dir: Path | None = option(
        None, "With --replay: folder that keeps the verified CIFAR-10 (default: as the run).", panel="Replay"
    )


class EvaluateConfig(InferenceOptions, DataOptions):
    """One measurement of one checkpoint on one split."""

    checkpoint: str = option(
        PRETRAINED,
        "Run directory (its best), checkpoint directory, .safetensors, foreign file, or pretrained: packaged weights.",
        panel="Input",
        argument=True,
    )
    data: DatasetName | None = option(  # type: ignore[assignment]  # here alone the checkpoint may say it
        None, "The data set (default: the one that the checkpoint was trained on, else cifar10).", panel="Data"
    )
    split: SplitName = option(
        "test", "Images to measure on; val is the split that the checkpoint's run held out.", panel="Data"
    )
    output: Path | None = option(
        None, "Folder for report.json, per_class.csv, confusion.csv and predictions.csv.", panel="Output"
    )
    save_plots: bool = option(
        False,
        "Also draw confusion matrix and calibration as PNG files, into --output, else into ./report.",
        panel="Output",
    )


class CompareConfig(InferenceOptions, DataOptions):
    """Two checkpoints on the same images."""

    checkpoint_a: str = option(
        ...,
        "A: run directory (its best), checkpoint directory, .safetensors, foreign file, or pretrained.",
        panel="Input",
        argument=True,
    )
    checkpoint_b: str = option(..., "B: what A is compared with, in any of these forms.", panel="Input", argument=True)
    data: DatasetName | None = option(  # type: ignore[assignment]  # as in EvaluateConfig
        None, "The data set (default: the one that A was trained on, else that of B, else cifar10).", panel="Data"
    )
    split: SplitName = option(
        "test",
        "Images to compare on; val is the split that A's run held out, or B's where A held out none.",
        panel="Data",
    )
    show: int = option(
        10, "How many of the images that get different answers the table lists.", panel="Output", unit="images", ge=0
    )
    output: Path | None = option(None, "Folder for report.json and, image by image, differences.csv.", panel="Output")


class PredictConfig(InferenceOptions):
    """Classify pictures."""

    paths: tuple[str, ...] = option(
        ..., "Files, folders, globs, or - for a list of paths on stdin.", panel="Input", argument=True
    )
    checkpoint: str = option(
        PRETRAINED,
        "Run directory (its best), checkpoint directory, .safetensors, foreign file, or pretrained: packaged weights.",
        panel="Input",
    )
    top_k: int = option(3, "Classes to show for each picture.", panel="Output", unit="classes", ge=1, le=1000)
    format: Literal["table", "json", "jsonl", "csv"] = option("table", "How results are written.", panel="Output")
    recursive: bool = option(True, "Look into the folders of a folder.", panel="Input")


class InspectConfig(Config):
    """Describe a checkpoint and its network, or a network alone."""

    checkpoint: str | None = option(
        None,
        "Run directory (its best), checkpoint directory, .safetensors or foreign file "
        "(default: pretrained, the packaged weights).",
        panel="Input",
        argument=True,
    )
    shortcut: Shortcut | None = option(
        None,
        "Describe the network of this variant, without weights (default: the network of the checkpoint).",
        panel="Network",
    )
    depth: int = option(3, "Levels of the layer tree to show.", panel="Output", unit="levels", ge=1, le=10)
    batch_size: int = option(1, "Images for which memory is counted.", panel="Network", unit="images", ge=1, le=65536)


class ExportConfig(Config):
    """Write a checkpoint as one file."""

    dtype: StoredPrecision = option(
        "fp32",
        "How convolutions and head are stored: fp32 exactly; fp16 and bf16 rounded, in half the space, of which fp16 "
        "rounds less.",
        panel="Output",
    )


class BenchOptions(Config):
    """How long to measure."""

    rounds: int = option(
        5, "Rounds in which all that is measured has its turn.", panel="Measurement", unit="rounds", ge=1, le=1000
    )
    seconds: float = option(4.0, "Length of a turn.", panel="Measurement", unit="seconds", gt=0, le=3600)


class BenchTrainConfig(BenchOptions, TrainConfig):
    """Training speed of this machine, with the settings of a run."""


class BenchInferConfig(BenchOptions, InferenceOptions):
    """Inference speed of this machine."""

    shortcut: Shortcut = option(
        "identity",
        "Network variant: identity shortcuts, or a 1x1 projection on every shortcut.",
        panel="Network",
    )


class DataConfig(DataOptions):
    """Fetch a data set."""


class DataVerifyConfig(CacheOptions):
    """Check a data set that is there."""


class DataShowConfig(DataOptions):
    """Look at images of a data set."""

    split: Literal["train", "test"] = option("train", "Which images.", panel="Data")
    count: int = option(50, "How many images.", panel="Output", unit="images", ge=1, le=1000)
    seed: int = option(0, "Which images are drawn.", panel="Output", ge=0, le=2**63 - 1)
    output: Path | None = option(None, "Write the grid to this PNG file.", panel="Output")
    scale: int = option(2, "Size of a pixel in the PNG.", panel="Output", unit="pixels", ge=1, le=16)
