"""The network as a tree of layers, with totals."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from resnetcli.reporting import text
from resnetcli.reporting.checkpoints_view import checkpoint_panel
from resnetcli.reporting.layout import Adaptive, figures_grid, simple_table
from resnetcli.results.inspect import InspectResult, LayerRow


def inspect_tree(result: InspectResult, depth: int | None = None) -> Group:
    """The layers down to `depth` (None: all of them), the totals, and the checkpoint where there is one."""
    shown = [row for row in result.layers if depth is None or row.depth <= depth]
    parts: list[RenderableType] = [Adaptive(lambda level: _tree(result, shown, level), last_level=2)]
    hidden = len(result.layers) - len(shown)
    if hidden:
        parts.append(Text(f"{text.plural(hidden, 'layer')} below depth {depth} not shown (--depth)", style="dim"))
    parts += [Text(), totals_panel(result)]
    if result.checkpoint is not None:
        parts += [Text(), checkpoint_panel(result.checkpoint)]
    return Group(*parts)


def _tree(result: InspectResult, rows: list[LayerRow], level: int) -> Table:
    table = simple_table(f"{result.architecture}, {result.shortcut} shortcuts")
    table.add_column("layer", no_wrap=True)
    if level < 2:
        table.add_column("kind", no_wrap=True, style="dim")
    names = ("output", "parameters", "MACs", "activations")
    for name in names if level == 0 else names[:3]:
        table.add_column(name, justify="right", no_wrap=True)
    for row, guide in zip(rows, _guides(rows), strict=True):
        name = row.path.rpartition(".")[2] or "network"
        cells = [
            text.shape(row.output_shape),
            text.count(row.parameters) if row.parameters else "–",
            text.millions(row.macs) if row.macs else "–",
            text.size(row.activation_bytes),
        ]
        table.add_row(
            Text.assemble((guide, "dim"), (name, "bold" if row.depth < 2 else "")),
            *([row.kind] if level < 2 else []),
            *(cells if level == 0 else cells[:3]),
        )
    return table


def totals_panel(result: InspectResult) -> Panel:
    """Parameters, work and memory of the whole network."""
    frozen = result.parameters - result.trainable_parameters
    batch = text.plural(result.input_shape[0], "image")
    parameters = f"{text.count(result.parameters)}, {text.size(result.parameter_bytes)}"
    trainable = f"{text.count(result.trainable_parameters)} trainable, {text.count(frozen)} not"
    macs = f"{text.count(result.macs)} multiply-accumulates per image"
    rows: list[tuple[str, RenderableType]] = [
        ("input", text.shape(result.input_shape)),
        ("convolutions", text.count(result.convolutions)),
        ("parameters", f"{parameters}; {trainable}"),
        ("buffers", f"{text.count(result.buffer_elements)} numbers (BatchNorm statistics)"),
        ("MACs", f"{macs}, {text.count(result.conv_macs)} of them in convolutions"),
        ("FLOPs", f"{text.count(result.flops)} per image (2 × MACs)"),
        ("activations", f"{text.size(result.activation_bytes)} in float32 for {batch}"),
    ]
    return Panel(figures_grid(rows), title="Totals", title_align="left", box=box.ROUNDED, expand=False)


def _guides(rows: list[LayerRow]) -> list[str]:
    """The lines in front of each name that show below what it hangs.

    Read from the end: a row is the last of its siblings if none of its depth has been seen since a shallower row.
    """
    guides = []
    open_depths: set[int] = set()
    for row in reversed(rows):
        open_depths = {depth for depth in open_depths if depth <= row.depth}
        guide = "".join("│  " if depth in open_depths else "   " for depth in range(1, row.depth))
        if row.depth:
            guide += "├─ " if row.depth in open_depths else "└─ "
        open_depths.add(row.depth)
        guides.append(guide)
    return guides[::-1]
