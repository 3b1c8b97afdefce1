"""metrics.jsonl and metrics.csv: a view of the history that the checkpoint holds, rewritten whole, so never torn."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from resnetcli.checkpoints import storage
from resnetcli.results.train import EpochRow


def write_history(run_dir: Path, history: Sequence[EpochRow]) -> None:
    """One row for each epoch; pandas reads both files as they are. Raises StorageError."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(EpochRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in history)
    storage.write_file(run_dir / "metrics.csv", table.getvalue().encode())
    lines = "".join(row.model_dump_json() + "\n" for row in history)
    storage.write_file(run_dir / "metrics.jsonl", lines.encode())
