"""What can be shown of CUDA graphs without a GPU: the order of things, with a recorder that stands in for CUDA's."""

from contextlib import contextmanager

import pytest
import torch

from resnetcli.engine.graphs import WARMUP_STEPS, GraphedStep
from resnetcli.engine.readback import Readback


class Step:
    """Adds up what it is given, unless it is being recorded: then nothing is computed, as on a GPU."""

    def __init__(self):
        self.total, self.calls, self.recording, self.inputs = 0.0, 0, False, None

    def __call__(self, images, labels):
        self.calls += 1
        if self.recording:
            self.inputs = images, labels
        else:
            self.total += float(images.sum() + labels.sum())


@pytest.fixture
def cuda(monkeypatch):
    """A graph that replays the recorded step on whatever its input tensors hold by then."""
    step = Step()

    class Graph:
        replays = 0

        def replay(self):
            Graph.replays += 1
            images, labels = step.inputs
            step.total += float(images.sum() + labels.sum())

    class Stream:
        def __init__(self, device=None):
            streams.append(self)

        def wait_stream(self, other):
            pass

    @contextmanager
    def recording(graph, stream):
        assert stream is streams[-1]
        step.recording = True
        yield
        step.recording = False

    streams = []

    @contextmanager
    def stream(chosen):
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    main = Stream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: main)
    monkeypatch.setattr(torch.cuda, "device", stream)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    return step, Graph


def batches(count):
    return [(torch.full((2, 3), float(i)), torch.full((2,), i)) for i in range(1, count + 1)]


def test_every_batch_is_computed_once_whether_warming_up_or_replayed(cuda):
    step, graph = cuda
    graphed = GraphedStep(step)
    for i, batch in enumerate(batches(8), start=1):
        graphed(*batch)
        assert step.total == sum(8 * k for k in range(1, i + 1))
    assert step.calls == WARMUP_STEPS + 1
    assert graph.replays == 8 - WARMUP_STEPS
    assert graphed.take_reason() is None


def test_batches_of_another_shape_are_recorded_anew_and_computed_once_too(cuda):
    step, graph = cuda
    graphed, wide = GraphedStep(step), [(torch.full((2, 5), float(i)), torch.full((2,), i)) for i in range(1, 9)]
    for batch in [*batches(8), *wide]:
        graphed(*batch)
    assert step.total == sum((8 + 12) * k for k in range(1, 9))
    assert step.calls == 2 * (WARMUP_STEPS + 1)
    assert graph.replays == 2 * (8 - WARMUP_STEPS)


def test_a_caller_may_reuse_its_batch_after_the_step(cuda):
    step, _ = cuda
    graphed, images = GraphedStep(step), torch.zeros(2, 3)
    for i in range(6):
        graphed(images.fill_(i), torch.zeros(2))
    assert step.total == 6 * (0 + 1 + 2 + 3 + 4 + 5)


def test_where_recording_fails_all_steps_are_taken_as_they_are_and_the_reason_is_told_once(cuda, monkeypatch):
    step, graph = cuda

    @contextmanager
    def refuses(graph, stream):
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")
        yield

    monkeypatch.setattr(torch.cuda, "graph", refuses)
    graphed = GraphedStep(step)
    for batch in batches(6):
        graphed(*batch)
    assert step.total == sum(8 * k for k in range(1, 7))
    assert graph.replays == 0
    assert graphed.take_reason() == "operation not permitted when stream is capturing"
    assert graphed.take_reason() is None


def test_a_readback_on_a_cpu_answers_at_once_and_once():
    values, readback = torch.tensor([1.0, 2.0]), Readback()
    assert readback.idle
    assert readback.answer() is None
    readback.ask(values, "first")
    values.zero_()
    assert not readback.idle
    assert readback.answer() == ([1.0, 2.0], "first")
    assert readback.answer(wait=True) is None


def test_a_readback_from_a_gpu_does_not_wait_unless_told_to(monkeypatch):
    class Event:
        done = waited = False

        def query(self):
            return Event.done

        def synchronize(self):
            Event.waited = True

    readback = Readback()
    readback._open = torch.tensor([3.0]), 7, Event()
    assert readback.answer() is None
    assert not Event.waited
    Event.done = True
    assert readback.answer() == ([3.0], 7)
    readback._open = torch.tensor([4.0]), 8, Event()
    Event.done = False
    assert readback.answer(wait=True) == ([4.0], 8)
    assert Event.waited
