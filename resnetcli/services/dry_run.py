"""`train --dry-run`: one real step, and what the whole run would need."""

from __future__ import annotations

import shutil

from resnetcli.config.train import TrainConfig
from resnetcli.data.sizes import small_epochs
from resnetcli.engine.runtime import peak_memory
from resnetcli.events import OnEvent
from resnetcli.results.train import DryRunResult
from resnetcli.services.advice import advice
from resnetcli.services.budget import prepare_within_budget
from resnetcli.services.pace import measure_pace
from resnetcli.services.run_folder import check_run_folder
from resnetcli.services.setup import prepare_new


def dry_run(config: TrainConfig, origins: dict[str, str], *, on_event: OnEvent) -> DryRunResult:
    """Takes real steps on real data and writes no run. `origins` says where each setting came from."""
    check_run_folder(config)
    setup = (prepare_new if config.budget is None else prepare_within_budget)(config, on_event)
    if config.budget is not None:
        origins = {**origins, **dict.fromkeys(("epochs", "start_size", "start_size_until"), "budget")}
    small = small_epochs(setup.config)
    with advice(setup.config, setup.trainer.batches.batch_size):
        pace = measure_pace(setup)
    trainer = setup.trainer
    state = [*trainer.model.state_dict().values(), *trainer.state().values()]
    folder = next(p for p in (config.output_dir.absolute(), *config.output_dir.absolute().parents) if p.is_dir())
    return DryRunResult(
        config=setup.config.model_dump(mode="json") | {"budget": config.budget},
        origins=origins,
        device=str(setup.runtime.device),
        precision=setup.runtime.precision,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        train_images=setup.train_images,
        val_images=len(setup.val[1]),
        steps=trainer.total_steps,
        first_loss=pace.first_loss,
        step_seconds=pace.small_step,
        last_step_seconds=pace.full_step if small < setup.config.epochs else pace.small_step,
        estimated_seconds=pace.seconds(setup.config.epochs, small),
        peak_memory=peak_memory(setup.runtime.device),
        # keep_last, the best, and the one that is being written
        disk_needed=sum(t.numel() * t.element_size() for t in state) * (config.keep_last + 2),
        disk_free=shutil.disk_usage(folder).free,
    )
