"""Structure and arithmetic of a measurement; nothing here depends on how fast the machine is."""

import os
import statistics
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import default_collate

from resnetcli.config.commands import BenchInferConfig, BenchTrainConfig
from resnetcli.data.batches import Normalizer
from resnetcli.data.noise import random_split
from resnetcli.engine.evaluate import inference_rows
from resnetcli.engine.runtime import Runtime
from resnetcli.errors import Interrupted, ResnetCliError
from resnetcli.events import Notice, Progress, StepDone, ignore
from resnetcli.models.resnet import ResNet
from resnetcli.models.work import inference_flops, training_flops
from resnetcli.services import bench, plain, turns
from resnetcli.services.networks import MEAN, STD

pytestmark = pytest.mark.whole_network
CPU = Runtime(torch.device("cpu"), "fp32", 1)
TINY = {"rounds": 3, "seconds": 1e-4, "threads": 1}


@pytest.fixture(scope="module")
def single_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["train", "infer"])
def measured(request, single_thread):
    """Result and events of a short measurement of each kind."""
    events = []
    if request.param == "train":
        config = BenchTrainConfig(**TINY, precision="fp32", optimizer="adam", batch_size=40, max_time=1e-9, epochs=1)
        return bench.train(config, on_event=events.append, images=120), events
    config = BenchInferConfig(**TINY, shortcut="projection")
    return bench.infer(config, on_event=events.append, images=120), events


def test_small_images_are_measured_apart_and_counted_as_such(monkeypatch):
    made, make_trainer = [], turns.make_trainer
    monkeypatch.setattr(turns, "make_trainer", lambda *parts: made.append(make_trainer(*parts)) or made[-1])
    config = BenchTrainConfig(
        **TINY | {"rounds": 1}, precision="fp32", batch_size=8, epochs=1, start_size=20, start_size_until=0.1
    )
    result = bench.train(config, on_event=ignore, images=16)
    assert [next(trainer.batches(500))[0].shape for trainer in made] == [(8, 3, 32, 32), (8, 3, 20, 20)]
    assert (result.image_size, result.flops_per_image) == (32, training_flops(ResNet()))
    first = result.first_epochs
    assert (first.image_size, first.flops_per_image) == (20, training_flops(ResNet(), 20))
    assert first.roof_share == pytest.approx(first.tool.median * first.flops_per_image / result.matrix.median)
    assert result.ratio == result.tool.median / result.plain.median


def test_every_figure_follows_from_the_rounds(measured):
    result, _ = measured
    for spread in (result.tool, result.plain, result.matrix, result.roof):
        assert len(spread.rounds) == 3
        assert min(spread.rounds) > 0
        assert (spread.low, spread.high) == (min(spread.rounds), max(spread.rounds))
        assert spread.median == statistics.median(spread.rounds)
    assert result.ratio == result.tool.median / result.plain.median
    assert result.seconds == result.images / result.tool.median
    assert result.plain_seconds == result.images / result.plain.median
    assert result.roof_share == pytest.approx(result.tool.median * result.flops_per_image / result.matrix.median)
    assert result.plain_roof_share == pytest.approx(result.plain.median * result.flops_per_image / result.matrix.median)


def test_the_result_says_what_was_measured_and_on_what(measured):
    result, _ = measured
    if result.command == "bench train":
        assert (result.shortcut, result.optimizer, result.batch_size, result.images) == ("identity", "adam", 40, 50_000)
        assert result.flops_per_image == training_flops(ResNet())
    else:
        assert (result.shortcut, result.optimizer, result.images) == ("projection", None, 10_000)
        assert result.flops_per_image == inference_flops(ResNet(shortcut="projection"))
    assert result.image_size == 32
    assert result.first_epochs is None
    machine = result.machine
    assert (machine.device, machine.threads, machine.precision) == ("cpu", 1, "fp32")
    assert machine.torch == torch.__version__
    assert machine.name
    assert result.plain_batch_size == 100
    assert result.peak_memory > 0


def test_the_observer_hears_of_every_turn_the_warm_up_too(measured):
    _, events = measured
    assert events == [Progress("Measuring", done, 12, "turns") for done in range(13)]


def test_contenders_take_turns_and_the_first_round_does_not_count():
    log = []

    def contender(name):
        def turn(seconds):
            log.append((name, seconds))
            return float(len(log))

        return turn

    contenders = {name: contender(name) for name in ("tool", "plain", "matrix")}
    rates, memory = bench.take_turns(contenders, 2, 0.5, CPU.device, ignore)
    assert log == [(name, 0.5) for name in contenders] * 3
    assert rates == {"tool": [4.0, 7.0], "plain": [5.0, 8.0], "matrix": [6.0, 9.0]}
    assert memory > 0


@pytest.fixture
def ticking(monkeypatch):
    """A clock that moves on by a second each time it is looked at."""
    monkeypatch.setattr(turns, "time", SimpleNamespace(perf_counter=map(float, count()).__next__))


@pytest.mark.usefixtures("ticking")
def test_a_turn_of_training_goes_on_where_the_last_one_stopped(monkeypatch):
    trainers = []
    make_trainer = turns.make_trainer
    monkeypatch.setattr(turns, "make_trainer", lambda *parts: trainers.append(make_trainer(*parts)) or trainers[-1])
    config = BenchTrainConfig(precision="fp32", batch_size=8, epochs=1, optimizer="sgd", lr=0.01, save_every=0.0)
    turn, batch_size = turns.training(config, CPU, random_split(16), ignore)
    assert batch_size == 8
    # Steps end when the clock shows 1, 2 and 3 seconds, of which the last is past the end; the sum is taken at 4.
    assert turn(2.5) == 3 * 8 / 4
    assert turn(2.5) == 3 * 8 / 4
    assert trainers[0].global_step == 6
    assert len(trainers[0].position.history) == 3, "it goes past the one epoch that the run would have"


def test_notices_of_the_loop_are_passed_on_and_its_progress_is_not(monkeypatch):
    class Loop:
        batches, global_step = SimpleNamespace(batch_size=8), 0

        def run(self, *, on_event, **others):
            self.global_step += 1
            on_event(Notice("it runs slower", warning=True))
            on_event(StepDone(1, 1, 2.3, 0.1, 0.1, 100.0))

    monkeypatch.setattr(turns, "make_trainer", lambda *parts: Loop())
    events = []
    turn, _ = turns.training(BenchTrainConfig(), CPU, random_split(16), events.append)
    turn(1.0)
    assert events == [Notice("it runs slower", warning=True)]


@pytest.mark.usefixtures("ticking")
def test_a_long_turn_of_inference_passes_over_the_images_again():
    rows = inference_rows(CPU.device)
    turn, batch_size = turns.inference("identity", CPU, random_split(rows + 8))
    assert batch_size == rows
    # Two passes of two batches until the clock shows 5, then looks at 6 (time is up), 7 and 8.
    assert turn(5.5) == 2 * (rows + 8) / 8


@pytest.mark.parametrize("kind", ["train", "infer"])
def test_a_step_of_the_plain_loop_is_a_batch_and_the_loop_never_ends(kind):
    steps = plain.LOOPS[kind](random_split(130), "identity", CPU.device)
    assert [next(steps) for _ in range(3)] == [100, 30, 100]


def test_the_plain_loop_sees_the_same_pictures_as_the_tool():
    split = random_split(3)
    images, labels = default_collate([plain.Pictures(split, augment=False)[i] for i in range(3)])
    torch.testing.assert_close(images, Normalizer(MEAN, STD, CPU.device)(split.images))
    assert torch.equal(labels, split.labels)
    shifted = {plain.Pictures(split, augment=True)[0][0].sum().item() for _ in range(8)}
    assert len(shifted) > 1


def test_the_process_of_the_plain_loop_is_gone_when_an_interruption_passes(monkeypatch):
    processes = []
    popen = turns.subprocess.Popen
    monkeypatch.setattr(turns.subprocess, "Popen", lambda *a, **k: processes.append(popen(*a, **k)) or processes[-1])
    with pytest.raises(Interrupted), turns.plain_loop("train", "identity", 100, CPU, os.environ):
        raise Interrupted(2, "interrupted by SIGINT")
    assert processes[0].returncode is not None


def test_a_plain_loop_that_fails_is_an_error_with_its_last_words():
    with (
        turns.plain_loop("train", "identity", -1, CPU, os.environ) as turn,
        pytest.raises(ResnetCliError, match=r"plain PyTorch loop ended with exit code 1: RuntimeError: .*-1"),
    ):
        turn(1.0)
