"""The machine: device, threads, precision, seeds, and what is written down about them."""

from __future__ import annotations

import platform
import resource
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from resnetcli import __version__
from resnetcli.config import Precision
from resnetcli.errors import UsageError

BF16_MIN_GAIN = 1.3
"""How much faster than fp32 bf16 must be on a CPU before it is chosen: below this, rounding buys nothing."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A device with a thread count and a precision, all decided."""

    device: torch.device
    precision: str
    threads: int

    def autocast(self) -> AbstractContextManager[None]:
        """The context of a training step's forward pass; in fp32 it changes nothing."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps` to a device that is there; else UsageError."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    device = torch.device(name)
    missing = (device.type == "cuda" and (not cuda or (device.index or 0) >= torch.cuda.device_count())) or (
        device.type == "mps" and not mps
    )
    if missing:
        found = f"{torch.cuda.device_count()} CUDA device(s)" if cuda else "no GPU that torch can use"
        raise UsageError(f"--device {name}: not on this machine (found {found})", "use --device auto or --device cpu")
    return device


def resolve_runtime(device: str, threads: int, precision: Precision) -> Runtime:
    """Decides what `auto` leaves open and sets the thread count of this process."""
    chosen = resolve_device(device)
    if threads:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    if chosen.type == "cuda":  # float32 means float32, and the same sums twice
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    if precision == "auto":
        precision = "bf16" if bf16_is_faster(chosen) else "fp32"
    return Runtime(chosen, precision, torch.get_num_threads())


def bf16_is_faster(device: torch.device) -> bool:
    """Whether bf16 pays on this device. On a CPU a short measurement decides (about 0.1 s): flags of the processor
    say what it can do, not how fast this build of torch does it, and some builds are many times slower in bf16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        images = torch.ones(64, 128, 8, 8, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
        weight = torch.ones(128, 128, 3, 3, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
        times = []
        for _ in range(4):
            start = time.perf_counter()
            F.conv2d(images, weight, padding=1).sum().backward()  # type: ignore[no-untyped-call]
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times)
    return seconds[torch.float32] > BF16_MIN_GAIN * seconds[torch.bfloat16]


def seed_everything(seed: int) -> None:
    """Seeds the initial weights. Order and augmentation have generators of their own."""
    torch.manual_seed(seed)


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions(runtime: Runtime) -> dict[str, str]:
    """What bit-identical repetition depends on besides the config."""
    device = torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else platform.machine()
    return {
        "resnetcli": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{runtime.device.type} ({device})",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(runtime.threads),
        "precision": runtime.precision,
    }
