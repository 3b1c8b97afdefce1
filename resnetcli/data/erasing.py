"""Random erasing and cutout: boxes of the image that the network does not get to see.

After three epochs of `fast` random erasing of a quarter of the images and cutout of 8 pixels change nothing that could
be told from chance (examples/ablation.md).

A box is int64[4]: the first row and column in it, and the first ones behind it. Boxes may stand out over the border.
"""

from __future__ import annotations

import torch
from torch import Tensor

from resnetcli.config.base import IMAGE_SIZE
from resnetcli.config.train import TrainConfig
from resnetcli.data.augment import generator_for

AREA = (0.02, 0.4)
MAX_ASPECT = 1 / 0.3
"""Area of an erased box as a share of the image, and its height by its width or the reverse: those of the paper."""


def epoch_boxes(count: int, size: int, config: TrainConfig, epoch: int) -> Tensor | None:
    """All boxes of each image of `size` pixels a side in this epoch, int64[count,K,4]; None where the config asks for
    none."""
    boxes = []
    if config.erasing:
        boxes.append(erasing_boxes(count, size, config.erasing, config.seed, epoch))
    if config.cutout:
        side = round(config.cutout * size / IMAGE_SIZE)
        boxes.append(cutout_boxes(count, size, side, config.seed, epoch))
    return torch.stack(boxes, 1) if boxes else None


def erasing_boxes(count: int, size: int, probability: float, seed: int, epoch: int) -> Tensor:
    """Where to erase each image of `size` pixels a side in this epoch, int64[count,4]; empty with 1 - `probability`.

    Zhong et al., "Random erasing data augmentation" (2017, https://arxiv.org/abs/1708.04896). Where the paper draws
    area and aspect again until the box fits, here the aspect is drawn, on a logarithmic scale, from those that fit.
    """
    generator = generator_for("erasing", seed, epoch)
    chance, area, aspect, down, right = torch.rand(5, count, generator=generator, dtype=torch.float64)
    share = AREA[0] + (AREA[1] - AREA[0]) * area
    widest = share.reciprocal().clamp(max=MAX_ASPECT).log()
    root = ((2 * aspect - 1) * widest / 2).exp()  # of the aspect
    height = (size * share.sqrt() * root).round()
    width = (size * share.sqrt() / root).round()
    top = (down * (size - height + 1)).floor()
    left = (right * (size - width + 1)).floor()
    boxes = torch.stack((top, left, top + height, left + width), 1).long()
    return boxes.mul_((chance < probability)[:, None])


def cutout_boxes(count: int, size: int, side: int, seed: int, epoch: int) -> Tensor:
    """A square of `side` pixels around a pixel of each image, int64[count,4]; at the border a part of it lies outside.

    DeVries & Taylor, "Improved regularization of convolutional neural networks with cutout" (2017,
    https://arxiv.org/abs/1708.04552).
    """
    corners = torch.randint(0, size, (count, 2), generator=generator_for("cutout", seed, epoch)) - side // 2
    return torch.cat((corners, corners + side), 1)


def fill_boxes(images: Tensor, boxes: Tensor) -> None:
    """Zeros in all `boxes`, int64[B,K,4], of normalised `images`, float[B,C,H,W], in place: 0 is the mean colour."""
    rows = _between(boxes[..., 0], boxes[..., 2], images.shape[2])
    columns = _between(boxes[..., 1], boxes[..., 3], images.shape[3])
    inside = (rows[..., :, None] & columns[..., None, :]).any(1, keepdim=True)
    images.masked_fill_(inside, 0)


def _between(first: Tensor, end: Tensor, size: int) -> Tensor:
    """Which of 0..size-1 lie in first..end-1: int64[...] twice to bool[...,size]."""
    places = torch.arange(size, device=first.device)
    return torch.logical_and(places >= first[..., None], places < end[..., None])
