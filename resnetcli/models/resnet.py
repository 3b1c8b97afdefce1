"""The network: a simplified ResNet-50 for 32x32 colour images.

Two things differ from the ResNet-50 of He et al. (2015, https://arxiv.org/abs/1512.03385), and both are meant: every
convolution unit ends in its own ReLU, the last of a branch and the shortcut's too, and nothing follows the sum; and
the *last* block of a stage halves the resolution, with the stride in its first 1x1 convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnetcli.config.base import Shortcut

STAGES = (
    # name, blocks, in, mid, out, whether the last block halves the resolution
    ("layer2", 3, 64, 64, 256, True),
    ("layer3", 4, 256, 128, 512, True),
    ("layer4", 6, 512, 256, 1024, False),
)


class ConvUnit(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU: [N,in,H,W] to [N,out,H/stride,W/stride]."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv: nn.Module = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)


class ResidualBlock(nn.Module):
    """Bottleneck: branch(x) + shortcut(x), [N,in,H,W] to [N,out,H,W], or to half of H and W where it downsamples."""

    def __init__(self, in_channels: int, mid: int, out: int, *, downsample: bool, projection: bool) -> None:
        super().__init__()
        stride = 2 if downsample else 1
        self.branch = nn.Sequential(
            ConvUnit(in_channels, mid, 1, stride),
            ConvUnit(mid, mid, 3),
            ConvUnit(mid, out, 1),
        )
        project = projection or downsample or in_channels != out
        self.shortcut = ConvUnit(in_channels, out, 1, stride) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.shortcut(x)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Normalised images float[N,3,32,32] to logits float[N,num_classes].

    `shortcut="projection"` puts a 1x1 convolution unit on every shortcut, as the best-known public implementations of
    this network do. `branch_scale` is the initial BatchNorm scale at the end of each branch: with ReLU on both sides
    of a sum the stream can only grow, and at scale 1 the first loss is near 5 instead of 2.3: 0.3 brings 22.2 points
    after three epochs of `fast` (examples/ablation.md). It must not be 0: ReLU(0) passes no gradient.
    """

    def __init__(self, num_classes: int = 10, shortcut: Shortcut = "identity", branch_scale: float = 1.0) -> None:
        super().__init__()
        self.shortcut: Shortcut = shortcut
        self.layer1: nn.Module = nn.Sequential(ConvUnit(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
        for name, blocks, in_channels, mid, out, halves in STAGES:
            stage = nn.Sequential()
            for i in range(blocks):
                last = i == blocks - 1
                stage.append(
                    ResidualBlock(
                        in_channels if i == 0 else out,
                        mid,
                        out,
                        downsample=halves and last,
                        projection=shortcut == "projection",
                    )
                )
            self.add_module(name, stage)
        self.pool: nn.Module = nn.AvgPool2d(2)
        self.head = nn.Linear(STAGES[-1][4], num_classes)
        if not self.head.weight.is_meta:
            self._initialize(branch_scale)

    def _initialize(self, branch_scale: float) -> None:
        """Kaiming normal by fan-out for convolutions, as in He et al. (2015, https://arxiv.org/abs/1502.01852)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, ResidualBlock):
                end = module.branch[2]
                assert isinstance(end, ConvUnit)
                nn.init.constant_(end.bn.weight, branch_scale)

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer1(images)
        for name, *_ in STAGES:
            x = self.get_submodule(name)(x)
        return self.head(torch.flatten(self.pool(x), 1))  # type: ignore[no-any-return]
