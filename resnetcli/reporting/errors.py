"""How an expected error looks: two lines for people, one document for programs."""

from __future__ import annotations

import json

from rich.console import Console
from rich.text import Text

from resnetcli.errors import Expected, Interrupted
from resnetcli.reporting.progress import print_line
from resnetcli.results.base import SCHEMA_VERSION


def render_error(error: Expected, console: Console) -> None:
    """Print `error: message` and, where there is one, `hint: …` on the next line. To stop as asked is no error."""
    label = ("stopped: ", "bold yellow") if isinstance(error, Interrupted) else ("error: ", "bold red")
    print_line(Text.assemble(label, error.message), console)
    if error.hint:
        print_line(Text.assemble(("hint: ", "bold"), error.hint), console)


def error_json(error: Expected) -> str:
    """The error as the one JSON document of a command that was asked for `--json`; ends with a newline."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "error": {
            "kind": error.kind,
            "exit_code": error.exit_code,
            "message": error.message,
            "hint": error.hint,
        },
    }
    return json.dumps(document, indent=2) + "\n"
