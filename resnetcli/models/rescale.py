"""The same network from larger or smaller weights: BatchNorm divides by what the convolution in front multiplies."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from resnetcli.models.resnet import ConvUnit


@torch.no_grad()
def rescale(model: nn.Module, factor: float) -> None:
    """Multiplies every convolution in front of a BatchNorm by `factor`, and sets its statistics to match.

    All answers stay what they were, up to rounding. What changes is how far a step of fixed size turns a weight: Adam
    moves each number by about its learning rate, and weights as Muon leaves them, one in a hundred to one in ten
    large, are soon forgotten at 0.001. One epoch of the recipe `seed` after 46 of `balanced` ends at 80.77 % test
    accuracy from the weights as they are and at 86.19 % from ten times larger ones (one run each, seed 0).
    """
    for unit, convolution in _units(model):
        _multiply(unit, convolution, factor)


@torch.no_grad()
def rescale_for_muon(model: nn.Module) -> None:
    """Brings every convolution in front of a BatchNorm to norm √out; one of zeros stays as it is.

    Muon's first step would do that to those that it drives, but not to their statistics, and a network whose
    statistics belong to weights ten times as large answers by chance until they have caught up: from earlier
    packaged weights, an epoch of `fast` on the packaged sample, four steps, ended at 10.0 % test accuracy, and at
    80.4 % since.
    """
    for unit, convolution in _units(model):
        norm = convolution.weight.norm().item()
        if norm > 0:
            _multiply(unit, convolution, math.sqrt(convolution.out_channels) / norm)


def _units(model: nn.Module) -> Iterator[tuple[ConvUnit, nn.Conv2d]]:
    for unit in model.modules():
        if isinstance(unit, ConvUnit):
            assert isinstance(unit.conv, nn.Conv2d)
            yield unit, unit.conv


def _multiply(unit: ConvUnit, convolution: nn.Conv2d, factor: float) -> None:
    """The tensors are new: those of a checkpoint may lie in the memory of its file."""
    assert unit.bn.running_mean is not None
    assert unit.bn.running_var is not None
    convolution.weight = nn.Parameter(convolution.weight * factor)
    unit.bn.running_mean = unit.bn.running_mean * factor
    wanted = (unit.bn.running_var + unit.bn.eps) * factor**2
    variance = wanted - unit.bn.eps
    if (variance < 0).any():  # of a channel that hardly varies: no variance is that small, so the scale gives way
        scale = torch.where(variance < 0, (unit.bn.eps / wanted).sqrt(), 1.0)
        unit.bn.weight = nn.Parameter(unit.bn.weight * scale)
        variance = variance.clamp(min=0)
    unit.bn.running_var = variance
