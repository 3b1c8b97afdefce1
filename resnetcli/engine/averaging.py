"""Lookahead: slow weights that follow the fast ones, and pull them back.

Zhang et al., "Lookahead optimizer: k steps forward, 1 step back" (2019, https://arxiv.org/abs/1907.08610), with a
pull that grows from nothing to its full strength by the cube of the run's progress: early on the fast weights are
better by far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PULL_PER_STEP = 0.95
"""Share of the slow weights that one step keeps at the end of the run; an update every k steps keeps the k-th power."""


class Lookahead:
    """Averages parameters and BatchNorm statistics of `model` every `every` steps of `total_steps`."""

    def __init__(self, model: nn.Module, every: int, total_steps: int) -> None:
        self.model = model
        self.every = every
        self.total_steps = total_steps
        self.slow = {name: tensor.detach().clone() for name, tensor in _averaged(model).items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """To be called after optimiser step `step` (from 1); acts at every k-th and at the last.

        The n-th update keeps at most (n-1)/n, a plain average: what a run began with never outweighs what it learned.
        """
        if step % self.every and step != self.total_steps:
            return
        updates = math.ceil(step / self.every)
        keep = min(PULL_PER_STEP**self.every * (step / self.total_steps) ** 3, 1 - 1 / updates)
        fast, slow = list(_averaged(self.model).values()), list(self.slow.values())
        torch._foreach_lerp_(slow, fast, 1 - keep)
        torch._foreach_copy_(fast, slow)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the slow weights; afterwards its own again."""
        fast = {name: tensor.detach().clone() for name, tensor in _averaged(self.model).items()}
        self._write(self.slow)
        try:
            yield
        finally:
            self._write(fast)

    @torch.no_grad()
    def _write(self, tensors: dict[str, Tensor]) -> None:
        torch._foreach_copy_(list(_averaged(self.model).values()), list(tensors.values()))


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
