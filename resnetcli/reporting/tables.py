"""One renderable per command: what a result object looks like in a terminal, whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from resnetcli.reporting.bench_view import bench_report as bench
from resnetcli.reporting.checkpoints_view import checkpoints_table as checkpoints
from resnetcli.reporting.compare_view import comparison
from resnetcli.reporting.data_view import data_table as data
from resnetcli.reporting.data_view import images_by_class
from resnetcli.reporting.inspect_view import inspect_tree as network
from resnetcli.reporting.predict_view import PredictionsTable as predictions
from resnetcli.reporting.scores_view import evaluation
from resnetcli.reporting.thumbnails import Thumbnails
from resnetcli.reporting.train_view import dry_run
from resnetcli.reporting.train_view import train_summary as training
from resnetcli.results.data import DataShowResult

__all__ = [
    "bench",
    "checkpoints",
    "comparison",
    "data",
    "dry_run",
    "evaluation",
    "images",
    "network",
    "predictions",
    "training",
]


def images(result: DataShowResult, pixels: Sequence[Any]) -> Group:
    """The answer of `data show`; `pixels`: uint8[N][32][32][3], an array or nested sequences."""
    title = Text(f"{result.data}, {result.split} split", style="bold")
    drawn = Thumbnails(pixels, result.labels, instead=images_by_class(result))
    return Group(title, drawn, *([Text(f"wrote {result.written}")] if result.written is not None else []))
