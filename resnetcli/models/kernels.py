"""Exact fast paths for training on CPUs: the same parameters, the same sums, arranged as larger matrix products.

On the small maps of this network a CPU's convolution routines reach a fraction of its matrix rate. `accelerate` swaps
the modules concerned for ones that share their parameters, so checkpoints and optimisers notice nothing. All paths
keep images channels_last: one that changed the layout half-way would pay for it in every ReLU and BatchNorm that
follows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetcli.models.resnet import ConvUnit, ResNet

PRODUCT_MAX_SIDE = {torch.bfloat16: 4, torch.float32: 2}
"""Side of the largest map on which a 1x1 convolution is faster as a matrix product, forward and backward together:
1.1 to 2.3 times in bf16 and 1.0 to 1.2 times in float32; one size larger it is slower (0.95 and 0.7 to 0.9 times).
Of the maps of smaller images, 5 to 7 a side, neither way gains in a whole step in bf16 (0.99 to 1.01 times)."""


def pointwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A 1x1 convolution as one product over all pixels: [N,in,H,W] and [out,in,1,1] to [N,out,H/stride,W/stride]."""
    # Slice after the permutation: in NCHW order the gradient would come back in another layout.
    pixels = x.permute(0, 2, 3, 1)[:, ::stride, ::stride]
    return F.linear(pixels, weight.flatten(1)).permute(0, 3, 1, 2)


def dense3x3(x: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
    """A 3x3 convolution with padding 1 on 2x2 maps as one product [N,4·in] x [4·in,4·out]: [N,in,2,2] to [N,out,2,2].

    Each output sees each of the four inputs through exactly one tap (`taps`, int64[16], from `tap_table`): 16 of the
    36 tap positions are real, the rest would multiply padding.
    """
    flat = F.linear(x.permute(0, 2, 3, 1).flatten(1), dense_weight(weight, taps))
    return flat.view(len(x), 2, 2, -1).permute(0, 3, 1, 2)


def dense_weight(weight: Tensor, taps: Tensor) -> Tensor:
    """The weights of a 3x3 convolution, [out,in,3,3], as the matrix [4·out,4·in] from one 2x2 map to the next."""
    out, in_ = weight.shape[:2]
    gathered = weight.flatten(2).permute(2, 0, 1).index_select(0, taps)  # [4 outputs · 4 inputs, out, in]
    return gathered.view(4, 4, out, in_).transpose(1, 2).reshape(4 * out, 4 * in_)


def tap_table() -> Tensor:
    """int64[16]: for each pair (output, input) of the positions of a 2x2 map, which of the nine taps joins them."""
    side = torch.arange(2)
    offset = side[None, :] - side[:, None] + 1  # [output, input] along one side
    return (3 * offset[:, None, :, None] + offset[None, :, None, :]).reshape(16)


class PointwiseConv2d(nn.Module):
    """Stands in for a 1x1 `Conv2d` and shares its weight."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.stride = conv.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        # With a stride the product wins at every size (1.3 to 3.5 times): a convolution's gradient writes the zeros of
        # all pixels in between on its slow path.
        if self.stride > 1 or x.shape[2] <= PRODUCT_MAX_SIDE.get(_arithmetic(x), 2):
            return pointwise(x, self.weight, self.stride)
        return F.conv2d(x, self.weight)


class DenseConv2d(nn.Module):
    """Stands in for a 3x3 `Conv2d` with padding 1 and shares its weight."""

    taps: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.register_buffer("taps", tap_table(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] == (2, 2):
            return dense3x3(x, self.weight, self.taps)
        return F.conv2d(x, self.weight, padding=1)


class PooledStem(nn.Sequential):
    """The stem with pooling before ReLU: the maximum commutes with it, and a quarter of the values are left to clip."""

    def forward(self, images: Tensor) -> Tensor:
        unit, pool = self
        assert isinstance(unit, ConvUnit)
        return unit.relu(pool(unit.bn(unit.conv(images))))  # type: ignore[no-any-return]


class MeanPool(nn.Module):
    """Stands in for the average over the last 2x2 map: summed where the channels lie together, so that the gradient
    is a plain broadcast (8 ms of a step with 512 images before, under 1 ms so)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


def _arithmetic(x: Tensor) -> torch.dtype:
    """What a product with `x` is computed in, autocast counted in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def accelerate(network: ResNet) -> ResNet:
    """Puts the fast paths into a fresh `network`, in place. Names, parameters and state stay as they are."""
    for unit in [m for m in network.modules() if isinstance(m, ConvUnit)]:
        assert isinstance(unit.conv, nn.Conv2d)
        if unit.conv.kernel_size == (1, 1):
            unit.conv = PointwiseConv2d(unit.conv)
        elif unit.conv.kernel_size == (3, 3):
            unit.conv = DenseConv2d(unit.conv)
    network.layer1 = PooledStem(*network.layer1.children())
    network.pool = MeanPool()
    return network
