"""Random crop and flip of a whole batch as one gather on uint8 images that already lie on the device.

Every draw is a pure function of (seed, epoch, index of the image), so that a run can go on from any step of any epoch
with nothing saved but the step's number.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import torch
from torch import Tensor


def generator_for(purpose: str, seed: int, epoch: int) -> torch.Generator:
    """A CPU generator that depends on these three and on nothing else; the same on every device and machine."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order in which epoch `epoch` visits `count` images: a permutation, int64[count]."""
    return torch.randperm(count, generator=generator_for("order", seed, epoch))


def epoch_draws(count: int, padding: int, seed: int, epoch: int, *, alternating_flip: bool = False) -> Tensor:
    """What happens to each image in this epoch, int64[count,3]: row shift and column shift in -padding..padding, flip
    0/1.

    With `alternating_flip` chance decides in epoch 0 only, and from then on an image is mirrored in every second epoch:
    two epochs show both sides of every image. Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (2024,
    https://arxiv.org/abs/2404.00498). After three epochs of `fast` it and flips by chance differ by 0.2 points, which
    is no difference (examples/ablation.md).
    """
    generator = generator_for("augment", seed, epoch)
    shifts = torch.randint(-padding, padding + 1, (count, 2), generator=generator)
    if alternating_flip:
        flips = (torch.randint(0, 2, (count, 1), generator=generator_for("flip", seed, 0)) + epoch) % 2
    else:
        flips = torch.randint(0, 2, (count, 1), generator=generator)
    return torch.cat((shifts, flips), 1)


def crop_and_flip(
    images: Tensor, indices: Tensor, draws: Tensor, *, padding_mode: Literal["zero", "reflect"], flip: bool
) -> Tensor:
    """Shifted and mirrored copies of `images[indices]`.

    `images` is uint8[N,C,H,W] (channels_last in memory), `indices` int64[B], `draws` int64[B,3] from `epoch_draws`,
    shifts smaller than H and W. The result is uint8[B,C,H,W], channels_last. It equals padding each side, cutting H x
    W out at the shifted place, then mirroring. Both are for runs that see an image often: after three epochs of `fast`
    the crop costs 0.6 points and the flip 0.8, both within chance (examples/ablation.md).
    """
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) + draws[:, :1]
    columns = torch.arange(width, device=images.device).expand(len(draws), width)
    if flip:
        columns = torch.where(draws[:, 2:] == 1, width - 1 - columns, columns)
    columns = columns + draws[:, 1:2]
    # Reflection without repeating the edge: -1 becomes 1, and H becomes H - 2.
    inside_rows = (height - 1 - (height - 1 - rows.abs()).abs()).clamp_(0)
    inside_columns = (width - 1 - (width - 1 - columns.abs()).abs()).clamp_(0)
    pixels = images.permute(0, 2, 3, 1)[indices[:, None, None], inside_rows[:, :, None], inside_columns[:, None, :]]
    if padding_mode == "zero":
        outside = (rows != inside_rows)[:, :, None] | (columns != inside_columns)[:, None, :]
        pixels = pixels.masked_fill_(outside[..., None], 0)
    return pixels.permute(0, 3, 1, 2)
