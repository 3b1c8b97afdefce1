"""`train --dry-run`: one real step, and what the whole run would need."""

from __future__ import annotations

import shutil

from resnetcli.config.train import TrainConfig
from resnetcli.data.sizes import small_epochs
from resnetcli.engine.runtime import peak_memory
from resnetcli.events import OnEvent
from resnetcli.results.train import DryRunResult
from resnetcli.services.advice import advice
from resnetcli.services.budget import prepare_run
from resnetcli.services.pace import seconds_per_image, take_steps
from resnetcli.services.run_folder import check_run_folder


def dry_run(config: TrainConfig, origins: dict[str, str], *, on_event: OnEvent) -> DryRunResult:
    """Takes real steps on real data and writes no run. `origins` says where each setting came from."""
    check_run_folder(config)
    setup = prepare_run(config, on_event)
    small = small_epochs(setup.config)
    with advice(setup.config, setup.trainer.batches.batch_size):
        first_loss, seconds = take_steps(setup, 0)
        step_seconds = last_step_seconds = seconds[-1]
        if 0 < small < setup.config.epochs:
            last_step_seconds = take_steps(setup, setup.config.epochs - 1)[1][-1]
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
        estimated_seconds=train_seconds + seconds_per_image(setup) * measured_images,
        peak_memory=peak_memory(setup.runtime.device),
        # keep_last, the best, and the one that is being written
        disk_needed=sum(t.numel() * t.element_size() for t in state) * (config.keep_last + 2),
        disk_free=shutil.disk_usage(folder).free,
    )
