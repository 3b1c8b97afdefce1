"""A training step as one CUDA graph: recorded once, then started with a single call instead of about 900.

The kernels of this network take a GPU less time than Python takes to start them one by one. A graph computes what the
step computes, with the same kernels in the same order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARMUP_STEPS = 3
"""Steps taken one kernel at a time before recording: optimisers make their state in the first, and libraries choose
their algorithms. They count like all others."""


class GraphedStep:
    """Calls `step(images, labels)`, which must touch nothing but tensors on one CUDA device, always the same ones, and
    must not ask for their values. All batches have one shape.

    Where recording fails (an old driver, a library that asks the device something) every step is called as it is.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], None]) -> None:
        self.step = step
        self._failed = False
        self._reason: str | None = None
        self._warm = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, Tensor] | None = None

    def take_reason(self) -> str | None:
        """Why recording failed, the first time that this is asked."""
        reason, self._reason = self._reason, None
        return reason

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        if self._graph is not None and self._inputs is not None:
            for kept, new in zip(self._inputs, (images, labels), strict=True):
                kept.copy_(new)
            self._graph.replay()
        elif self._failed:
            self.step(images, labels)
        elif self._warm < WARMUP_STEPS:
            self._on_another_stream(images, labels)
            self._warm += 1
        else:
            self._record(images, labels)
            self(images, labels)

    def _on_another_stream(self, images: Tensor, labels: Tensor) -> None:
        """As recording will: what the allocator keeps for the main stream would not serve it."""
        stream, main = torch.cuda.Stream(images.device), torch.cuda.current_stream(images.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            self.step(images, labels)
        main.wait_stream(stream)

    def _record(self, images: Tensor, labels: Tensor) -> None:
        """Records without computing: the step is taken by the first replay."""
        inputs, graph = (images.clone(), labels.clone()), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.step(*inputs)
        except RuntimeError as error:
            self._failed, self._reason = True, str(error).splitlines()[0]
            return
        self._inputs, self._graph = inputs, graph
