"""Choosing images evenly over the classes: pure functions of the labels, a size and a seed."""

from __future__ import annotations

import math

import torch


def stratified_split(labels: torch.Tensor, fraction: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hold out `floor(fraction * count)` images of each class.

    `labels: int64[N]`. Returns `(train, val)`: sorted int64 indices that together are 0..N-1.
    """
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for members in _members(labels):
        # 0.29 * 100 is 28.999999999999996 in floating point, and 29 is meant
        count = math.floor(fraction * len(members) + 1e-9)
        held_out[_draw(members, count, generator)] = True
    return torch.nonzero(~held_out).flatten(), torch.nonzero(held_out).flatten()


def stratified_limit(labels: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Sorted int64 indices of `count` images (all, if there are fewer), the classes in the proportions of `labels:
    int64[N]`.

    Where the proportions leave a fraction of an image, the largest fractions are rounded up, among equal ones the
    lowest class.
    """
    classes = _members(labels)
    count = min(count, len(labels))
    sizes = [count * len(members) // len(labels) for members in classes]
    remainders = [count * len(members) % len(labels) for members in classes]
    by_remainder = sorted(range(len(classes)), key=lambda index: -remainders[index])
    for index in by_remainder[: count - sum(sizes)]:
        sizes[index] += 1
    generator = torch.Generator().manual_seed(seed)
    drawn = [_draw(members, size, generator) for members, size in zip(classes, sizes, strict=True)]
    return torch.cat([torch.empty(0, dtype=torch.int64), *drawn]).sort().values


def _members(labels: torch.Tensor) -> list[torch.Tensor]:
    if len(labels) == 0:
        return []
    return [torch.nonzero(labels == label).flatten() for label in range(int(labels.max()) + 1)]


def _draw(members: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return members[torch.randperm(len(members), generator=generator)[:count]]
