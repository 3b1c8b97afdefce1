"""What the configurations of all commands are made of: names, bounds, and the options that several of them share.

A field's description is the help text of its option, `unit` and the default are appended to it, `panel` groups it, and
its environment variable is `RESNETCLI_` and the field's name in capitals. Nothing outside of this room repeats a
default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

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
CHECKPOINTS, CONFIG_FILE = "checkpoints", "config.json"
"""In a run directory: the folder of its checkpoints, and its settings."""
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
    threads: int = option(
        0,
        "CPU threads; 0 takes what torch chooses. Never more than the CPUs that this process may use.",
        panel="Machine",
        unit="threads",
        ge=0,
        le=4096,
    )
    allow_oversubscription: bool = option(
        False,
        "Take more threads than the CPUs that this process may use; it runs slower and reacts late.",
        panel="Machine",
    )
    allow_slow: bool = option(
        False,
        "Compute in bf16 also where the processor has to emulate it, many times slower than fp32; without this such a "
        "command is refused.",
        panel="Machine",
    )


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
