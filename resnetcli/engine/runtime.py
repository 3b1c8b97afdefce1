"""The machine: device, threads, precision, seeds, and what is written down about them."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from resnetcli import __version__
from resnetcli.config.base import Precision
from resnetcli.engine.precision import BF16_MIN_ACCEPTED_GAIN, BF16_MIN_GAIN, measure_bf16_gain
from resnetcli.errors import UsageError


@dataclass(frozen=True, slots=True)
class Runtime:
    """A device with a thread count and a precision, all decided."""

    device: torch.device
    precision: str
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def in_float32(self) -> Runtime:
        """The same machine, measuring: a reported accuracy does not depend on the precision of training."""
        return replace(self, precision="fp32")

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


def resolve_runtime(
    device: str,
    threads: int,
    precision: Precision,
    bf16_gain: Callable[[], float] = measure_bf16_gain,
    *,
    allow_slow: bool = False,
) -> Runtime:
    """Decides what `auto` leaves open and sets the thread count of this process.

    `bf16_gain` says how many times faster than fp32 the CPU is in bf16; it is asked only where that decides. Raises
    UsageError for a device that is not there and, unless `allow_slow`, for bf16 on a CPU that emulates it.
    """
    chosen = resolve_device(device)
    if threads:
        torch.set_num_threads(threads)
    if chosen.type == "cpu":
        keep_freed_memory()
    torch.set_float32_matmul_precision("highest")
    if chosen.type == "cuda":  # float32 means float32, and the same sums twice
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    if precision == "auto":
        match chosen.type:
            case "cpu":
                pays = bf16_gain() > BF16_MIN_GAIN
            case "cuda":
                pays = torch.cuda.get_device_capability(chosen) >= (8, 0)
            case _:
                pays = False
        precision = "bf16" if pays else "fp32"
    elif precision == "bf16" and chosen.type == "cpu" and not allow_slow:
        _check_bf16(bf16_gain())
    return Runtime(chosen, precision, torch.get_num_threads())


def _check_bf16(gain: float) -> None:
    if gain < BF16_MIN_ACCEPTED_GAIN:
        raise UsageError(
            f"bf16 is about {1 / gain:.0f} times slower than fp32 on this processor ({processor_name()})",
            "use --precision fp32, or --allow-slow to compute in bf16 all the same; a resumed run keeps its precision",
        )


def keep_freed_memory() -> None:
    """Lets a training step use the memory of the step before again, in large pages.

    By default glibc returns every large tensor to the kernel and gets it back page by page: 64,000 page faults and a
    sixth of the time of a step at batch 512 (getrusage around steps of the default recipe). It holds for the whole
    process, which from then on keeps the most that it has needed. Elsewhere (macOS, musl) this does nothing.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # from malloc.h
        mallopt(mmap_max, 0)  # a high M_MMAP_THRESHOLD would do as well, but old versions of glibc refuse one
        mallopt(trim_threshold, 1 << 30)
        mallopt(top_pad, 64 << 20)


def seed_everything(seed: int) -> None:
    """Seeds the initial weights. Order and augmentation have generators of their own."""
    torch.manual_seed(seed)


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return _peak_working_set()
    else:  # noqa: RET505  # for mypy, to which what follows a return here is unreachable on Windows
        import resource  # Unix only

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


if sys.platform == "win32":
    from ctypes import wintypes

    class _MemoryCounters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS of psapi.h."""

        _fields_ = (
            ("size", wintypes.DWORD),
            ("page_faults", wintypes.DWORD),
            ("peak_working_set", ctypes.c_size_t),
            *((f"other{i}", ctypes.c_size_t) for i in range(7)),
        )

    def _peak_working_set() -> int:
        """Most bytes that this process has had in memory; 0 where Windows does not say."""
        counters = _MemoryCounters(size=ctypes.sizeof(_MemoryCounters))
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        ask = kernel.K32GetProcessMemoryInfo
        ask.argtypes = (wintypes.HANDLE, ctypes.POINTER(_MemoryCounters), wintypes.DWORD)
        ask(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size)
        return int(counters.peak_working_set)


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor calls itself; where it cannot be asked, its architecture."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == "model name")
    return next(names, "") or platform.processor() or platform.machine()


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
