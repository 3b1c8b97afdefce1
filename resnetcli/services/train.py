"""`train`: a config in, a run directory with checkpoints, metrics and one test measurement out."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from resnetcli.checkpoints import storage
from resnetcli.checkpoints.format import Architecture, ModelHeader, Normalization, TrainerHeader, parse
from resnetcli.checkpoints.manager import CONFIG_FILE, CheckpointManager, RunLock, Snapshot, is_run, newest_intact
from resnetcli.checkpoints.reading import Checkpoint
from resnetcli.config import EvaluateConfig, TrainConfig
from resnetcli.data.batches import EvalBatches, Normalizer, TrainBatches
from resnetcli.data.cifar10 import Dataset
from resnetcli.data.load import load_dataset
from resnetcli.data.split import stratified_limit, stratified_split
from resnetcli.engine.evaluate import collect_logits, inference_rows, loss_and_top1
from resnetcli.engine.loop import Position, Trainer
from resnetcli.engine.runtime import Runtime, peak_memory, resolve_runtime, seed_everything, versions
from resnetcli.errors import CheckpointError, UsageError
from resnetcli.events import CheckpointSaved, EpochDone, Event, Notice, OnEvent, RunStarted
from resnetcli.interrupts import StopRequest
from resnetcli.models.kernels import accelerate
from resnetcli.models.resnet import ResNet
from resnetcli.results import DryRunResult, TrainResult
from resnetcli.services.evaluate import measure
from resnetcli.services.history import write_history
from resnetcli.services.networks import MEAN, STD, build, channels_last, open_any, open_network
from resnetcli.services.run_folder import new_run_folder


@dataclass(frozen=True, slots=True)
class Setup:
    """All parts of a run, made from its config and wired together."""

    config: TrainConfig
    runtime: Runtime
    dataset: Dataset
    trainer: Trainer
    val: tuple[EvalBatches, torch.Tensor]
    header: ModelHeader


def train(config: TrainConfig, *, stop: StopRequest, on_event: OnEvent) -> TrainResult:
    """Trains from the start. Raises any error of the tree; on a signal `Interrupted`, after what was done is saved."""
    setup = prepare_new(config, on_event)
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
        folder, snapshot, damaged = newest_intact(run)
        for reason in damaged:
            on_event(Notice(f"{reason}; going back to {folder.name}", warning=True))
        config = parse((run / CONFIG_FILE).read_bytes(), TrainConfig, run / CONFIG_FILE).model_copy(
            update={"max_time": None, **overrides}
        )
        # What auto chose then is kept now: a run does not change its arithmetic half-way.
        precision = snapshot.position.versions["precision"]
        runtime = resolve_runtime(config.device, config.threads, "bf16" if precision == "bf16" else "fp32")
        for name, now in versions(runtime).items():
            if (then := snapshot.position.versions.get(name)) != now:
                text = f"{name} was {then}, is {now}: valid, but not bit-identical to an uninterrupted run"
                on_event(Notice(text, warning=True))
        start = Checkpoint(folder, "checkpoint", snapshot.model, snapshot.header)
        setup = prepare(config, runtime, start, on_event)
        setup = replace(setup, header=setup.header.model_copy(update={"created": snapshot.header.created}))
        restore(setup, snapshot, folder)
        manager = CheckpointManager(run, config.keep_last)
        return _run(setup, run, manager, stop, on_event)


def dry_run(config: TrainConfig, origins: dict[str, str], *, on_event: OnEvent) -> DryRunResult:
    """Takes one real step and measures a second one; writes nothing."""
    setup = prepare_new(config, on_event)
    runtime, trainer = setup.runtime, setup.trainer
    trainer.position.sums = trainer.position.sums.to(runtime.device)
    trainer.model.train()
    batches = trainer.batches(0)
    images, labels = next(batches)
    trainer.step(images, labels)
    loss, _, seen = trainer.position.sums.tolist()
    start = time.perf_counter()
    images, labels = next(batches, (images, labels))
    trainer.step(images, labels)
    trainer.position.sums.tolist()  # waits for the device
    step_seconds = time.perf_counter() - start
    state = [*trainer.model.state_dict().values(), *trainer.state().values()]
    folder = next(p for p in (config.output_dir, *config.output_dir.absolute().parents) if p.is_dir())
    return DryRunResult(
        config=config.model_dump(mode="json"),
        origins=origins,
        device=str(runtime.device),
        precision=runtime.precision,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        train_images=len(trainer.batches.labels) if isinstance(trainer.batches, TrainBatches) else 0,
        val_images=len(setup.val[1]),
        steps=trainer.total_steps,
        first_loss=loss / seen,
        step_seconds=step_seconds,
        estimated_seconds=step_seconds * trainer.total_steps,
        peak_memory=peak_memory(runtime.device),
        # keep_last, the best, and the one that is being written
        disk_needed=sum(t.numel() * t.element_size() for t in state) * (config.keep_last + 2),
        disk_free=shutil.disk_usage(folder).free,
    )


def prepare_new(config: TrainConfig, on_event: OnEvent) -> Setup:
    """All parts of a run from its first step; with `init`, its network is the checkpoint's, variant and all."""
    runtime = resolve_runtime(config.device, config.threads, config.precision)
    start = None if config.init is None else open_any(config.init, on_event)
    variant = start.header.architecture.shortcut if start else config.shortcut
    if variant != config.shortcut:
        on_event(Notice(f"{config.init} has shortcut={variant}, which this run takes over", warning=True))
        config = config.model_copy(update={"shortcut": variant})
    return prepare(config, runtime, start, on_event)


def prepare(config: TrainConfig, runtime: Runtime, start: Checkpoint | None, on_event: OnEvent) -> Setup:
    """Network (that of `start`, if there is one), data, batches and trainer, wired together."""
    seed_everything(config.seed)
    if start is None:
        network = channels_last(ResNet(shortcut=config.shortcut, branch_scale=config.branch_scale))
        normalization = Normalization(mean=MEAN, std=STD)
    else:
        network, normalization = build(start), start.header.normalization
    dataset = load_dataset(config, on_event)
    if network.head.out_features != len(dataset.classes):
        raise CheckpointError(
            f"{config.init}: {network.head.out_features} classes, but {dataset.name} has {len(dataset.classes)}",
            "start from a checkpoint of the same classes",
        )
    kept, val = stratified_split(dataset.train.labels, config.val_fraction, config.split_seed)
    if config.limit_train is not None:
        if config.limit_train > len(kept):
            raise UsageError(f"--limit-train {config.limit_train}: there are {len(kept)} images to train on")
        kept = kept[stratified_limit(dataset.train.labels[kept], config.limit_train, config.split_seed)]
    if len(kept) < 2:
        raise UsageError(f"{len(kept)} training image(s) left: BatchNorm needs at least 2", "raise --limit-train")
    device = runtime.device
    normalize = Normalizer(normalization.mean, normalization.std, device)
    images, labels = dataset.train.images, dataset.train.labels
    batches = TrainBatches(images[kept].to(device), labels[kept].to(device), config, normalize)
    header = ModelHeader(
        architecture=Architecture(shortcut=network.shortcut, num_classes=len(dataset.classes)),
        class_names=dataset.classes,
        normalization=normalization,
        data=dataset.name,
        chosen_by="val" if len(val) else "none",
        val_fraction=config.val_fraction,
        split_seed=config.split_seed,
        recipe=config.recipe,
        config=config.model_dump(mode="json"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(runtime),
    )
    if device.type == "cpu" and runtime.precision == "bf16":
        network = accelerate(network)
    trainer = Trainer(network.to(device), batches, config, runtime)
    val_batches = EvalBatches(images[val].to(device), inference_rows(device), normalize)
    return Setup(config, runtime, dataset, trainer, (val_batches, labels[val]), header)


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
    trainer, config = setup.trainer, setup.config
    go_on = f"go on with: resnetcli train --resume {run_dir}"
    on_event(_started(setup, run_dir))
    watch = _HistoryWriter(run_dir, trainer, on_event)
    watch.write()
    with stop.deferred():
        reason = trainer.run(
            validate=_validator(setup, stop), save=_saver(setup, manager, on_event), on_event=watch, stop=stop
        )
        if reason == "stopped":
            stop.raise_if_requested(f"stopped at step {trainer.global_step}; everything is saved in {run_dir}", go_on)
    if reason == "max_time":
        on_event(Notice(f"stopped after {config.max_time:g} minutes at step {trainer.global_step}; {go_on}"))
    position = trainer.position
    finished = reason != "max_time"
    checkpoint, network = open_network(str(run_dir), on_event)
    test = None
    if finished:
        measurement = EvaluateConfig(checkpoint=str(run_dir), split="test", data=config.data)
        test = measure(checkpoint, network, setup.dataset, measurement, setup.runtime.device, on_event)
    return TrainResult(
        run_dir=str(run_dir),
        checkpoint=str(checkpoint.path),
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
        logits = collect_logits(setup.trainer.model, batches, stop=stop)
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
    assert isinstance(trainer.batches, TrainBatches)
    return RunStarted(
        run_dir=run_dir,
        device=str(setup.runtime.device),
        precision=setup.runtime.precision,
        threads=setup.runtime.threads,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        train_images=len(trainer.batches.labels),
        val_images=len(setup.val[1]),
        epochs=setup.config.epochs,
        steps_per_epoch=trainer.batches.steps,
        batch_size=trainer.batches.batch_size,
        start_epoch=trainer.position.epoch,
        start_step=trainer.position.step,
    )
