"""`train --dry-run`: one real step, and what the whole run would need."""

from __future__ import annotations

import shutil
import time

from resnetcli.config.train import TrainConfig
from resnetcli.data.batches import EvalBatches
from resnetcli.data.sizes import small_epochs
from resnetcli.engine.evaluate import collect_logits, inference_rows
from resnetcli.engine.graphs import WARMUP_STEPS
from resnetcli.engine.runtime import peak_memory
from resnetcli.events import OnEvent
from resnetcli.results.train import DryRunResult
from resnetcli.services.advice import advice
from resnetcli.services.networks import for_inference
from resnetcli.services.run_folder import check_run_folder
from resnetcli.services.setup import Setup, prepare_new

MEASURED_STEPS = {"cpu": 3, "cuda": WARMUP_STEPS + 3}
"""The first step also builds torch's kernels, and on a GPU the first ones are recorded; the last one is timed."""


def dry_run(config: TrainConfig, origins: dict[str, str], *, on_event: OnEvent) -> DryRunResult:
    """Takes real steps on real data and writes no run. `origins` says where each setting came from."""
    check_run_folder(config)
    setup = prepare_new(config, on_event)
    small = small_epochs(setup.config)
    with advice(setup.config, setup.trainer.batches.batch_size):
        first_loss, step_seconds = _steps(setup, 0)
        grows = 0 < small < setup.config.epochs
        last_step_seconds = _steps(setup, setup.config.epochs - 1)[1] if grows else step_seconds
    trainer, val_images = setup.trainer, len(setup.val[1])
    last = val_images if config.measure_on == "val" else len(setup.dataset.test.labels)
    measured_images = setup.config.epochs * val_images + last
    train_seconds = (step_seconds * small + last_step_seconds * (setup.config.epochs - small)) * trainer.batches.steps
    state = [*trainer.model.state_dict().values(), *trainer.state().values()]
    folder = next(p for p in (config.output_dir.absolute(), *config.output_dir.absolute().parents) if p.is_dir())
    return DryRunResult(
        config=setup.config.model_dump(mode="json"),
        origins=origins,
        device=str(setup.runtime.device),
        precision=setup.runtime.precision,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        train_images=setup.train_images,
        val_images=val_images,
        steps=trainer.total_steps,
        first_loss=first_loss,
        step_seconds=step_seconds,
        last_step_seconds=last_step_seconds,
        estimated_seconds=train_seconds + _seconds_per_image(setup) * measured_images,
        peak_memory=peak_memory(setup.runtime.device),
        # keep_last, the best, and the one that is being written
        disk_needed=sum(t.numel() * t.element_size() for t in state) * (config.keep_last + 2),
        disk_free=shutil.disk_usage(folder).free,
    )


def _steps(setup: Setup, epoch: int) -> tuple[float, float]:
    """Mean loss until the end of the first step, and seconds of a later one, with batches of `epoch`."""
    trainer = setup.trainer
    trainer.model.train()
    first_loss, seconds = 0.0, 0.0
    for number in range(MEASURED_STEPS.get(setup.runtime.device.type, 3)):
        start = time.perf_counter()
        trainer.step(*next(trainer.batches(epoch, number % trainer.batches.steps)))
        loss, _, seen = trainer.position.sums.tolist()  # waits for the device
        seconds = time.perf_counter() - start
        first_loss = first_loss or loss / seen
    return first_loss, seconds


def _seconds_per_image(setup: Setup) -> float:
    """Of measuring, from one batch after another that warms up."""
    rows = inference_rows(setup.runtime.device)
    network = for_inference(setup.network, setup.runtime.in_float32())
    normalize = setup.val[0].normalize
    images = next(iter(EvalBatches(setup.dataset.test.images.to(setup.runtime.device), rows, normalize)))
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        collect_logits(network, [images])
        seconds = time.perf_counter() - start
    return seconds / rows
