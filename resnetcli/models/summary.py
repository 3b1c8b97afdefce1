"""Layers, shapes, parameters and multiply-accumulates of a network, collected while one image passes through it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from resnetcli.results.inspect import LayerRow

FLOAT_BYTES = 4


def summarize(network: nn.Module, input_shape: tuple[int, int, int, int]) -> tuple[LayerRow, ...]:
    """One row for each module, parents before children, in the order of definition; the first row is the whole network.

    `input_shape` is (N, C, H, W). MACs are counted for one image: convolutions k·k·in·out·H·W, linear layers in·out;
    everything else (BatchNorm, pooling, sums) is not a multiply-accumulate and counts 0. Activations are the outputs
    of the leaves for the batch, as training in float32 keeps them; a ReLU that works in place adds none.
    """
    outputs: dict[nn.Module, tuple[int, ...]] = {}

    def record(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs[module] = (input_shape[0], *output.shape[1:])

    hooks = [module.register_forward_hook(record) for module in network.modules()]
    was_training = network.training
    try:
        # One real image on the CPU takes 10 ms; the meta device would compute nothing, but importing it takes two
        # seconds.
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *input_shape[1:]))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return tuple(_row(name, module, outputs) for name, module in network.named_modules())


def _row(name: str, module: nn.Module, outputs: dict[nn.Module, tuple[int, ...]]) -> LayerRow:
    leaves = [m for m in module.modules() if not list(m.children())]
    return LayerRow(
        path=name,
        kind=_kind(module),
        depth=name.count(".") + 1 if name else 0,
        output_shape=outputs[module],
        parameters=sum(p.numel() for p in module.parameters()),
        trainable=sum(p.numel() for p in module.parameters() if p.requires_grad),
        buffers=sum(b.numel() for b in module.buffers()),
        macs=sum(_macs(leaf, outputs[leaf]) for leaf in leaves),
        activation_bytes=sum(FLOAT_BYTES * math.prod(outputs[leaf]) for leaf in leaves if _keeps_output(leaf)),
    )


def _macs(leaf: nn.Module, output: tuple[int, ...]) -> int:
    """Every weight of a convolution is used once for each output position, every weight of a linear layer once."""
    if isinstance(leaf, nn.Conv2d):
        return leaf.weight.numel() * math.prod(output[2:])
    return leaf.weight.numel() if isinstance(leaf, nn.Linear) else 0


def _keeps_output(leaf: nn.Module) -> bool:
    return not (isinstance(leaf, nn.Identity) or (isinstance(leaf, nn.ReLU) and leaf.inplace))


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        size, stride = module.kernel_size, module.stride[0]
        return f"Conv2d {size[0]}x{size[1]}" + (f" /{stride}" if stride > 1 else "")
    return type(module).__name__
