"""The network for inference: the same function of the image with fewer operations.

What training needs and inference does not is worked out beforehand. BatchNorm becomes part of the convolution in front
of it (Jacob et al., 2018, https://arxiv.org/abs/1712.05877, section 3.2). A block that halves the resolution reads
every second row and column in both of its branches, so the block before it computes no others: 8 % of the network's
multiply-accumulates. On 2x2 maps a 3x3 convolution is one dense product (see `kernels`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetcli.models.kernels import dense_weight, tap_table
from resnetcli.models.resnet import STAGES, ConvUnit, ResidualBlock, ResNet


class FoldedUnit(nn.Module):
    """Convolution with the BatchNorm behind it folded in, then ReLU. `stride` replaces the convolution's own."""

    weight: Tensor
    bias: Tensor

    def __init__(self, unit: ConvUnit, stride: int, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = _fold(unit)
        self.stride, self.padding = stride, weight.shape[2] // 2
        self.register_buffer("weight", weight.to(dtype, memory_format=torch.channels_last))
        self.register_buffer("bias", bias.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(F.conv2d(x, self.weight, self.bias, self.stride, self.padding))


class FoldedPointwise(FoldedUnit):
    """A 1x1 `FoldedUnit` as one product over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)[:, :: self.stride, :: self.stride]
        return F.relu_(F.linear(pixels, self.weight.flatten(1), self.bias)).permute(0, 3, 1, 2)


class FoldedStem(FoldedUnit):
    """With pooling before ReLU: the maximum commutes with it, and a quarter of the values are left to clip."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(F.max_pool2d(F.conv2d(x, self.weight, self.bias, self.stride, self.padding), 3, 2, 1))


class FoldedDense(nn.Module):
    """A 3x3 `FoldedUnit` on 2x2 maps, as one product."""

    weight: Tensor
    bias: Tensor

    def __init__(self, unit: ConvUnit, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = _fold(unit)
        self.register_buffer("weight", dense_weight(weight, tap_table().to(weight.device)).to(dtype))
        self.register_buffer("bias", bias.repeat(4).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x.permute(0, 2, 3, 1).flatten(1), self.weight, self.bias)
        return F.relu_(y).view(len(x), 2, 2, -1).permute(0, 3, 1, 2)


class FoldedBlock(nn.Module):
    """A residual block of which only every `keep`-th row and column is computed; `side` is that of its input."""

    def __init__(self, block: ResidualBlock, side: int, *, stride: int, keep: int, dtype: torch.dtype) -> None:
        super().__init__()
        first, middle, last = block.branch
        assert isinstance(first, ConvUnit)
        assert isinstance(middle, ConvUnit)
        assert isinstance(last, ConvUnit)
        dense = side // stride == 2 and keep == 1
        # In bf16 products win on small maps; in float32 convolutions are as fast.
        on_small = FoldedPointwise if dtype == torch.bfloat16 else FoldedUnit
        first_kind = on_small if side // stride <= 4 else FoldedUnit
        last_kind = on_small if side // stride // keep <= 4 else FoldedUnit
        self.branch = nn.Sequential(
            first_kind(first, stride, dtype),
            FoldedDense(middle, dtype) if dense else FoldedUnit(middle, keep, dtype),
            last_kind(last, 1, dtype),
        )
        shortcut = block.shortcut
        self.shortcut = last_kind(shortcut, stride * keep, dtype) if isinstance(shortcut, ConvUnit) else None
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        if self.shortcut is not None:
            return self.branch(x).add_(self.shortcut(x))  # type: ignore[no-any-return]
        kept = x if self.keep == 1 else x[:, :, :: self.keep, :: self.keep]
        return self.branch(x).add_(kept)  # type: ignore[no-any-return]


class InferenceNetwork(nn.Module):
    """Normalised images float32[N,3,32,32] (channels_last) to logits float32[N,num_classes], computed in `dtype`.

    A copy: what happens to `network` afterwards does not reach it. In float32 logits equal those of the network in
    eval mode to rounding (1e-5 of their size).
    """

    def __init__(self, network: ResNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        stem = network.layer1.get_submodule("0")
        assert isinstance(stem, ConvUnit)
        self.stem = FoldedStem(stem, 2, dtype)
        blocks = [
            (block, 2 if halves and i == count - 1 else 1)
            for name, count, *_, halves in STAGES
            for i, block in enumerate(network.get_submodule(name).children())
        ]
        self.blocks = nn.Sequential()
        side = 8
        for (block, stride), (_, next_stride) in zip(blocks, [*blocks[1:], (None, 1)], strict=True):
            assert isinstance(block, ResidualBlock)
            # What the next block skips is not computed here, and then the next one has nothing left to skip.
            own = 1 if len(self.blocks) and self.blocks[-1].keep == 2 else stride
            self.blocks.append(FoldedBlock(block, side, stride=own, keep=next_stride, dtype=dtype))
            side //= own * next_stride
        self.register_buffer("head_weight", network.head.weight.detach().to(dtype, copy=True))
        self.register_buffer("head_bias", network.head.bias.detach().to(dtype, copy=True))

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(self.stem(images.to(self.dtype)))
        pooled = x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)
        return F.linear(pooled, self.head_weight, self.head_bias).float()  # type: ignore[arg-type]


@torch.no_grad()
def _fold(unit: ConvUnit) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that equals convolution and BatchNorm; scale and shift are worked out in
    float64 where there is one."""
    assert isinstance(unit.conv.weight, Tensor)
    assert unit.bn.running_mean is not None
    assert unit.bn.running_var is not None
    exact = torch.float32 if unit.bn.weight.device.type == "mps" else torch.float64
    scale = unit.bn.weight.to(exact) / (unit.bn.running_var.to(exact) + unit.bn.eps).sqrt()
    bias = unit.bn.bias.to(exact) - unit.bn.running_mean.to(exact) * scale
    return unit.conv.weight * scale.float()[:, None, None, None], bias
