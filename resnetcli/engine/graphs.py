"""A training step as one CUDA graph: recorded once, then started with a single call instead of one for each kernel.

The kernels of this network are so small that starting them one by one from Python takes longer than they do: that is
what the design expects of a large GPU; it has not been measured here. A graph computes what the step computes, with
the same kernels in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

WARMUP_STEPS = 3
"""Steps taken one kernel at a time before recording: optimisers make their state in the first, and libraries choose
their algorithms for a shape. They count like all others."""


class GraphedStep:
    """Calls `step(images, labels)`, which must touch nothing but tensors on one CUDA device, always the same ones, must
    not ask for their values, and must not build on what an earlier call left half-done. Where the shape of a batch is
    not that of the one before, all begins anew: each recording is for one shape.

    Where recording fails (an old driver, a library that asks the device something) every step is called as it is.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], None]) -> None:
        self.step = step
        self._failed = False
        self._reason: str | None = None
        self._warm = 0
        self._shapes: tuple[torch.Size, torch.Size] | None = None
        self._stream: torch.cuda.Stream | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, Tensor] | None = None

    def take_reason(self) -> str | None:
        """Why recording failed, the first time that this is asked."""
        reason, self._reason = self._reason, None
        return reason

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        if (shapes := (images.shape, labels.shape)) != self._shapes:
            self._shapes, self._warm, self._graph, self._inputs = shapes, 0, None, None
        if self._graph is not None and self._inputs is not None:
            for kept, new in zip(self._inputs, (images, labels), strict=True):
                kept.copy_(new)
            self._graph.replay()
        elif self._failed:
            self.step(images, labels)
        elif self._warm < WARMUP_STEPS:
            with self._aside(images.device):
                self.step(images, labels)
            self._warm += 1
        else:
            self._record(images, labels)
            self(images, labels)

    @contextmanager
    def _aside(self, device: torch.device) -> Iterator[torch.cuda.Stream]:
        """One stream beside the main one, on the device of the tensors, which need not be the current one: a graph
        records what happens on its own stream and nothing else."""
        with torch.cuda.device(device):
            if self._stream is None:
                self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            main = torch.cuda.current_stream(device)
            self._stream.wait_stream(main)
            with torch.cuda.stream(self._stream):
                yield self._stream
            main.wait_stream(self._stream)

    def _record(self, images: Tensor, labels: Tensor) -> None:
        """Records without computing: the step is taken by the first replay."""
        inputs, graph = (images.clone(), labels.clone()), torch.cuda.CUDAGraph()
        try:
            with self._aside(images.device) as stream, torch.cuda.graph(graph, stream=stream):
                self.step(*inputs)
        except RuntimeError as error:
            first: BaseException = error  # ending the capture raises once more, and says less
            while first.__context__ is not None:
                first = first.__context__
            self._failed, self._reason = True, (str(first).splitlines() or [type(first).__name__])[0]
            return
        self._inputs, self._graph = inputs, graph
