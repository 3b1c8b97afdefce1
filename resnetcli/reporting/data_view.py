"""What a data set on disk consists of."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from resnetcli.reporting import text
from resnetcli.reporting.layout import figures_grid, simple_table
from resnetcli.results.data import DataResult, DataShowResult

INDICES_SHOWN = 8
"""Of each class; JSON has all of them."""


def data_table(result: DataResult) -> Group:
    """The answer of `data download` and `data verify`."""
    rows: list[tuple[str, RenderableType]] = [
        ("data", result.data),
        ("path", Text(result.path)),
        ("source", Text(result.source)),
        ("size", text.size(result.size)),
        ("time", text.duration(result.seconds)),
    ]
    if result.mean is not None:
        rows.append(("mean", _channels(result.mean)))
    if result.std is not None:
        rows.append(("std", _channels(result.std)))
    parts: list[RenderableType] = [figures_grid(rows)]
    if result.batches:
        table = simple_table()
        table.add_column("batch", overflow="fold")
        table.add_column("images", justify="right", no_wrap=True)
        table.add_column("sha256", no_wrap=True)
        table.add_column("", no_wrap=True)
        for batch in result.batches:
            verdict = Text("ok", style="green") if batch.ok else Text("DAMAGED", style="bold red")
            table.add_row(
                Text(batch.name), text.count(batch.images), Text(batch.sha256[:16] + "…", style="dim"), verdict
            )
        parts += [Text(), table]
    if result.class_counts:
        table = simple_table()
        table.add_column("class", overflow="fold")
        table.add_column("training images", justify="right", no_wrap=True)
        for name, images in result.class_counts.items():
            table.add_row(Text(name), text.count(images))
        parts += [Text(), table]
    return Group(*parts)


def images_by_class(result: DataShowResult) -> Group:
    """What `data show` says where it cannot draw: how many images of each class, and which ones."""
    places: dict[str, list[int]] = {}
    for label, index in zip(result.labels, result.indices, strict=True):
        places.setdefault(label, []).append(index)
    table = simple_table()
    table.add_column("class", overflow="fold")
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("places in the split", overflow="fold")
    for label, indices in places.items():
        shown = [*map(str, indices[:INDICES_SHOWN]), *(["…"] if len(indices) > INDICES_SHOWN else [])]
        table.add_row(Text(label), text.count(len(indices)), ", ".join(shown))
    if result.written is not None:
        return Group(table)
    hint = "Pictures need a terminal with 256 colours and UTF-8; --output FILE.png writes them to a file."
    return Group(table, Text(hint, style="dim"))


def _channels(values: tuple[float, float, float]) -> str:
    return "red {:.2f}, green {:.2f}, blue {:.2f} (of 0–255)".format(*values)
