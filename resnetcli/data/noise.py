"""Images without meaning, for measuring speed, which does not depend on what an image shows."""

from __future__ import annotations

import torch

from resnetcli.config.base import CLASS_NAMES, IMAGE_SIZE
from resnetcli.data.cifar10 import Split


def random_split(count: int, seed: int = 0) -> Split:
    """`count` images and labels drawn evenly; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, len(CLASS_NAMES), (count,), generator=generator)
    return Split(pixels.permute(0, 3, 1, 2), labels)
