"""`resnetcli train`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import typer

from resnetcli.cli.curves import keeping_curves
from resnetcli.cli.options import AsJson, ConfigFile, examples, from_flag, switch, takes
from resnetcli.cli.recipes import default_recipe, read_recipe
from resnetcli.cli.report_files import deliver, write_training
from resnetcli.cli.resolve import Given, Origin, environment_name, option_name, resolve, resolve_train, tuned_for
from resnetcli.cli.runs import complete_run
from resnetcli.cli.session import LOADING, Session, session_of, write_document
from resnetcli.config.extension import ExtendConfig, Policy
from resnetcli.config.train import RESUMABLE, TrainConfig, unused_settings
from resnetcli.errors import UsageError
from resnetcli.events import Notice
from resnetcli.results.train import REPORT_FOLDER, DryRunResult, TrainResult
from resnetcli.services.output_dir import check_output_dir, check_run_dir

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

FROM_TRAINED = ("best",)
"""Packaged recipes that were measured from trained weights only."""


def complete_policy(incomplete: str) -> list[str]:
    """Shell completion of --extend."""
    return [policy for policy in get_args(Policy) if policy.startswith(incomplete)]


COMMON = (
    *("recipe", "epochs", "budget", "batch_size", "lr", "seed", "init", "val_fraction", "data", "config_file"),
    *("output_dir", "name", "max_time", "resume", "dry_run", "device", "threads", "precision"),
    *("as_json", "quiet", "help", "help_all"),
)
"""Options that --help shows; --help-all shows the others too."""


@app.command(
    epilog=examples(
        "resnetcli train",
        "resnetcli train --budget 15",
        "resnetcli train --epochs 20 --seed 1 --name twenty",
        "resnetcli train --resume runs/twenty",
        "resnetcli train --resume runs/twenty --epochs 30 --extend stretch",
        "resnetcli train --config runs/twenty/config.json --name again --dry-run",
    )
)
@takes(TrainConfig, recipe=default_recipe(), common=COMMON)
def train(
    ctx: typer.Context,
    given: Given,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this run where it stopped; its settings stay. \\[default: none]",
            metavar="<path>",
            envvar=environment_name("resume"),
            show_default=False,
            rich_help_panel="Run",
            autocompletion=complete_run,
        ),
    ] = None,
    extend: Annotated[
        str | None,
        typer.Option(
            help="With --resume and --epochs: the whole run gets so many epochs, and from where it stands on the "
            "learning rate follows its schedule as if it had been that long from the start (stretch), begins the "
            "schedule again at its peak, warm-up included, over the epochs that are left (restart), or stays what it "
            "was at the last step (constant). --dry-run shows the rates before and after. \\[default: none]",
            metavar="<stretch|restart|constant>",
            envvar=environment_name("extend"),
            show_default=False,
            rich_help_panel="Run",
            autocompletion=complete_policy,
        ),
    ] = None,
    config_file: ConfigFile = None,
    dry_run: Annotated[bool, switch("dry_run", "Take one real step, and say what the run would need.", "Run")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the network, and measure it on the test images at the end.

    Settings come from flags, then the environment, then --config, then the recipe, then the defaults shown here.

    Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU (SLURM: --signal=USR1@60) save within a step and end with
    exit code 128 + the signal's number; --resume goes on, bit for bit.
    """
    session = session_of(ctx)
    if resume is not None:
        if config_file is not None:
            if from_flag(ctx, "config_file"):
                raise _fixed("--config")
            session.notify(_ignored("config"))
        extension, given = _extension(session, given, extend, from_flag(ctx, "extend"))
        overrides = _overrides(session, given)
        check_run_dir(resume)
        if dry_run:
            if extension is None:
                raise UsageError(
                    "--dry-run with --resume: a dry run previews a new run, or what --epochs and --extend would add",
                    "leave out one of them",
                )
            with session.observed(LOADING, logged=True) as on_event:
                from resnetcli.services.dry_run import dry_run_extension

                previewed = dry_run_extension(resume, overrides, extension, on_event=on_event)
            report(previewed, as_json, session)
            return
        with session.observed(LOADING, logged=True) as on_event, keeping_curves(on_event) as curves:
            from resnetcli.services import train as service

            result = service.resume(resume, overrides, stop=session.stop, on_event=curves, extend=extension)
    else:
        if extend is not None:
            if from_flag(ctx, "extend"):
                raise UsageError(
                    f"--extend {extend}: only a run that is there can be extended", "name it with --resume"
                )
            session.notify(Notice(f"{environment_name('extend')} is ignored: only --resume extends a run", True))
        config, origins = resolve_train(given, config_file)

        for name, reason in unused_settings(config).items():
            if origins[name] in ("flag", "environment"):
                session.notify(Notice(f"{option_name(name)} has no effect: {reason}", warning=True))
        for text in _doubtful(config, origins):
            session.notify(Notice(text, warning=True))
        if text := _scaled(config, origins):
            session.notify(Notice(text))
        if dry_run:
            with session.observed(LOADING, logged=True) as on_event:
                from resnetcli.services.dry_run import dry_run as preview

                previewed = preview(config, dict(origins), on_event=on_event)
            report(previewed, as_json, session)
            return

        check_output_dir(config.output_dir, config.name)
        with session.observed(LOADING, logged=True) as on_event, keeping_curves(on_event) as curves:
            from resnetcli.services import train as service

            result = service.train(config, stop=session.stop, on_event=curves)
    write = partial(_write, session, curves=not curves.refused)
    deliver(result, write, partial(report, as_json=as_json, session=session))


def _write(session: Session, result: TrainResult, *, curves: bool) -> TrainResult:
    with session.observed("drawing the report"):
        return write_training(result, curves=curves)


def _doubtful(config: TrainConfig, origins: Mapping[str, Origin]) -> Iterator[str]:
    """Settings that are valid, and probably not what was meant."""
    if config.recipe in FROM_TRAINED and config.init is None:
        yield (
            f"recipe {config.recipe} was only measured from trained weights, and this run starts from nothing: "
            "--recipe balanced is the one for that, or name weights with --init"
        )
    if config.optimizer == "adamw" and not config.weight_decay:
        yield "--optimizer adamw is adam as long as --weight-decay is 0"
    if origins["batch_size"] in ("flag", "environment") and origins["lr"] == "file":
        yield f"lr {config.lr:g} of --config is not scaled for --batch-size {config.batch_size}: choose one with --lr"
    if origins["optimizer"] not in ("recipe", "default") and origins["lr"] in ("recipe", "scaled"):
        meant_for = read_recipe(config.recipe).values.get("optimizer")
        if meant_for != config.optimizer:
            yield f"lr {config.lr:g} is that of recipe {config.recipe} for {meant_for}: choose one with --lr"


def _scaled(config: TrainConfig, origins: Mapping[str, Origin]) -> str:
    """Which learning rates were scaled for the batch size; empty where none was."""
    names = [name for name in ("lr", "sgd_lr") if origins[name] == "scaled" and name not in unused_settings(config)]
    if not names:
        return ""
    rates = ", ".join(f"{name} {getattr(config, name):.3g}" for name in names)
    return (
        f"{rates}: scaled for batches of {config.batch_size} from those of recipe {config.recipe} for "
        f"{tuned_for(config.recipe)}; {' and '.join(map(option_name, names))} to choose"
    )


def _extension(session: Session, given: Given, extend: str | None, typed: bool) -> tuple[ExtendConfig | None, Given]:
    """What --epochs and --extend ask of a run that is resumed, and the rest of what was given."""
    if extend is None:
        if "epochs" in given.flags:
            policies = ", ".join(get_args(Policy))
            raise UsageError(
                f"--epochs {given.words('epochs')} with --resume: say with --extend which learning rates the run then "
                f"takes: {policies}",
                "`resnetcli train --help` says what they are, and --dry-run beside them shows the rates",
            )
        return None, given
    if "epochs" not in given:
        if typed:
            raise UsageError(f"--extend {extend}: to how many epochs?", "add --epochs, the number for the whole run")
        session.notify(Notice(f"{environment_name('extend')} is ignored: it goes with --epochs", warning=True))
        return None, given
    where = {"extend": extend}
    asked = Given(
        {n: v for n, v in given.flags.items() if n == "epochs"} | (where if typed else {}),
        {n: v for n, v in given.environment.items() if n == "epochs"} | ({} if typed else where),
    )
    return resolve(ExtendConfig, asked), given.without(["epochs"])


def _overrides(session: Session, given: Given) -> dict[str, object]:
    """The settings that a resumed run takes over from the command line."""
    for name in given.flags:
        if name not in RESUMABLE:
            raise _fixed(option_name(name))
    ignored = [name for name in given.environment if name not in RESUMABLE]
    for name in ignored:
        session.notify(_ignored(name))
    given = given.without(ignored)
    checked = resolve(TrainConfig, given)
    return {name: getattr(checked, name) for name in RESUMABLE if name in given}


def _fixed(option: str) -> UsageError:
    allowed = ", ".join(option_name(name) for name in RESUMABLE)
    return UsageError(
        f"{option} with --resume: a resumed run keeps its settings (only {allowed} may change, and --epochs with "
        "--extend)",
        "`resnetcli train --init RUN` starts a new run from the weights of an old one",
    )


def _ignored(name: str) -> Notice:
    """A warning, where a flag would be an error: an exported variable was not meant for this command in particular."""
    return Notice(f"{environment_name(name)} is ignored: a resumed run keeps its settings", warning=True)


def report(result: TrainResult | DryRunResult, as_json: bool, session: Session) -> None:
    from resnetcli.reporting import console, files, tables

    if as_json:
        write_document(files.to_json(result))
    elif isinstance(result, DryRunResult):
        console.stdout().print(tables.dry_run(result))
    else:
        shown = session.epochs_shown if console.same_place(sys.stdout, sys.stderr) else frozenset[int]()
        folder = Path(result.run_dir) / REPORT_FOLDER
        written = sorted(path.name for path in folder.glob("*.*")) if folder.is_dir() else []
        console.stdout().print(tables.training(result, shown=shown, report=written))
