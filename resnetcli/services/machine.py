"""What was measured of this machine, remembered in the user's cache folder: whether bf16 pays."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from resnetcli.checkpoints import storage
from resnetcli.config.base import CacheOptions, ComputeOptions, InferenceOptions
from resnetcli.config.train import TrainConfig
from resnetcli.cpus import usable_cpus
from resnetcli.data.cifar10 import cache_folder
from resnetcli.engine.precision import measure_bf16_gain
from resnetcli.engine.runtime import Runtime, processor_name, resolve_runtime
from resnetcli.errors import ResnetCliError, StorageError
from resnetcli.events import Notice, OnEvent, Phase
from resnetcli.untrusted import parse_json, read_plain

FILE = "machine.json"
MAX_BYTES = 2**16
"""Of that file: room for hundreds of combinations."""


class Measurements(BaseModel):
    """How many times faster bf16 is than fp32, by processor, version of torch and thread count."""

    model_config = ConfigDict(frozen=True)

    bf16_gain: dict[str, float] = {}


def runtime_for(config: InferenceOptions | TrainConfig, on_event: OnEvent) -> Runtime:
    """`resolve_runtime` with a memory: what `auto` means here is measured once, so that two runs side by side, or one
    on a busy day, do not come to different precisions. The threads are at most the CPUs that this process may use,
    unless `config` allows more; a notice says where that matters. Raises UsageError as `resolve_runtime` does."""
    cache_dir = config.cache_dir if isinstance(config, CacheOptions) else None

    def gain() -> float:
        on_event(Phase("choosing the precision"))
        try:
            return _remembered_gain(cache_folder(cache_dir) / FILE)
        except StorageError:  # no home, no memory
            return measure_bf16_gain()

    threads = _threads(config, on_event)
    return resolve_runtime(config.device, threads, config.precision, gain, allow_slow=config.allow_slow)


def _threads(config: ComputeOptions, on_event: OnEvent) -> int:
    """What to set, 0 to leave torch's own choice. More threads than CPUs wait for each other at every barrier: with 99
    on two, a step takes minutes, and nothing that is asked in between, a closed pipe or Ctrl-C, is noticed."""
    usable, wanted = usable_cpus(), config.threads or torch.get_num_threads()
    if wanted <= usable:
        return config.threads
    cpus = f"{usable} CPU{'' if usable == 1 else 's'}"
    if config.allow_oversubscription:
        on_event(Notice(f"{wanted} threads on the {cpus} that this process may use: this will be slow", warning=True))
        return config.threads
    if config.threads:
        text = f"threads {wanted}: this process may use {cpus}, and takes as many threads"
        on_event(Notice(f"{text} (--allow-oversubscription takes {wanted})", warning=True))
    return usable


def _remembered_gain(path: Path) -> float:
    key = f"{processor_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    try:
        known = Measurements.model_validate(parse_json(read_plain(path, MAX_BYTES))).bf16_gain
    except (OSError, ValueError):
        known = {}
    gain = known.get(key, math.nan)
    if math.isfinite(gain) and gain > 0:
        return gain
    gain = float(f"{measure_bf16_gain():.3g}")
    measurements = Measurements(bf16_gain=known | {key: gain})
    with contextlib.suppress(OSError, ResnetCliError):  # a cache that cannot be written costs the next run 0.2 s
        storage.write_file(path, measurements.model_dump_json(indent=2).encode(), parents=True)
    return gain
