"""Resume at every step of a run, after kills one upon another, with everything switched on: always the same bytes."""

from __future__ import annotations

import math
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from resnetcli.checkpoints.format import Architecture, ModelHeader, Normalization, TrainerHeader
from resnetcli.checkpoints.manager import CheckpointManager, Snapshot, newest_intact, step_folders
from resnetcli.data.batches import Normalizer, TrainBatches
from resnetcli.engine.loop import Position, Trainer
from resnetcli.events import ignore
from tests.engine.test_loop import CONFIG, CPU, trainer
from tests.faults.children import resnetcli, train_arguments
from tests.services.test_train import assert_same_end

SETTINGS: dict[str, object] = {
    "limit_train": 64, "batch_size": 16, "epochs": 2, "branch_scale": 0.3, "optimizer": "muon", "lr": 0.02,
    "lookahead": 3, "quiet": True,
}  # fmt: skip
EVERYTHING: dict[str, object] = {
    "mixup": 0.4, "cutmix": 1.0, "erasing": 0.5, "cutout": 4, "augment": "trivial", "alternating_flip": True,
    "label_smoothing": 0.1, "weight_decay": 0.01, "warmup_epochs": 0.5, "schedule": "cosine", "grad_accum": 2,
    "bias_lr_scale": 4.0,
}  # fmt: skip
OPTIMIZERS = ("sgd", "muon", "adam", "adamw")
AVERAGES: tuple[dict[str, object], ...] = ({"lookahead": 3}, {"lookahead": 0, "ema": 0.9})
OUTCOME = "model, optimiser, averages, RNG, schedule, history and best bit-equal to the undisturbed run"


def assert_same_history(run_a: Path, run_b: Path) -> None:
    """Everything of the rows that is no clock reading."""
    a, b = (newest_intact(run)[1].position.history for run in (run_a, run_b))
    clock = {"images_per_s", "seconds", "memory_mib"}
    assert [row.model_dump(exclude=clock) for row in a] == [row.model_dump(exclude=clock) for row in b]


def killed_and_gone_on_with(folder: Path, settings: dict[str, object], steps: list[int], small: bool) -> int:
    """A run that nothing disturbed, one that saves each step, and one resumed from each of these; the last is held
    against the first."""
    for name, save_every in (("whole", 1e9), ("dense", 0)):
        argv = train_arguments(name, **settings, save_every=save_every, keep_last=100)
        ended = resnetcli(argv, folder, small=small)
        assert ended.code == 0, ended.err
    assert_same_end(folder / "whole", folder / "dense")
    for step in steps:
        run = folder / f"from-{step}"
        shutil.copytree(folder / "dense", run, copy_function=os.link)
        for later in step_folders(run)[step + 1 :]:
            shutil.rmtree(later)
        assert newest_intact(run)[1].position.global_step == step
        ended = resnetcli(["train", f"--resume={run.name}", "--quiet"], folder, small=small)
        assert ended.code == 0, ended.err
        assert_same_end(folder / "whole", run)
        assert_same_history(folder / "whole", run)
        shutil.rmtree(run)
    return len(steps)


@pytest.mark.slow
def test_a_run_resumed_from_any_of_its_steps_ends_byte_equal(tmp_path, broke):
    settings = SETTINGS | {"precision": "bf16", "allow_slow": True, "threads": 1}
    broke(4, "resumed at a step of a run", killed_and_gone_on_with(tmp_path, settings, [0, 5], small=True), OUTCOME)


@pytest.mark.full
@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_whole_network_resumed_from_each_of_its_steps(tmp_path, broke, precision, threads):
    """In bf16 too, on a processor that has it; elsewhere a step takes minutes, and the small network must do."""
    settings = SETTINGS | {"precision": precision, "threads": threads}
    cases = killed_and_gone_on_with(tmp_path, settings, list(range(8)), small=False)
    shutil.rmtree(tmp_path)
    broke(4, "resumed at every step of a run, fp32 and bf16, 1 and 2 threads", cases, OUTCOME)


@pytest.mark.full
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("averaging", AVERAGES, ids=["lookahead", "ema"])
def test_every_optimiser_and_average_with_everything_switched_on(tmp_path, broke, optimizer, averaging):
    settings = SETTINGS | EVERYTHING | {"precision": "fp32", "threads": 1, "optimizer": optimizer} | averaging
    cases = killed_and_gone_on_with(tmp_path, settings, [0, 1, 3, 4, 6], small=True)
    broke(4, "the same with every optimiser, EMA, Lookahead, mixup and all else", cases, OUTCOME)


def killed(at: int, where: str) -> None:
    """In a child: SIGKILL before the `at`-th call of a function of the run (from 1)."""
    from resnetcli.checkpoints.manager import CheckpointManager
    from resnetcli.engine import loop
    from resnetcli.services import train

    calls = []

    def deadly(function):
        def called(*args, **kwargs):
            calls.append(None)
            if len(calls) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return called

    owner, name = {
        "step": (loop.Trainer, "step"),
        "save": (CheckpointManager, "save"),
        "pruning": (CheckpointManager, "_remove"),
        "validation": (train, "loss_and_top1"),
        "history": (train, "write_history"),
    }[where]
    setattr(owner, name, deadly(getattr(owner, name)))


CHAIN = (
    (2, "step"), (1, "save"), (2, "pruning"), (3, "step"), (1, "validation"), (1, "step"), (2, "save"), (2, "history"),
    (2, "step"), (1, "validation"),
)  # fmt: skip


def chain_of_kills(folder: Path, kills: tuple[tuple[int, str], ...], settings: dict[str, object]) -> None:
    ended = resnetcli(train_arguments("whole", **settings, save_every=1e9), folder)
    assert ended.code == 0, ended.err
    for i, (at, where) in enumerate(kills):
        argv = ["train", "--resume=run", "--quiet"] if i else train_arguments("run", **settings, save_every=0)
        ended = resnetcli(argv, folder, prepare=partial(killed, at, where))
        assert ended.code == -signal.SIGKILL, (i, at, where, ended)
    ended = resnetcli(["train", "--resume=run", "--quiet"], folder)
    assert ended.code == 0, ended.err
    assert_same_end(folder / "whole", folder / "run")
    assert_same_history(folder / "whole", folder / "run")
    assert not list((folder / "run").rglob(".tmp-*"))


@pytest.mark.slow
def test_a_run_killed_time_and_again_ends_byte_equal(tmp_path, broke):
    chain_of_kills(tmp_path, CHAIN[:4], SETTINGS | {"precision": "fp32", "threads": 1, "epochs": 3})
    broke(4, "a chain of kills (-9) in steps, saves, pruning, validation", 4, OUTCOME)


@pytest.mark.full
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_chain_of_ten_kills(tmp_path, broke, precision):
    settings = {"precision": precision, "allow_slow": True, "threads": 1, "epochs": 5}
    chain_of_kills(tmp_path, CHAIN, SETTINGS | settings)
    broke(4, "a chain of kills (-9) in steps, saves, pruning, validation", len(CHAIN), OUTCOME)


HEADER = ModelHeader(
    architecture=Architecture(),
    class_names=("a", "b"),
    normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
)


def saving(t: Trainer, manager: CheckpointManager) -> None:
    """Trains to the end; every step goes through the files."""

    def save(metrics: dict[str, float]) -> None:
        at = t.position
        with t.averaged():
            weights = {name: tensor.clone() for name, tensor in t.model.state_dict().items()}
        header = HEADER.model_copy(update={"metrics": metrics, "step": t.global_step})
        position = TrainerHeader(
            epoch=at.epoch, step=at.step, global_step=t.global_step, seconds=at.seconds,
            total_seconds=at.total_seconds, history=tuple(at.history), versions={},
        )  # fmt: skip
        manager.save(Snapshot(weights, header, t.state(), position))

    scores = iter((0.3, 0.7, 0.5))
    for _ in t.position.history:
        next(scores)
    t.run(validate=lambda: (1.0, next(scores)), save=save, on_event=ignore, stop=lambda: False)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_small_run_goes_on_from_the_files_of_a_step(tmp_path, broke, optimizer):
    from_files(tmp_path, optimizer, AVERAGES[OPTIMIZERS.index(optimizer) % 2], [0, 17])
    broke(4, "a small network resumed from the files of a step, every optimiser and average", 2, OUTCOME)


@pytest.mark.full
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("averaging", AVERAGES, ids=["lookahead", "ema"])
def test_a_small_run_goes_on_from_the_files_of_every_step(tmp_path, broke, optimizer, averaging):
    from_files(tmp_path, optimizer, averaging, list(range(30)))
    broke(4, "a small network resumed from the files of a step, every optimiser and average", 30, OUTCOME)


def from_files(tmp_path: Path, optimizer: str, averaging: dict[str, object], steps: list[int]) -> None:
    changes = {**averaging, "optimizer": optimizer, "schedule": "cosine", "warmup_epochs": 0.5, "weight_decay": 0.01}
    config = CONFIG.model_copy(update={**changes, "save_every": 0.0})
    whole = tmp_path / "whole"
    whole.mkdir()
    saving(trainer(config), CheckpointManager(whole, 100))
    folders = step_folders(whole)
    assert len(folders) == 31
    for folder in (folders[step] for step in steps):
        run = tmp_path / folder.name
        run.mkdir()
        shutil.copytree(whole / "checkpoints", run / "checkpoints", copy_function=os.link)
        for later in folders[folders.index(folder) + 1 :]:
            shutil.rmtree(run / "checkpoints" / later.name)
        _, snapshot = newest_intact(run)
        at, t = snapshot.position, trainer(config.model_copy(update={"save_every": 1e9}))
        t.model.load_state_dict(snapshot.model)
        t.load_state(snapshot.trainer, Position(at.epoch, at.step, history=list(at.history)))
        saving(t, CheckpointManager(run, 2))
        assert_same_end(whole, run)
        assert_same_history(whole, run)
        shutil.rmtree(run)


def test_mixed_and_augmented_batches_are_the_same_from_any_step(broke):
    import torch

    images = torch.randint(0, 256, (48, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    changes = {k: v for k, v in EVERYTHING.items() if k in type(CONFIG).model_fields}
    config = CONFIG.model_copy(update={**changes, "batch_size": 8})
    normalize = Normalizer((0.5,) * 3, (0.25,) * 3, CPU.device)
    batches = TrainBatches(images, torch.arange(48) % 10, config, normalize, 10)
    for epoch in (0, 3):
        whole = list(batches(epoch))
        for first in range(6):
            rest = list(batches(epoch, first))
            assert all(
                torch.equal(a, b) for x, y in zip(whole[first:], rest, strict=True) for a, b in zip(x, y, strict=True)
            )
    assert math.isclose(float(whole[0][1].sum()), 8, rel_tol=1e-5)  # really mixed: shares of classes, one in all
    broke(4, "batches with mixup, CutMix, erasing, cutout and TrivialAugment from every step", 12, "bit-equal")
