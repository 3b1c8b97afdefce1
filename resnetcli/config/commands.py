"""The settings of every command but `train`, one frozen model each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from resnetcli.config.base import (
    DEVICES,
    PRETRAINED,
    CacheOptions,
    Config,
    DataOptions,
    DatasetName,
    InferenceOptions,
    Shortcut,
    SplitName,
    StoredPrecision,
    option,
)
from resnetcli.config.train import TrainConfig


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
    allow_oversubscription: bool | None = option(
        None,
        "With --replay: more threads than the CPUs that this process may use (default: as the run).",
        panel="Replay",
    )
    allow_slow: bool | None = option(
        None, "With --replay: bf16 also where the processor has to emulate it (default: as the run).", panel="Replay"
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
        "test",
        "Images to measure on; val is the split that the checkpoint's run held out, train what it trained on.",
        panel="Data",
    )
    output: Path | None = option(
        None, "Folder for report.json, per_class.csv, confusion.csv and predictions.csv.", panel="Output"
    )
    save_plots: bool = option(
        False,
        "Also draw confusion matrix, calibration and the curves of a run as PNG files, into --output, else into "
        "./report.",
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
        ...,
        "Files, folders, globs, or - for stdin: a list of paths, or the bytes of one picture.",
        panel="Input",
        argument=True,
    )
    checkpoint: str = option(
        PRETRAINED,
        "Run directory (its best), checkpoint directory, .safetensors, foreign file, or pretrained: packaged weights.",
        panel="Input",
    )
    top_k: int = option(3, "Classes to show for each picture.", panel="Output", unit="classes", ge=1, le=1000)
    format: Literal["table", "json", "jsonl", "csv"] = option("table", "How results are written.", panel="Output")
    recursive: bool = option(True, "Look into the folders of a folder.", panel="Input")
    null: bool = option(
        False, "The list on stdin has a NUL behind each path, as find -print0 writes it, not one a line.", panel="Input"
    )


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
