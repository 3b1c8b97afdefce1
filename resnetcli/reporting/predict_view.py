"""Predictions, one picture a row."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from resnetcli.reporting import text
from resnetcli.reporting.layout import simple_table
from resnetcli.reporting.scores_view import VIEWS
from resnetcli.results.predict import PredictResult

BAR_WIDTH = 10
PATH_WIDTH = 36
"""Of a longer path the end is shown: there the name is. JSON and CSV have all of it."""


def predictions_table(result: PredictResult) -> Group:
    """The answers, then how many pictures there were and how many failed."""
    table = simple_table()
    table.add_column("picture", overflow="fold", ratio=1)
    table.add_column("top guess", overflow="fold")
    table.add_column("", no_wrap=True, width=BAR_WIDTH)
    table.add_column("", justify="right", no_wrap=True)
    runners_up = any(len(p.guesses) > 1 for p in result.predictions)
    if runners_up:
        table.add_column("then", overflow="fold")
    for prediction in result.predictions:
        notes = Text()
        for notice in prediction.notices:
            notes.append(f"\n{notice}", style="yellow")
        if prediction.error is not None:
            notes = Text(f"\n{prediction.error}", style="red")
        cells: list[RenderableType] = [Text.assemble(text.ending(prediction.path, PATH_WIDTH), notes)]
        if prediction.error is not None:
            cells += [Text("failed", style="bold red"), "", ""]
        elif prediction.guesses:
            top, *others = prediction.guesses
            cells += [
                Text(top.label, style="bold"),
                Text(text.bar(top.probability, BAR_WIDTH), style="green"),
                text.percent(top.probability, 1),
            ]
            if runners_up:
                others_text = ", ".join(f"{guess.label} {text.percent(guess.probability, 1)}" for guess in others)
                cells.append(Text(others_text, style="dim"))
        table.add_row(*cells)
    return Group(table, _summary(result))


def _summary(result: PredictResult) -> Text:
    answered = len(result.predictions) - result.failed
    tta = f", the mean over {VIEWS[result.tta]}" if result.tta in VIEWS else ""
    stated = "" if result.test_top1 is None else f" (test top-1 {text.percent(result.test_top1)})"
    summary = Text(f"{text.plural(answered, 'picture')} classified with {result.checkpoint}{stated}{tta}", style="dim")
    if result.failed:
        summary.append(f"; {result.failed} failed", style="bold red")
    return summary
