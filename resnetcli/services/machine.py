"""What was measured of this machine, remembered in the user's cache folder: whether bf16 pays."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from resnetcli.checkpoints import storage
from resnetcli.config.base import Precision
from resnetcli.data.cifar10 import cache_folder
from resnetcli.engine.precision import measure_bf16_gain
from resnetcli.engine.runtime import Runtime, processor_name, resolve_runtime
from resnetcli.errors import ResnetCliError

FILE = "machine.json"


class Measurements(BaseModel):
    """How many times faster bf16 is than fp32, by processor, version of torch and thread count."""

    model_config = ConfigDict(frozen=True)

    bf16_gain: dict[str, float] = {}


def runtime_for(
    device: str, threads: int, precision: Precision, cache_dir: Path | None = None, *, allow_slow: bool = False
) -> Runtime:
    """`resolve_runtime` with a memory: what `auto` means here is measured once, so that two runs side by side, or one
    on a busy day, do not come to different precisions. Raises UsageError as `resolve_runtime` does."""

    def gain() -> float:
        return _remembered_gain(cache_folder(cache_dir) / FILE)

    return resolve_runtime(device, threads, precision, gain, allow_slow=allow_slow)


def _remembered_gain(path: Path) -> float:
    key = f"{processor_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    try:
        known = Measurements.model_validate_json(path.read_bytes()).bf16_gain
    except (OSError, ValidationError):
        known = {}
    gain = known.get(key, math.nan)
    if math.isfinite(gain) and gain > 0:
        return gain
    gain = float(f"{measure_bf16_gain():.3g}")
    measurements = Measurements(bf16_gain=known | {key: gain})
    with contextlib.suppress(OSError, ResnetCliError):  # a cache that cannot be written costs the next run 0.2 s
        storage.write_file(path, measurements.model_dump_json(indent=2).encode(), parents=True)
    return gain
