"""`train`: a config in, a run directory with checkpoints, metrics and one test measurement out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from resnetcli.checkpoints import storage
from resnetcli.checkpoints.format import TrainerHeader, parse
from resnetcli.checkpoints.manager import (
    CONFIG_FILE,
    CheckpointManager,
    RunLock,
    Snapshot,
    is_run,
    newest_intact,
    read_best,
)
from resnetcli.checkpoints.reading import Checkpoint
from resnetcli.config import TrainConfig
from resnetcli.engine.evaluate import collect_logits, loss_and_top1
from resnetcli.engine.loop import Position, Trainer
from resnetcli.engine.runtime import versions
from resnetcli.errors import CheckpointError
from resnetcli.events import CheckpointSaved, EpochDone, Event, Notice, OnEvent, RunStarted
from resnetcli.interrupts import StopRequest
from resnetcli.results import TrainResult
from resnetcli.services.evaluate import measure
from resnetcli.services.history import write_history
from resnetcli.services.machine import runtime_for
from resnetcli.services.networks import for_inference, open_network
from resnetcli.services.run_folder import check_run_folder, new_run_folder
from resnetcli.services.setup import Setup, prepare, prepare_new


def train(config: TrainConfig, *, stop: StopRequest, on_event: OnEvent) -> TrainResult:
    """Trains from the start. Raises any error of the tree; on a signal `Interrupted`, after what was done is saved."""
    check_run_folder(config)
    setup = prepare_new(config, on_event)
    with stop.deferred():
        run_dir = new_run_folder(config)
        with RunLock(run_dir):
            manager = CheckpointManager(run_dir, config.keep_last)
            storage.write_file(run_dir / CONFIG_FILE, (setup.config.model_dump_json(indent=2) + "\n").encode())
            return _run(setup, run_dir, manager, stop, on_event)


def resume(run: Path, overrides: dict[str, object], *, stop: StopRequest, on_event: OnEvent) -> TrainResult:
    """Goes on where the newest intact checkpoint of `run` stands. `overrides` replaces what does not change results:
    device, threads, max_time, save_every, keep_last and where data lies. Raises CheckpointError where there is
    nothing to resume."""
    if not run.is_dir() or not is_run(run):
        raise CheckpointError(f"{run}: not a run directory", "a run directory holds config.json and checkpoints/")
    with RunLock(run):
        config = _read_config(run).model_copy(update={"max_time": None, **overrides})
        manager = CheckpointManager(run, config.keep_last)
        folder, snapshot = newest_intact(run)
        for reason in manager.set_damaged_aside():
            on_event(Notice(f"{reason}; going on from {folder.name}", warning=True))
        runtime = runtime_for(config.device, config.threads, config.precision, config.cache_dir)
        for name, now in versions(runtime).items():
            if (then := snapshot.position.versions.get(name)) != now:
                text = f"{name} was {then}, is {now}: valid, but not bit-identical to an uninterrupted run"
                on_event(Notice(text, warning=True))
        start = Checkpoint(folder, "checkpoint", snapshot.model, snapshot.header)
        setup = prepare(config, runtime, start, on_event)
        setup = replace(setup, header=setup.header.model_copy(update={"created": snapshot.header.created}))
        restore(setup, snapshot, folder)
        with stop.deferred():
            return _run(setup, run, manager, stop, on_event)


def _read_config(run: Path) -> TrainConfig:
    path = run / CONFIG_FILE
    try:
        return parse(path.read_bytes(), TrainConfig, path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", "restore it from a copy") from error


def restore(setup: Setup, snapshot: Snapshot, folder: Path) -> None:
    """Puts the trainer, whose network has the weights already, where the snapshot was taken. Raises CheckpointError
    where it does not fit."""
    at = snapshot.position
    position = Position(at.epoch, at.step, total_seconds=at.total_seconds, seconds=at.seconds, history=list(at.history))
    try:
        setup.trainer.load_state(snapshot.trainer, position)
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{folder}: its training state does not fit its config ({error})") from error
    if setup.trainer.global_step != at.global_step:
        raise CheckpointError(
            f"{folder}: step {at.global_step} there is step {setup.trainer.global_step} here",
            "the data or the batch size changed since: start a new run with --init",
        )


def _run(setup: Setup, run_dir: Path, manager: CheckpointManager, stop: StopRequest, on_event: OnEvent) -> TrainResult:
    trainer, go_on = setup.trainer, f"go on with: resnetcli train --resume {run_dir}"
    if trainer.position.epoch >= setup.config.epochs:
        on_event(Notice(f"{run_dir} has finished its {setup.config.epochs} epochs: it is measured again"))
    on_event(_started(setup, run_dir))
    watch = _HistoryWriter(run_dir, trainer, on_event)
    watch.write()
    reason = trainer.run(
        validate=_validator(setup, stop), save=_saver(setup, manager, on_event), on_event=watch, stop=stop
    )
    if reason == "stopped":
        stop.raise_if_requested(f"at step {trainer.global_step}; everything is saved in {run_dir}", go_on)
    test, used = None, read_best(run_dir)[0]
    if reason == "max_time":
        on_event(Notice(f"stopped after {setup.config.max_time:g} minutes at step {trainer.global_step}; {go_on}"))
    else:
        checkpoint, network = open_network(str(run_dir), on_event)
        used = checkpoint.path
        runtime = setup.runtime.in_float32()
        test = measure(checkpoint, network, setup.dataset, "test", False, runtime, on_event, stop=stop)
        if test is None:
            stop.raise_if_requested(f"after training, before the test measurement of {run_dir}", go_on)
    position = trainer.position
    return TrainResult(
        run_dir=str(run_dir),
        checkpoint=str(used),
        epochs=position.epoch,
        steps=trainer.global_step,
        stopped=reason,
        train_seconds=position.total_seconds + position.seconds,
        history=tuple(position.history),
        test=test,
    )


class _HistoryWriter:
    """Passes events on, and keeps metrics.jsonl and metrics.csv up to date."""

    def __init__(self, run_dir: Path, trainer: Trainer, on_event: OnEvent) -> None:
        self.run_dir, self.trainer, self.on_event = run_dir, trainer, on_event

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochDone):
            self.write()
        self.on_event(event)

    def write(self) -> None:
        write_history(self.run_dir, self.trainer.position.history)


def _validator(setup: Setup, stop: StopRequest) -> Callable[[], tuple[float, float] | None]:
    batches, labels = setup.val

    def validate() -> tuple[float, float] | None:
        if not len(labels):
            return math.nan, math.nan
        network = for_inference(setup.network, setup.runtime.in_float32())
        logits = collect_logits(network, batches, stop=stop)
        return None if logits is None else loss_and_top1(logits, labels)

    return validate


def _saver(setup: Setup, manager: CheckpointManager, on_event: OnEvent) -> Callable[[dict[str, float]], None]:
    trainer = setup.trainer

    def save(metrics: dict[str, float]) -> None:
        start, at = time.perf_counter(), trainer.position
        with trainer.averaged():
            weights = {name: tensor.detach().cpu().clone() for name, tensor in trainer.model.state_dict().items()}
        epoch = at.epoch + at.step / trainer.batches.steps
        header = setup.header.model_copy(update={"step": trainer.global_step, "epoch": epoch, "metrics": metrics})
        position = TrainerHeader(
            epoch=at.epoch,
            step=at.step,
            global_step=trainer.global_step,
            seconds=at.seconds,
            total_seconds=at.total_seconds,
            history=tuple(at.history),
            versions=setup.header.versions,
        )
        path = manager.save(Snapshot(weights, header, trainer.state(), position))
        on_event(CheckpointSaved(path, trainer.global_step, time.perf_counter() - start))

    return save


def _started(setup: Setup, run_dir: Path) -> RunStarted:
    trainer = setup.trainer
    return RunStarted(
        run_dir=run_dir,
        device=str(setup.runtime.device),
        precision=setup.runtime.precision,
        threads=setup.runtime.threads,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        train_images=setup.train_images,
        val_images=len(setup.val[1]),
        epochs=setup.config.epochs,
        steps_per_epoch=trainer.batches.steps,
        batch_size=trainer.batches.batch_size,
        start_epoch=trainer.position.epoch + 1,
        start_step=trainer.position.step,
    )
