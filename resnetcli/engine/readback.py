"""Figures back from the device, without making it wait."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor

Note = TypeVar("Note")


class Readback(Generic[Note]):
    """Asks for the values of a tensor as they are now, and gets them when the device has come so far.

    A `note` goes with each question and comes back with its answer. A new question replaces one that is open.
    """

    def __init__(self) -> None:
        self._open: tuple[Tensor, Note, torch.cuda.Event | None] | None = None

    @property
    def idle(self) -> bool:
        """Whether no question is open."""
        return self._open is None

    def ask(self, tensor: Tensor, note: Note) -> None:
        """For the values that `tensor` will have when everything asked of the device before is done."""
        if tensor.device.type != "cuda":
            self._open = tensor.detach().cpu().clone(), note, None
            return
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(tensor.device))
        self._open = host, note, event

    def answer(self, *, wait: bool = False) -> tuple[list[float], Note] | None:
        """Values and note, once; None while the device is not there yet, unless told to `wait`."""
        if self._open is None:
            return None
        host, note, event = self._open
        if event is not None:
            if wait:
                event.synchronize()
            elif not event.query():  # type: ignore[no-untyped-call]
                return None
        self._open = None
        return host.tolist(), note
