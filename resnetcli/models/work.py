"""How much arithmetic an image really needs: the measure behind a share of the machine's peak.

A tap of a convolution that falls on padding multiplies a zero that everybody knows. On the small maps of this network
that is a fifth of all multiply-accumulates: a kernel that skips them would seem to beat the machine if they counted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from resnetcli.config.base import IMAGE_SIZE
from resnetcli.models.resnet import STAGES, ResNet

HALF_READ = {
    f"{name}.{blocks - 2}.{part}.conv"
    for name, blocks, *_, halves in STAGES
    if halves
    for part in ("branch.1", "branch.2", "shortcut")
}
"""Convolutions of which the next block reads every second row and column. In training the BatchNorm behind them needs
the others too, for its statistics; in inference nobody does."""


def real_taps(size: int, kernel: int, stride: int, padding: int) -> int:
    """Pairs of an output and a tap that meets a real input, along one axis of `size` inputs."""
    outputs = (size + 2 * padding - kernel) // stride + 1
    starts = (output * stride - padding for output in range(outputs))
    return sum(max(0, min(start + kernel, size) - max(start, 0)) for start in starts)


def real_macs(network: ResNet, *, training: bool, size: int = IMAGE_SIZE) -> dict[str, int]:
    """Multiply-accumulates of each convolution and linear layer of a plain `network` (no fast paths in it) for one
    image of `size` pixels a side, by the layer's path, in the order of computation. Neither taps on padding nor what
    nobody reads count."""
    macs: dict[str, int] = {}

    def count(path: str, layer: nn.Module, x: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            macs[path] = layer.in_features * layer.out_features
        elif isinstance(layer, nn.Conv2d):
            thinned = 2 if path in HALF_READ and not training else 1
            taps = real_taps(x.shape[2], layer.kernel_size[0], thinned * layer.stride[0], int(layer.padding[0]))
            macs[path] = layer.in_channels * layer.out_channels * taps**2  # images and kernels are square

    def hook(path: str) -> Any:
        return lambda layer, args: count(path, layer, args[0])

    hooks = [layer.register_forward_pre_hook(hook(path)) for path, layer in network.named_modules()]
    was_training = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, size, size))
    finally:
        network.train(was_training)
        for handle in hooks:
            handle.remove()
    return macs


def inference_flops(network: ResNet) -> int:
    """Floating-point operations of the answer to one image: a multiplication and an addition each."""
    return 2 * sum(real_macs(network, training=False).values())


def training_flops(network: ResNet, size: int = IMAGE_SIZE) -> int:
    """Floating-point operations of a training step for one image of `size` pixels a side: forward, and the gradients of
    weights and inputs, as many each. Nobody asks for the gradient of the image, so the first layer has none of the last
    kind."""
    macs = list(real_macs(network, training=True, size=size).values())
    return 2 * (3 * sum(macs) - macs[0])
