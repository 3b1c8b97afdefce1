"""Whether bf16 pays on this CPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

BF16_MIN_GAIN = 1.3
"""How much faster than fp32 bf16 must be on a CPU before `auto` chooses it: below this, rounding buys nothing."""
BF16_MIN_ACCEPTED_GAIN = 0.5
"""Below this gain a CPU emulates bf16, and it is computed only for whoever asks for it twice."""
CLEARLY_SLOWER = 3.0
"""Times slower at a small product: emulation, which no other measurement will make good."""


def measure_bf16_gain() -> float:
    """How many times faster than fp32 this CPU is in bf16, at a convolution and a product of the network's.

    Flags of the processor say what it can do, not how fast this build of torch does it, and some builds are many times
    slower in bf16. Where a small product is clearly slower, the large one, which may then take seconds, is left out.
    The best of several turns counts: other work on the machine only ever slows a turn down.
    """
    small = _bf16_gain(_small_product)
    return small if small < 1 / CLEARLY_SLOWER else _bf16_gain(_convolution_and_product)


def _bf16_gain(work: Callable[[torch.dtype], None]) -> float:
    """How many times faster `work` is in bf16 than in fp32, in the best of five turns each."""
    times: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(5):
        for dtype, seconds in times.items():
            start = time.perf_counter()
            work(dtype)
            seconds.append(time.perf_counter() - start)
    return min(times[torch.float32]) / min(times[torch.bfloat16])


def _small_product(dtype: torch.dtype) -> None:
    matrix = torch.ones(256, 256, dtype=dtype)
    torch.mm(matrix, matrix)


def _convolution_and_product(dtype: torch.dtype) -> None:
    images = torch.ones(256, 128, 4, 4, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.ones(128, 128, 3, 3, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    pixels = torch.ones(1024, 1024, dtype=dtype).requires_grad_()
    matrix = torch.ones(256, 1024, dtype=dtype).requires_grad_()
    F.conv2d(images, weight, padding=1).sum().backward()  # type: ignore[no-untyped-call]
    F.linear(pixels, matrix).sum().backward()  # type: ignore[no-untyped-call]
