"""The network as others write it down, with their names and their convolution biases: what our import is held
against."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def unit(in_channels: int, out: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out, kernel, stride, padding), nn.BatchNorm2d(out), nn.ReLU())


class ForeignBlock(nn.Module):
    def __init__(self, in_channels: int, mid: int, out: int, down: bool, projection: bool) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            unit(in_channels, mid, 1, 2 if down else 1, 0), unit(mid, mid, 3, 1, 1), unit(mid, out, 1, 1, 0)
        )
        if down:
            self.downsize = unit(in_channels, out, 1, 2, 0)
        elif projection or in_channels != out:
            self.make_equal_channel = unit(in_channels, out, 1, 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        for name in ("downsize", "make_equal_channel"):
            if hasattr(self, name):
                shortcut = getattr(self, name)(x)
        return self.layer(x) + shortcut


Stages = dict[str, list[tuple[int, int, int, bool]]]

WHOLE: Stages = {
    "layer2": [(i, 64, 256, d) for i, d in ((64, False), (256, False), (256, True))],
    "layer3": [(i, 128, 512, d) for i, d in ((256, False), (512, False), (512, False), (512, True))],
    "layer4": [(i, 256, 1024, False) for i in (512, *[1024] * 5)],
}
"""Blocks of each stage: channels in, in the middle and out, and whether it halves the map."""
SMALL: Stages = {"layer2": [(64, 4, 8, True)], "layer3": [(8, 4, 8, True)], "layer4": [(8, 4, 16, False)]}
"""Those of tests/small.py."""


class ForeignNet(nn.Module):
    def __init__(self, variant: str, stages: Stages = WHOLE) -> None:
        super().__init__()
        p = variant == "projection"
        self.layer1 = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        for name, blocks in stages.items():
            setattr(self, name, nn.Sequential(*[ForeignBlock(i, mid, out, d, p) for i, mid, out, d in blocks]))
        self.fc = nn.Linear(stages["layer4"][-1][2], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(nn.functional.avg_pool2d(x, 2).flatten(1))


def lived_in(variant: str, seed: int = 0, stages: Stages = WHOLE) -> ForeignNet:
    """A foreign network whose every number differs from its initial value, as after training."""
    torch.manual_seed(seed)
    net = ForeignNet(variant, stages)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.2, 0.6)
                module.bias.uniform_(-0.2, 0.2)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
            if isinstance(module, nn.Conv2d):
                module.bias.uniform_(-0.5, 0.5)
    return net
