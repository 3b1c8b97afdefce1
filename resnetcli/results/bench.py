"""Speeds, side by side."""

from __future__ import annotations

from resnetcli.results.base import SCHEMA_VERSION, Result


class Spread(Result):
    """A rate over the rounds of a measurement, in their order, with their median and their extremes."""

    median: float
    low: float
    high: float
    rounds: tuple[float, ...]


class Machine(Result):
    """What a speed was measured on."""

    device: str
    name: str
    """Model of the GPU, or of the CPU."""
    threads: int
    precision: str
    torch: str


class FirstEpochs(Result):
    """Training speed at the smaller size with which a run begins."""

    image_size: int
    """Pixels a side."""
    tool: Spread
    """Images a second."""
    flops_per_image: int
    roof_share: float
    """As in BenchResult, for images of this size."""


class BenchResult(Result):
    """Speed of the tool beside a plain PyTorch loop and beside the machine's own matrix products."""

    schema_version: int = SCHEMA_VERSION
    command: str
    """ "bench train" or "bench infer"."""
    machine: Machine
    shortcut: str
    optimizer: str | None
    batch_size: int
    plain_batch_size: int
    tool: Spread
    """Images a second."""
    plain: Spread
    """Images a second."""
    ratio: float
    """Median of the tool over median of the plain loop."""
    images: int
    """What the two times are for: the training images of CIFAR-10, or its test images."""
    image_size: int
    """Pixels a side, of the tool and of the plain loop alike."""
    first_epochs: FirstEpochs | None
    """Of a run whose images are smaller at first; it has no part in `ratio`."""
    seconds: float
    plain_seconds: float
    matrix: Spread
    """Floating-point operations a second of plain matrix products in the tool's precision."""
    flops_per_image: int
    """Floating-point operations that an image needs: 2 for each multiply-accumulate, none for a tap on padding."""
    roof: Spread
    """Images a second, if an image were made of such products: `matrix` over `flops_per_image`."""
    roof_share: float
    """Median of the tool over median of the roof."""
    plain_roof_share: float
    peak_memory: int
    """Of the tool's process (on a GPU: of its allocator), the images among it, after the tool's first turn."""
