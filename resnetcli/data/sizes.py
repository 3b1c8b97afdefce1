"""Smaller images in the first part of a run: their size in each epoch, and how they are shrunk."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from resnetcli.config.base import IMAGE_SIZE
from resnetcli.config.train import TrainConfig


def small_epochs(config: TrainConfig) -> int:
    """How many epochs at the beginning of the run have small images: those that begin before `start_size_until`.

    Where a run was extended by `stretch` before its images had grown, that is a share of its new length; else they
    grow, or have grown, where it was planned.
    """
    if config.start_size >= IMAGE_SIZE:
        return 0
    if config.start_size_until == 1:
        return config.epochs
    plans = [*(extension.epochs for extension in config.extensions), config.epochs]
    small = _small_of(config, plans[0])
    for extension, epochs in zip(config.extensions, plans[1:], strict=True):
        begun = extension.epoch + (extension.step > 0)
        if extension.policy == "stretch" and begun <= small:
            small = max(begun, _small_of(config, epochs))
    return small


def _small_of(config: TrainConfig, epochs: int) -> int:
    return math.ceil(round(config.start_size_until * epochs, 6))  # 0.55 of 100 is 55 but for rounding


def size_in(config: TrainConfig, epoch: int) -> int:
    """Pixels a side of the training images of `epoch`, from 0.

    Howard et al., fast.ai's entry to DAWNBench (2018, https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html),
    train so; Tan & Le, "EfficientNetV2: Smaller models and faster training" (2021, https://arxiv.org/abs/2104.00298),
    section 4, study it. Here crop, flip and TrivialAugment come first, at full size.

    Training steps of the recipe fast take 1.37, 1.28 and 1.08 times as many images/s at 20, 24 and 28 pixels as at 32:
    medians of 10 rounds, CPU time of one AVX-512 core in bf16, batch 512; steps as of `resnetcli bench train --recipe
    fast --start-size 24`, but all sizes by turns. There is no more to gain: the arithmetic of an image shrinks by
    1.39, 1.32 and 1.05, for the last maps are 2x2 at every size. It has a price: of three epochs of `fast`, one at 24
    pixels costs 1.0 point against none, and two cost 3.7 (examples/ablation.md).
    """
    return config.start_size if epoch < small_epochs(config) else IMAGE_SIZE


class Shrink:
    """Square images of `size` pixels a side to `to` pixels: each new pixel is the mean over the area that it covers of
    the old image, whose pixels are taken for squares of one colour.

    As two products it takes 6 to 10 ms for 512 images, torch's antialiased interpolation of floats 8 to 14 ms (CPU time
    of one core, medians of 9); that of uint8 takes 2 ms, but rounds, and no GPU has it.
    """

    def __init__(self, size: int, to: int, device: torch.device) -> None:
        shares = area_shares(size, to)
        self.rows = shares.to(device)
        # Along a row the channels lie between the pixels, each of which has its share of its own channel only.
        self.columns = torch.kron(shares, torch.eye(3)).T.contiguous().to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """uint8[B,3,size,size], channels_last, to float32[B,3,to,to] in 0..255, channels_last, not rounded."""
        lines = images.permute(0, 2, 3, 1).flatten(2).float()
        shrunk = self.rows @ (lines @ self.columns)
        return shrunk.view(*shrunk.shape[:2], -1, 3).permute(0, 3, 1, 2)


def area_shares(size: int, to: int) -> Tensor:
    """What each of `size` places on a line has in the mean over each of `to` equal parts of it, float32[to,size]."""
    place = torch.arange(size, dtype=torch.float64)
    part = torch.arange(to, dtype=torch.float64)[:, None] * (size / to)
    overlap = torch.minimum(place + 1, part + size / to) - torch.maximum(place, part)
    return (overlap.clamp(0) * (to / size)).float()
