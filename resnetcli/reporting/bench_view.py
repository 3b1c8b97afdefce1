"""How fast the tool is here, beside a plain loop and beside what the machine could do."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from resnetcli.reporting import text
from resnetcli.reporting.layout import Adaptive, figures_grid, simple_table
from resnetcli.results.bench import BenchResult, Spread


def bench_report(result: BenchResult) -> Group:
    """The whole report of `bench train` and `bench infer`."""
    return Group(Adaptive(lambda level: _rates(result, level), last_level=2), Text(), figures_panel(result))


def _rates(result: BenchResult, level: int) -> Table:
    """One row for each that had its turn, fastest possible last."""
    training = result.command == "bench train"
    title = f"{'Training' if training else 'Inference'}, {result.shortcut} shortcuts"
    table = simple_table(title, f"medians of {text.plural(len(result.tool.rounds), 'round')}, by turns")
    images = text.count(result.images)
    time = f"epoch of {images}" if training else f"{images} images"
    names = {
        0: ("arithmetic", "batch", "images/s", "lowest–highest", time, "of the roof"),
        1: ("images/s", "lowest–highest", time, "of the roof"),
        2: ("images/s", "of the roof"),
    }[level]
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    precision, tool_batch, plain_batch = result.machine.precision, result.batch_size, result.plain_batch_size
    rows = [
        ("resnetcli", precision, text.count(tool_batch), result.tool, result.roof_share),
        (
            "plain PyTorch",
            "fp32" if result.machine.device == "cpu" else "TF32",  # what PyTorch's convolutions take on a GPU
            text.count(plain_batch),
            result.plain,
            result.plain_roof_share,
        ),
        ("roof", precision, "–", result.roof, 1.0),
    ]
    first = result.first_epochs
    if first is not None:
        name = f"{first.image_size} px at first"
        rows.insert(1, (name, precision, text.count(tool_batch), first.tool, first.roof_share))
    for name, arithmetic, batch, rates, share in rows:
        cells = {
            "arithmetic": arithmetic,
            "batch": batch,
            "images/s": f"{rates.median:,.0f}",
            "lowest–highest": _range(rates),
            time: text.duration(result.images / rates.median),
            "of the roof": text.percent(share, 1),
        }
        table.add_row(name, *(cells[name] for name in names), style="bold" if name == "resnetcli" else "")
    return table


def figures_panel(result: BenchResult) -> Panel:
    """The ratio, and what the figures are of."""
    machine, matrix = result.machine, result.matrix
    products = f"{matrix.median / 1e9:,.0f} GFLOP/s of matrix products in {machine.precision}"
    threads = text.plural(machine.threads, "thread")
    rows: list[tuple[str, RenderableType]] = [
        ("ratio", Text.assemble((f"{result.ratio:.2f}×", "bold green"), " the plain PyTorch loop")),
        ("roof", f"{products} ({_range(matrix, 1e9)})"),
        ("an image", f"{result.flops_per_image / 1e6:,.1f} MFLOP; taps on padding are not counted"),
        ("memory", f"{text.size(result.peak_memory)} at the peak, of resnetcli alone"),
        ("machine", Text(f"{machine.name} ({machine.device}), {threads}, torch {machine.torch}")),
    ]
    if result.optimizer is not None:
        rows.insert(1, ("optimiser", f"{result.optimizer}; of the plain loop adam"))
    if result.first_epochs is not None:
        size, first = result.image_size, result.first_epochs.image_size
        rows.insert(1, ("images", f"{size} pixels a side; a run begins with {first}, in its own row"))
    return Panel(figures_grid(rows), title="Speed", title_align="left", box=box.ROUNDED, expand=False)


def _range(rates: Spread, unit: float = 1.0) -> str:
    return f"{rates.low / unit:,.0f}–{rates.high / unit:,.0f}"
