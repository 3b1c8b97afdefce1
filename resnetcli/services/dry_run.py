"""`train --dry-run`: one real step, and what the whole run would need."""

from __future__ import annotations

import shutil
from pathlib import Path

from resnetcli.checkpoints.locks import check_not_in_use
from resnetcli.checkpoints.manager import newest_intact
from resnetcli.config.extension import ExtendConfig
from resnetcli.config.train import TrainConfig
from resnetcli.data.sizes import small_epochs
from resnetcli.engine.runtime import peak_memory
from resnetcli.events import OnEvent, Phase
from resnetcli.results.train import DryRunResult
from resnetcli.services.advice import advice
from resnetcli.services.budget import prepare_within_budget
from resnetcli.services.extension import announce, extended, rates
from resnetcli.services.pace import measure_pace
from resnetcli.services.run_folder import check_run_folder
from resnetcli.services.setup import Setup, prepare_new
from resnetcli.services.train import check_is_run, read_config, reopen


def dry_run(config: TrainConfig, origins: dict[str, str], *, on_event: OnEvent) -> DryRunResult:
    """Takes real steps on real data and writes no run. `origins` says where each setting came from."""
    check_run_folder(config)
    setup = (prepare_new if config.budget is None else prepare_within_budget)(config, on_event)
    if config.budget is not None:
        origins = {**origins, **dict.fromkeys(("epochs", "start_size", "start_size_until"), "budget")}
    result = _measured(setup, origins, config.output_dir, on_event)
    return result.model_copy(update={"config": result.config | {"budget": config.budget}})


def dry_run_extension(
    run: Path, overrides: dict[str, object], extend: ExtendConfig, *, on_event: OnEvent
) -> DryRunResult:
    """The same for `resume` with `extend`, with the learning rates before and after; `steps` and what it would take
    are of what is left. The run stays as it is. Raises what `resume` raises."""
    check_is_run(run)
    stored = read_config(run)
    check_not_in_use(run, soft=bool(overrides.get("soft_lock", stored.soft_lock)))
    folder, snapshot = newest_intact(run)
    config = extended(stored, snapshot.position, extend, run)
    config = config.model_copy(update={"max_time": None, **overrides})
    setup = reopen(config, folder, snapshot, on_event)
    for notice in announce(config, setup.trainer.batches.steps):
        if notice.warning:  # the rest is a table of its own
            on_event(notice)
    origins = dict.fromkeys(config.model_dump(), "run") | dict.fromkeys((*overrides, "epochs", "extensions"), "flag")
    result = _measured(setup, origins, run, on_event)
    return result.model_copy(update={"rates": rates(config, setup.trainer.batches.steps)})


def _measured(setup: Setup, origins: dict[str, str], output_dir: Path, on_event: OnEvent) -> DryRunResult:
    """What there is still to do for `setup`, from the position where it stands."""
    config, trainer = setup.config, setup.trainer
    small = small_epochs(config)
    on_event(Phase("taking a step"))
    with advice(config, trainer.batches.batch_size):
        pace = measure_pace(setup)
    done = trainer.position.epoch
    state = [*trainer.model.state_dict().values(), *trainer.state().values()]
    folder = next(p for p in (output_dir.absolute(), *output_dir.absolute().parents) if p.is_dir())
    grows = small < config.epochs
    return DryRunResult(
        config=config.model_dump(mode="json"),
        origins=origins,
        device=str(setup.runtime.device),
        precision=setup.runtime.precision,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        train_images=setup.train_images,
        val_images=len(setup.val[1]),
        steps=trainer.total_steps - trainer.global_step,
        first_loss=pace.first_loss,
        step_seconds=pace.small_step if done < small else pace.full_step,
        last_step_seconds=pace.full_step if grows else pace.small_step,
        estimated_seconds=pace.seconds(config.epochs - done, max(0, small - done)),
        peak_memory=peak_memory(setup.runtime.device),
        # keep_last, the best, and the one that is being written
        disk_needed=sum(t.numel() * t.element_size() for t in state) * (config.keep_last + 2),
        disk_free=shutil.disk_usage(folder).free,
    )
