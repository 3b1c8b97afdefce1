"""Checkpoints: where weights came from, one by one and as a list."""

from __future__ import annotations

from pathlib import PurePath

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from resnetcli.reporting import text
from resnetcli.reporting.layout import Adaptive, figures_grid, simple_table
from resnetcli.reporting.scores_view import CHOSEN_BY
from resnetcli.results.checkpoints import Ancestor, CheckpointInfo, CheckpointsResult, ReplayResult, RunInfo, at_bound

KINDS = {
    "packaged": "weights that come with resnetcli",
    "run": "run directory",
    "checkpoint": "checkpoint directory",
    "portable": "portable file (weights only)",
    "foreign": "foreign state_dict",
}


def checkpoint_panel(info: CheckpointInfo) -> Panel:
    """Everything that is known of one checkpoint; what it does not say is left out."""
    rows: list[tuple[str, RenderableType]] = [
        ("path", Text(info.path)),
        ("kind", KINDS.get(info.kind, info.kind)),
        ("trained for", _progress(info)),
        ("created", info.created or ""),
        ("recipe", Text(info.recipe or "")),
        ("started from", Text("\n".join(map(_ancestor, info.lineage)))),
        ("data", Text(info.data or "")),
        ("chosen by", CHOSEN_BY.get(info.chosen_by, info.chosen_by)),
        ("metrics", Text(", ".join(_metrics(info.metrics)))),
        ("temperature", _temperature(info)),
        ("strangeness", _strangeness(info)),
        ("rounded", _rounding(info)),
        ("classes", Text(", ".join(info.class_names))),
        ("mean", _triple(info.mean) if info.class_names else ""),
        ("std", _triple(info.std) if info.class_names else ""),
        ("versions", Text(", ".join(f"{name} {version}" for name, version in info.versions.items()))),
    ]
    known: list[tuple[str, RenderableType]] = [(name, value) for name, value in rows if str(value)]
    parts: list[RenderableType] = [figures_grid(known)]
    if info.files:
        table = simple_table()
        table.add_column("file", overflow="fold")
        table.add_column("size", justify="right", no_wrap=True)
        table.add_column("sha256", no_wrap=True)
        for file in info.files:
            table.add_row(Text(file.name), text.size(file.size), Text(file.sha256[:16] + "…", style="dim"))
        parts += [Text(), table]
    return Panel(Group(*parts), title="Checkpoint", title_align="left", box=box.ROUNDED, expand=False)


def checkpoints_table(result: CheckpointsResult) -> Group:
    """The answer of `checkpoints list`, `verify`, `prune` and `export`."""
    parts: list[RenderableType] = []
    if result.runs:
        parts.append(Adaptive(lambda level: _runs(result.runs, level), last_level=3))
    elif result.checkpoints:
        parts.append(Adaptive(lambda level: _list(result.checkpoints, level), last_level=3))
    elif not result.removed:
        parts.append(Text("no checkpoints"))
    for problem in result.problems:
        parts.append(Text.assemble(("damaged: ", "bold red"), f"{problem.path}: {problem.message}"))
    if result.command.endswith("verify") and not result.problems:
        parts.append(Text(f"{text.plural(len(result.checkpoints), 'checkpoint')} intact", style="green"))
    if result.replay is not None:
        parts += [Text(), *_replay(result.replay)]
    parts += _removed(result)
    if result.written is not None:
        parts.append(Text(f"wrote {result.written}"))
        parts += [Text(f"rounded {rounding}") for info in result.checkpoints if (rounding := _rounding(info))]
    return Group(*parts)


def _removed(result: CheckpointsResult) -> list[RenderableType]:
    """What `prune` did, or would do."""
    if not result.command.endswith("prune"):
        return []
    if not result.removed:
        return [Text("nothing to remove")]
    word, frees = ("would remove", "frees") if result.dry_run else ("removed", "freed")
    freed = f" ({frees} {text.size(result.removed_bytes)})"
    lines = [Text(f"{word} {path}") for path in result.removed]
    lines[-1].append(freed if result.removed_bytes else "")
    return list(lines)


def _replay(replay: ReplayResult) -> list[RenderableType]:
    """What came out of recorded steps, part by part, and what to make of it."""
    table = simple_table(f"Steps {text.count(replay.from_step + 1)} to {text.count(replay.to_step)}, replayed")
    table.add_column("part", no_wrap=True)
    table.add_column("compared", justify="right", no_wrap=True)
    table.add_column("different", justify="right", no_wrap=True)
    table.add_column("by at most", justify="right", no_wrap=True)
    table.add_column("first of them", overflow="fold")
    for part in replay.parts:
        table.add_row(
            part.name,
            text.count(part.count),
            Text(text.count(part.different), style="bold red" if part.different else "green"),
            "" if part.max_difference is None else f"{part.max_difference:.3g}",
            Text(part.first or ""),
        )
    lines: list[RenderableType] = [table]
    machine = f"{replay.device}, {replay.precision}, {text.plural(replay.threads, 'thread')}"
    if replay.equal:
        lines.append(
            Text(f"bit for bit what {replay.to_checkpoint} holds: sha256 {replay.recorded_sha256[:16]}…", style="green")
        )
    else:
        lines.append(Text.assemble(("different", "bold red"), f" from what {replay.to_checkpoint} holds"))
    lines += [
        Text.assemble((f"{change.name} was {change.recorded}, is {change.here}", "yellow")) for change in replay.changed
    ]
    if replay.changed and not replay.equal:
        lines.append(Text("equal results are promised only where none of this has changed"))
    lines.append(Text(f"{replay.from_checkpoint} to {replay.to_checkpoint} on {machine}", style="dim"))
    return lines


def _list(checkpoints: tuple[CheckpointInfo, ...], level: int) -> Table:
    """Those of one run by their names, under its path."""
    folders = {PurePath(info.path).parent for info in checkpoints}
    folder = folders.pop() if len(folders) == 1 and checkpoints[0].kind == "checkpoint" else None
    table = simple_table(Text("" if folder is None else str(folder)))
    table.add_column("checkpoint", overflow="fold")
    table.add_column("", no_wrap=True)
    names = ("epoch", "val top-1", "test top-1", "size", "val loss", "created")[: 6 - level]
    for name in names:
        table.add_column(name, justify="left" if name == "created" else "right", no_wrap=True)
    for info in checkpoints:
        marks = " ".join(word for word, marked in (("best", info.best), ("last", info.last)) if marked)
        loss = info.metrics.get("val_loss")
        cells = (
            "–" if info.epoch is None else f"{info.epoch:.4g}",
            _percent(info.metrics.get("val_top1")),
            _percent(info.metrics.get("test_top1")),
            text.size(sum(file.size for file in info.files)) if info.files else "–",
            "–" if loss is None else f"{loss:.4f}",
            _minute(info.created),
        )
        name = info.path if folder is None else PurePath(info.path).name
        table.add_row(Text(name), Text(marks, style="green"), *cells[: len(names)])
    return table


def _runs(runs: tuple[RunInfo, ...], level: int) -> Table:
    table = simple_table()
    table.add_column("run", overflow="fold")
    names = ("epoch", "val top-1", "test top-1", "size", "checkpoints", "saved")[: 6 - level]
    for name in names:
        table.add_column(name, justify="left" if name == "saved" else "right", no_wrap=True)
    for run in runs:
        cells = (
            "–" if run.epoch is None else f"{run.epoch:.4g}",
            _percent(run.val_top1),
            _percent(run.test_top1),
            text.size(run.size),
            text.count(run.checkpoints),
            _minute(run.created),
        )
        table.add_row(Text(run.path), *cells[: len(names)])
    return table


def _percent(share: float | None) -> str:
    return "–" if share is None else text.percent(share)


def _minute(created: str | None) -> str:
    return "–" if created is None else created[:16].replace("T", " ")


def _progress(info: CheckpointInfo) -> str:
    parts = []
    if info.epoch is not None:
        parts.append(
            text.plural(int(info.epoch), "epoch") if info.epoch == int(info.epoch) else f"{info.epoch:.4g} epochs"
        )
    if info.step is not None:
        parts.append(text.plural(info.step, "step"))
    return ", ".join(parts)


def _ancestor(of: Ancestor) -> str:
    """Weights that training started from, on one line."""
    known = [
        "" if of.origin in (None, of.name) else f"imported from {of.origin}",
        "" if of.recipe is None else f"recipe {of.recipe}",
        "" if of.epoch is None else f"epoch {of.epoch:g}",
        "" if of.data is None else of.data,
        f"less {100 * of.val_fraction:g} % (seed {of.split_seed})" if of.val_fraction else "",
    ]
    said = ", ".join(filter(None, known)) or "nothing else is known"
    return " ".join(f"{of.name} ({of.sha256[:12]}…): {said}".split())  # no line but this one


def _temperature(info: CheckpointInfo) -> str:
    known = info.calibration
    if known is None:
        return ""
    if at_bound(known.temperature):
        return f"{known.temperature:.3f} is the bound of its fit, and is not used"
    fitted = f"{known.temperature:.3f}, fitted on {text.plural(known.images, 'validation image')}"
    if known.gain is None or known.gain_error is None:
        return fitted
    return f"{fitted}; gains {known.gain:.4f} ± {known.gain_error:.4f} nats on images held out of the fit"


def _strangeness(info: CheckpointInfo) -> str:
    threshold = info.strangeness_threshold
    return "" if threshold is None else f"99 % of the images that it knows are within {threshold:.2f}"


def _rounding(info: CheckpointInfo) -> str:
    if info.rounded_to is None:
        return ""
    return f"to {info.rounded_to} when it was stored; largest error of a weight {info.rounding_error:.2g}"


def _metrics(metrics: dict[str, float]) -> list[str]:
    """Accuracies as percentages, all else as numbers."""
    return [
        f"{name} {text.percent(value)}" if name.endswith(("top1", "top5", "ece")) else f"{name} {value:.4g}"
        for name, value in metrics.items()
    ]


def _triple(values: tuple[float, float, float]) -> str:
    return "  ".join(f"{value:.4f}" for value in values)
