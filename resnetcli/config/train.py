"""The settings of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from resnetcli.config.base import (
    DEFAULT_RECIPE,
    IMAGE_SIZE,
    MAX_EPOCHS,
    ComputeOptions,
    DataOptions,
    Precision,
    Shortcut,
    option,
)
from resnetcli.config.extension import MAX_EXTENSIONS, Extension

RESUMABLE = (
    "device",
    "threads",
    "allow_oversubscription",
    "allow_slow",
    "max_time",
    "save_every",
    "keep_last",
    "soft_lock",
    "data_dir",
    "cache_dir",
    "source",
)
"""What may change when a run goes on: where it computes and stores, never what it computes."""

MAX_LR = 1e3
BUDGET_DECIDES = ("epochs", "start_size_until")
"""What `budget` chooses, so that it cannot be said beside it."""

ADDED_LATER = ("allow_oversubscription", "allow_slow", "budget", "extensions", "soft_lock")
"""Settings that the config.json of an earlier version does not have; their defaults stand in for them."""


class TrainConfig(ComputeOptions, DataOptions):
    """One training run, completely: the same config, machine and thread count give the same weights. Only a budget is
    open: it becomes epochs when the run starts."""

    recipe: str = option(
        DEFAULT_RECIPE, "Named settings to start from, or a TOML file with such settings.", panel="Run"
    )
    epochs: int = option(10, "Passes over the training images.", panel="Run", unit="epochs", ge=1, le=MAX_EPOCHS)
    budget: float | None = option(
        None,
        "Time for the run, from data at hand to the printed result: times a few steps on this machine, then chooses "
        "--epochs and how many of them begin with images of --start-size. An estimate; --max-time is a limit.",
        panel="Run",
        unit="minutes",
        gt=0,
        le=1e6,
    )
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
    lr: float = option(0.1, "Peak learning rate.", panel="Optimiser", gt=0, le=MAX_LR)
    sgd_lr: float = option(
        0.02,
        "Peak learning rate of what muon leaves to SGD: stem, head, BatchNorm.",
        panel="Optimiser",
        gt=0,
        le=MAX_LR,
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
    batch_size: int = option(
        512,
        "Images per optimiser step. Learning rates that come from the recipe are scaled by the square root of the "
        "ratio to the recipe's own batch size (sgd: only downwards).",
        panel="Optimiser",
        unit="images",
        ge=2,
        le=65536,
    )
    grad_accum: int = option(
        1,
        "Split a batch into so many parts to need less memory; BatchNorm sees one at a time.",
        panel="Optimiser",
        unit="parts",
        ge=1,
        le=1024,
    )
    label_smoothing: float = option(0.0, "Share of a label spread over all classes.", panel="Optimiser", ge=0, lt=1)
    lookahead: int = option(
        0,
        "Lookahead: average and pull back the weights every so many steps, once an epoch at least; 0 is off.",
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
    soft_lock: bool = option(
        False,
        "Hold the run directory by a file that exists, for file systems without locks (some NFS); a killed run may "
        "leave it behind, and a message says then what to delete.",
        panel="Checkpoints",
    )

    extensions: tuple[Extension, ...] = Field(default=(), max_length=MAX_EXTENSIONS)
    """How `epochs` came to be what it is, where it was another in parts of the run; no option says it."""

    @model_validator(mode="after")
    def _settings_agree(self) -> TrainConfig:
        if self.batch_size % self.grad_accum:
            raise ValueError(f"grad_accum {self.grad_accum} does not divide batch_size {self.batch_size}")
        if self.warmup_epochs > self.epochs and self.budget is None:  # a budget chooses epochs to fit it
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} is longer than epochs {self.epochs}")
        if self.patience and not self.val_fraction:
            raise ValueError(f"patience {self.patience} needs validation images, and val_fraction is 0")
        if self.measure_on == "val" and not self.val_fraction:
            raise ValueError("measure_on val needs validation images, and val_fraction is 0")
        if self.lookahead and self.ema:
            raise ValueError(
                f"lookahead {self.lookahead} and ema {self.ema:g} exclude each other: add --lookahead 0 or --ema 0"
            )
        places = [(extension.epoch, extension.step) for extension in self.extensions]
        if places != sorted(set(places)) or (places and places[-1] >= (self.epochs, 0)):
            raise ValueError(f"extensions at {places} are not in order, or not before the end at epoch {self.epochs}")
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
