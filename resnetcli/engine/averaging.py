"""Averages of the weights along a run, which are what is validated and handed out: Lookahead and EMA.

Both average parameters and BatchNorm statistics alike, and neither has a state of its own but the averages: how much
an update keeps follows from the number of the step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from resnetcli.config.train import TrainConfig
from resnetcli.engine.schedule import Clock, clock

PULL_PER_STEP = 0.95
"""Share of Lookahead's slow weights that one step keeps at the end of the run; an update every k steps keeps the k-th
power."""


class WeightAverage(ABC):
    """Slow copies of all floating-point tensors of `model`, whose own are the fast ones that the optimiser moves."""

    def __init__(self, model: nn.Module) -> None:
        averaged = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
        self._names = list(averaged)
        self._fast = list(averaged.values())  # in the memory of the model's own: what moves them, moves these
        self._slow = [tensor.clone() for tensor in self._fast]

    @abstractmethod
    def update(self, step: int) -> None:
        """To be called after every optimiser step; `step` counts the steps of the whole run, from 1."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights; afterwards its own again."""
        fast = [tensor.clone() for tensor in self._fast]
        _copy(self._slow, self._fast)
        try:
            yield
        finally:
            _copy(fast, self._fast)

    def state(self) -> dict[str, Tensor]:
        """The fast weights by name. Of the slow ones a checkpoint is made, so that it has them already."""
        return dict(zip(self._names, self._fast, strict=True))

    def check(self, state: Mapping[str, Tensor]) -> None:
        """KeyError where a tensor is missing, ValueError where one has another shape."""
        for name, tensor in zip(self._names, self._fast, strict=True):
            if state[name].shape != tensor.shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}")

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`, on a model that has the averaged weights of the checkpoint."""
        self.check(state)
        _copy(self._fast, self._slow)
        _copy([state[name] for name in self._names], self._fast)


class Lookahead(WeightAverage):
    """Slow weights that follow the fast ones every `every` steps, and pull them back. `clock_at` gives the clock of an
    optimiser step, counted from 0.

    Zhang et al., "Lookahead optimizer: k steps forward, 1 step back" (2019, https://arxiv.org/abs/1907.08610), with a
    pull that grows from nothing to its full strength by the cube of the schedule's progress: early on the fast weights
    are better by far. After three epochs of `fast` it brings 0.4 points, which chance could (examples/ablation.md).
    """

    def __init__(self, model: nn.Module, every: int, clock_at: Callable[[int], Clock]) -> None:
        super().__init__(model)
        self.every = every
        self.clock_at = clock_at

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Acts at every k-th step and at the last.

        The n-th update keeps at most (n-1)/n, a plain average: what a run began with never outweighs what it learned.
        """
        at = self.clock_at(step - 1)
        if step % self.every and step != at.end:
            return
        updates = math.ceil(step / self.every)
        keep = min(PULL_PER_STEP**self.every * ((at.step + 1) / at.total) ** 3, 1 - 1 / updates)
        torch._foreach_lerp_(self._slow, self._fast, 1 - keep)
        torch._foreach_copy_(self._fast, self._slow)


class EMA(WeightAverage):
    """Exponential moving average: a step keeps the share `decay` of the average and leaves the fast weights alone.

    Polyak & Juditsky, "Acceleration of stochastic approximation by averaging" (1992,
    https://doi.org/10.1137/0330046), in the exponential form of Tarvainen & Valpola, "Mean teachers are better role
    models" (2017, https://arxiv.org/abs/1703.01780). At 0.99 as good as Lookahead after three epochs of `fast`
    (examples/ablation.md).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Step n keeps at most (1+n)/(10+n): the initial weights are forgotten within the first few steps."""
        torch._foreach_lerp_(self._slow, self._fast, 1 - min(self.decay, (1 + step) / (10 + step)))


def make_average(model: nn.Module, config: TrainConfig, steps_per_epoch: int) -> WeightAverage | None:
    """What the config asks for; None where the weights are handed out as they are.

    Lookahead acts at least once an epoch, for the slow weights are what the epoch is judged by.
    """
    if config.lookahead:
        every = min(config.lookahead, steps_per_epoch)
        return Lookahead(model, every, lambda step: clock(step, steps_per_epoch, config))
    return EMA(model, config.ema) if config.ema else None


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    torch._foreach_copy_(target, source)
