"""The table of the README's reliability section, from what the fault tests recorded.

RESNETCLI_FAULTS=faults.jsonl python -m pytest tests/faults -m "full or not full"
python -m tests.faults.table faults.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def table(lines: list[str]) -> str:
    """Markdown, one line for each fault and outcome; the cases of several tests add up."""
    cases: dict[tuple[int, str, str], int] = {}
    for line in lines:
        entry = json.loads(line)
        key = (entry["row"], entry["fault"], entry["outcome"])
        cases[key] = cases.get(key, 0) + entry["cases"]
    rows = [f"| {fault} | {count:,} | {outcome} |" for (_, fault, outcome), count in sorted(cases.items())]
    return "\n".join(["| what was broken | cases | what came of it |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()))
