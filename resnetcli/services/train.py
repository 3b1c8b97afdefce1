"""`train`: a config in, a run directory with checkpoints, metrics and one measurement out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from resnetcli.checkpoints import storage
from resnetcli.checkpoints.format import TrainerHeader, read_json, to_json
from resnetcli.checkpoints.locks import RunLock
from resnetcli.checkpoints.manager import CheckpointManager, Snapshot, is_run, newest_intact, read_best
from resnetcli.checkpoints.reading import Checkpoint
from resnetcli.config.base import CONFIG_FILE, IMAGE_SIZE
from resnetcli.config.extension import ExtendConfig
from resnetcli.config.train import RESUMABLE, TrainConfig
from resnetcli.data.sizes import small_epochs
from resnetcli.engine.calibration import calibrate
from resnetcli.engine.evaluate import collect_logits, loss_and_top1
from resnetcli.engine.loop import Position, Trainer
from resnetcli.errors import CheckpointError, DivergedError
from resnetcli.events import (
    CheckpointSaved,
    EpochDone,
    Event,
    Notice,
    OnEvent,
    Progress,
    RunHistory,
    RunStarted,
    ignore,
)
from resnetcli.interrupts import StopRequest
from resnetcli.results.checkpoints import Calibration
from resnetcli.results.train import TrainResult
from resnetcli.services.advice import advice
from resnetcli.services.budget import prepare_within_budget
from resnetcli.services.evaluate import measure, select_split
from resnetcli.services.extension import announce, extended, same_plan
from resnetcli.services.history import curve_notes, write_history
from resnetcli.services.machine import runtime_for
from resnetcli.services.networks import build, for_inference, open_network
from resnetcli.services.run_folder import check_run_folder, check_still_unused, new_run_folder
from resnetcli.services.setup import Setup, prepare, prepare_new, warn_of_known_images


def train(config: TrainConfig, *, stop: StopRequest, on_event: OnEvent) -> TrainResult:
    """Trains from the start. Raises any error of the tree; on a signal `Interrupted`, after what was done is saved."""
    check_run_folder(config)
    setup = (prepare_new if config.budget is None else prepare_within_budget)(config, on_event)
    with stop.deferred():
        run_dir = new_run_folder(config)
        with RunLock(run_dir, soft=config.soft_lock):
            check_still_unused(run_dir)
            manager = CheckpointManager(run_dir, config.keep_last)
            _write_config(run_dir, setup.config)
            result = _run(setup, run_dir, manager, stop, on_event)
    if config.budget is not None and result.measured is not None:
        minutes = (time.monotonic() - setup.began) / 60
        on_event(Notice(f"trained and measured in {minutes:.1f} of {config.budget:g} min"))
    return result


def resume(
    run: Path,
    overrides: dict[str, object],
    *,
    stop: StopRequest,
    on_event: OnEvent,
    extend: ExtendConfig | None = None,
) -> TrainResult:
    """Goes on where the newest intact checkpoint of `run` stands. `overrides` replaces what does not change results:
    the settings of RESUMABLE. Raises CheckpointError where there is nothing to resume."""
    check_is_run(run)
    with RunLock(run, soft=bool(overrides.get("soft_lock", read_config(run).soft_lock))):
        stored = read_config(run)
        manager = CheckpointManager(run, int(str(overrides.get("keep_last", stored.keep_last))))
        folder, snapshot = newest_intact(run)
        if extend is not None:
            stored = extended(stored, snapshot.position, extend, run)
        config = stored.model_copy(update={"max_time": None, **overrides})
        for reason in manager.set_damaged_aside():
            on_event(Notice(f"{reason}; going on from {folder.name}", warning=True))
        setup = reopen(config, folder, snapshot, on_event)
        for name, then, now in changed_versions(setup, snapshot):
            text = f"{name} was {then}, is {now}: valid, but not bit-identical to an uninterrupted run"
            on_event(Notice(text, warning=True))
        warn_of_known_images(setup, on_event)
        if extend is not None:
            for notice in announce(config, setup.trainer.batches.steps):
                on_event(notice)
        with stop.deferred():
            if extend is not None:
                _write_config(run, stored)
            return _run(setup, run, manager, stop, on_event)


def check_is_run(run: Path) -> None:
    """Raises CheckpointError."""
    if not run.is_dir() or not is_run(run):
        raise CheckpointError(f"{run}: not a run directory", "a run directory holds config.json and checkpoints/")


def reopen(config: TrainConfig, folder: Path, snapshot: Snapshot, on_event: OnEvent) -> Setup:
    """The parts of a run, as they were when `snapshot` was saved in `folder`. Raises CheckpointError."""
    runtime = runtime_for(config, on_event)
    _check_settings(config, snapshot, folder)
    start = Checkpoint(folder, "checkpoint", snapshot.model, snapshot.header)
    setup = prepare(config, runtime, build(start), snapshot.header.normalization, on_event)
    setup = replace(setup, header=setup.header.model_copy(update={"lineage": snapshot.header.lineage}))
    restore(setup, snapshot, folder)
    return setup


def _check_settings(config: TrainConfig, snapshot: Snapshot, folder: Path) -> None:
    """A config.json that was edited would go on as another run, and could validate on what it was trained on."""
    then, now = snapshot.header.config, config.model_dump(mode="json")
    may_differ = {*RESUMABLE, "output_dir", "name"}
    if same_plan(config, then, snapshot.position):
        may_differ |= {"epochs", "extensions"}
    for name, value in then.items():
        if name in now and name not in may_differ and now[name] != value:
            raise CheckpointError(
                f"{CONFIG_FILE} says {name} {now[name]}, but {folder} was trained with {value}",
                f"put {value} back, or start a new run with --init {folder.parent.parent}",
            )


def changed_versions(setup: Setup, snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Names, then and now, of what bit-identical repetition depends on and is not what it was."""
    then = snapshot.position.versions
    return [
        (name, then.get(name, "unknown"), now) for name, now in setup.header.versions.items() if then.get(name) != now
    ]


def _write_config(run: Path, config: TrainConfig) -> None:
    storage.write_file(run / CONFIG_FILE, (to_json(config, indent=2) + "\n").encode())


def read_config(run: Path) -> TrainConfig:
    path = run / CONFIG_FILE
    try:
        return read_json(path, TrainConfig)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", "restore it from a copy") from error


def restore(setup: Setup, snapshot: Snapshot, folder: Path) -> None:
    """Puts the trainer, whose network has the weights already, where the snapshot was taken. Raises CheckpointError
    where it does not fit."""
    at = snapshot.position
    position = Position(at.epoch, at.step, total_seconds=at.total_seconds, seconds=at.seconds, history=list(at.history))
    try:
        setup.trainer.load_state(snapshot.trainer, position)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: its training state does not fit its config ({error})") from error
    if setup.trainer.global_step != at.global_step:
        raise CheckpointError(
            f"{folder}: step {at.global_step} there is step {setup.trainer.global_step} here",
            "the data or the batch size changed since: start a new run with --init",
        )


def _run(setup: Setup, run_dir: Path, manager: CheckpointManager, stop: StopRequest, on_event: OnEvent) -> TrainResult:
    trainer, go_on = setup.trainer, f"go on with: resnetcli train --resume {run_dir}"
    if trainer.position.epoch >= setup.config.epochs:
        more = "with --epochs and --extend it would go on"
        on_event(Notice(f"{run_dir} has finished its {setup.config.epochs} epochs: it is measured again ({more})"))
    notes = curve_notes(run_dir, setup.config)
    on_event(RunHistory(run_dir, tuple(trainer.position.history), notes))
    on_event(_started(setup, run_dir))
    _announce_sizes(setup.config, trainer.position.epoch, on_event)
    watch = _HistoryWriter(run_dir, trainer, on_event)
    watch.write()
    validation = Validation(setup, stop, on_event)
    with advice(setup.config, trainer.batches.batch_size, run_dir):
        reason = trainer.run(
            validate=validation, save=_saver(setup, validation, manager, on_event), on_event=watch, stop=stop
        )
    if reason == "stopped":
        stop.raise_if_requested(f"at step {trainer.global_step}; everything is saved in {run_dir}", go_on)
    measured, used = None, read_best(run_dir)[0]
    if reason == "max_time":
        on_event(Notice(f"stopped after {setup.config.max_time:g} minutes at step {trainer.global_step}; {go_on}"))
    else:
        checkpoint, network = open_network(run_dir, on_event)
        used = checkpoint.path
        runtime = setup.runtime.in_float32()
        split = setup.config.measure_on
        chosen = select_split(setup.dataset, split, checkpoint)
        try:
            measured = measure(checkpoint, network, setup.dataset, split, chosen, "none", runtime, on_event, stop=stop)
        except CheckpointError as error:  # only what this run made of its network can be wrong with it
            raise DivergedError(f"training diverged: {error.message}", error.hint) from error
        if measured is None:
            stop.raise_if_requested(f"after training, before the {split} measurement of {run_dir}", go_on)
    position = trainer.position
    return TrainResult(
        run_dir=str(run_dir),
        checkpoint=str(used),
        epochs=position.epoch,
        steps=trainer.global_step,
        stopped=reason,
        train_seconds=position.total_seconds + position.seconds,
        history=tuple(position.history),
        measured=measured,
        notes=notes,
    )


def _announce_sizes(config: TrainConfig, epoch: int, on_event: OnEvent) -> None:
    """Says when the images grow, where that is still to come."""
    small, size = small_epochs(config), config.start_size
    if epoch < small < config.epochs:
        larger = f"of {IMAGE_SIZE}x{IMAGE_SIZE} after it, with steps that take longer"
        on_event(Notice(f"images of {size}x{size} pixels up to epoch {small}, {larger}"))
    elif epoch < small:
        on_event(Notice(f"images of {size}x{size} pixels in all epochs"))


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


class Validation:
    """Loss and accuracy on the validation split, and of the same logits how far they can be trusted; (nan, nan) where
    there is no such split, None where `stop` cut it short."""

    def __init__(self, setup: Setup, stop: Callable[[], bool], on_event: OnEvent = ignore) -> None:
        self.setup, self.stop, self.on_event = setup, stop, on_event
        self.calibration: Calibration | None = None
        """Of the weights that were measured last."""

    def __call__(self) -> tuple[float, float] | None:
        batches, labels = self.setup.val
        if not len(labels):
            return math.nan, math.nan
        self._progress(0)
        network = for_inference(self.setup.network, self.setup.runtime.in_float32())
        logits = collect_logits(network, batches, on_images=self._progress, stop=self.stop)
        if logits is None:
            return None
        self.calibration = calibrate(logits, labels)
        return loss_and_top1(logits, labels)

    def _progress(self, done: int) -> None:
        self.on_event(Progress("validating", done, len(self.setup.val[1]), "images"))


def _saver(
    setup: Setup, validation: Validation, manager: CheckpointManager, on_event: OnEvent
) -> Callable[[dict[str, float]], None]:
    def save(metrics: dict[str, float]) -> None:
        start = time.perf_counter()
        path = manager.save(take_snapshot(setup, metrics, validation.calibration))
        on_event(CheckpointSaved(path, setup.trainer.global_step, time.perf_counter() - start))

    return save


def take_snapshot(setup: Setup, metrics: dict[str, float], validated: Calibration | None) -> Snapshot:
    """All that a checkpoint of this moment holds; `validated` is the calibration of the last validation. The trainer's
    tensors are its own, not copies."""
    trainer = setup.trainer
    at = trainer.position
    with trainer.averaged():
        weights = {name: tensor.detach().cpu().clone() for name, tensor in trainer.model.state_dict().items()}
    epoch = at.epoch + at.step / trainer.batches.steps
    calibration = validated if "val_loss" in metrics else None  # else of other weights than these
    header = setup.header.model_copy(
        update={
            "step": trainer.global_step,
            "epoch": epoch,
            "metrics": metrics,
            "calibration": calibration,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    position = TrainerHeader(
        epoch=at.epoch,
        step=at.step,
        global_step=trainer.global_step,
        seconds=at.seconds,
        total_seconds=at.total_seconds,
        history=tuple(at.history),
        versions=setup.header.versions,
    )
    return Snapshot(weights, header, trainer.state(), position)


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
        small_epochs=small_epochs(setup.config),
    )
