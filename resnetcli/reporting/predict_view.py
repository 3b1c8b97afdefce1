"""Predictions, one line for each picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.text import Text

from resnetcli.reporting import text
from resnetcli.reporting.scores_view import VIEWS
from resnetcli.results.predict import Guess, NoticeKind, Prediction, PredictResult

GAP = 3
BAR = 10
NARROWER = ((6, 24), (0, 16), (0, 8))
"""Where there is no room: the width of the bar, and to what a path may be shortened, by turns."""

SURE, UNSURE = 0.9, 0.5
"""Answers above the one stand out; those below the other, more likely wrong than right, stand back."""

STRANGE_STYLE = "yellow"
"""For nothing else: a picture unlike those the checkpoint knows."""

NOTED: dict[NoticeKind, str] = {
    "cropped": "cropped to the middle square and resized to {size}",
    "resized": "resized to {size}",
    "upright": "turned upright",
    "colours": "converted to RGB or put on white",
    "first_frame": "of several frames or pages: the first was taken",
    "metadata": "with damaged EXIF data: ignored",
}


@dataclass(frozen=True)
class _Widths:
    """Columns of the parts of a line; 0: it has none."""

    path: int
    label: int
    bar: int
    percent: int
    then: int

    @property
    def answer(self) -> int:
        """Of label, bar and probability."""
        parts = [part for part in (self.bar, self.percent) if part]
        return self.label + (GAP + sum(parts) + len(parts) - 1 if parts else 0)

    @property
    def line(self) -> int:
        return self.path + GAP + self.answer + (GAP + self.then if self.then else 0)


class PredictionsTable:
    """The answers, then how many pictures there were, how many failed, and what was done to them first.

    On a terminal a long path loses its beginning and further classes go on in the next line, and no number is broken;
    elsewhere nothing is cut off or broken, however long a line becomes.
    """

    def __init__(self, result: PredictResult) -> None:
        self.result = result

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        terminal = options.is_terminal
        widths = _widths(self.result, options.max_width if terminal else None)
        yield _whole(_line(widths, ("picture", "bold"), ("top guess", "bold"), then=("then", "bold")))
        yield _whole(Text("─" * widths.line))
        for prediction in self.result.predictions:
            for line in _lines(prediction, widths, _is_strange(prediction, self.result)):
                yield _whole(line)
            if prediction.error is not None:
                reason = Text(text.escaped(prediction.error.removeprefix(f"{prediction.path}: ")), style="red")
                yield Padding(reason, (0, 0, 0, 2), expand=False) if terminal else _whole(Text("  ") + reason)
        for line in _footer(self.result):
            yield line if terminal else _whole(line)


def _whole(line: Text) -> Text:
    line.no_wrap, line.overflow = True, "ignore"
    return line


def _widths(result: PredictResult, room: int | None) -> _Widths:
    """Whole columns where there is room for them (None: there always is)."""
    answers = [p.guesses for p in result.predictions if p.guesses]
    labels = [cell_len(guesses[0].label) for guesses in answers]
    others = [[cell_len(_other(guess)) for guess in guesses[1:]] for guesses in answers if guesses[1:]]
    marked = any(_is_strange(p, result) for p in result.predictions)
    path = max((cell_len(text.escaped(p.path)) for p in result.predictions), default=0)
    whole = _Widths(
        path=max(path, len("picture")),
        label=max([*labels, len("top guess")]),
        bar=BAR if answers else 0,
        percent=max((len(_percent(g[0], False)) for g in answers), default=0) + (2 if marked else 0),
        then=max((sum(widths) + 2 * (len(widths) - 1) for widths in others), default=0),
    )
    if room is None or whole.line <= room:
        return whole
    least = max((max(widths) for widths in others), default=0) + 1  # the comma
    for bar, path in NARROWER:
        fixed = _Widths(0, whole.label, min(bar, whole.bar), whole.percent, 0)
        for then in dict.fromkeys((whole.then, min(whole.then, least))):
            left = room - fixed.line - (GAP + then if then else 0)
            if left >= min(path, whole.path):
                path = min(left, whole.path)
                spare = left - path if then else 0
                return _Widths(path, fixed.label, fixed.bar, fixed.percent, min(then + spare, whole.then))
    return _Widths(max(1, min(whole.path, room - fixed.line)), fixed.label, fixed.bar, fixed.percent, 0)


def _lines(prediction: Prediction, widths: _Widths, strange: bool) -> list[Text]:
    """The answer; a second line and further ones hold the classes for which the first has no room."""
    path = text.ending(text.escaped(prediction.path), widths.path), ""
    if prediction.error is not None:
        return [_line(widths, path, ("failed", "bold red"))]
    top, *others = prediction.guesses
    share = top.probability
    style = STRANGE_STYLE if strange else "bold" if share >= SURE else "dim" if share < UNSURE else ""
    bar = STRANGE_STYLE if strange else "bold green" if share >= SURE else "dim" if share < UNSURE else "green"
    first, *more = _packed([_other(guess) for guess in others], widths.then) or [""]
    lines = [
        _line(
            widths,
            path,
            (top.label, style),
            bar=(text.bar(share, widths.bar), bar),
            percent=(_percent(top, strange), style),
            then=(first, "dim"),
        )
    ]
    return lines + [_line(widths, ("", ""), ("", ""), then=(line, "dim")) for line in more]


def _line(
    widths: _Widths,
    path: tuple[str, str],
    label: tuple[str, str],
    *,
    bar: tuple[str, str] = ("", ""),
    percent: tuple[str, str] = ("", ""),
    then: tuple[str, str] = ("", ""),
) -> Text:
    """Texts with their styles, each in its place."""
    line = Text()
    start = 0
    for width, gap, (content, style) in (
        (widths.path, 0, path),
        (widths.label, GAP, label),
        (widths.bar, GAP, bar),
        (widths.percent, 1 if widths.bar else GAP, percent),
        (widths.then, GAP, then),
    ):
        if width:
            start += gap
            line.pad_right(start - line.cell_len)
            line.append(content, style)
            start += width
    line.rstrip()
    return line


def _packed(entries: list[str], width: int) -> list[str]:
    """As many of the entries in each line as it holds, none broken; none at all where there is no room for one."""
    lines: list[str] = []
    for entry in entries if width else ():
        if lines and cell_len(f"{lines[-1]} {entry},") <= width + (entry is entries[-1]):
            lines[-1] += f" {entry},"
        else:
            lines.append(f"{entry},")
    return [*lines[:-1], lines[-1].removesuffix(",")] if lines else []


def _other(guess: Guess) -> str:
    return f"{guess.label} {text.percent(guess.probability, 1)}"


def _percent(guess: Guess, strange: bool) -> str:
    return f"{100 * guess.probability:5.1f} %" + (" !" if strange else "")


def _is_strange(prediction: Prediction, result: PredictResult) -> bool:
    far, known = prediction.strangeness, result.strangeness_threshold
    return far is not None and known is not None and far > known


def _footer(result: PredictResult) -> list[Text]:
    answered = [p for p in result.predictions if p.error is None]
    tta = f", the mean over {VIEWS[result.tta]}" if result.tta in VIEWS else ""
    stated = "" if result.test_top1 is None else f" (test top-1 {text.percent(result.test_top1)})"
    pictures = text.plural(len(answered), "picture")
    summary = Text(f"{pictures} classified with {result.checkpoint}{stated}{tta}", style="dim")
    if result.failed:
        summary.append(f"; {result.failed} failed", style="bold red")
    if result.interrupted:
        summary.append("; interrupted before the others", style="bold red")
    footer = [summary]
    kinds = Counter(kind for p in answered for kind in p.notice_kinds)
    size = f"{result.image_size}×{result.image_size}"
    noted = [f"{kinds[kind]:,} {NOTED[kind].format(size=size)}" for kind in NOTED if kinds[kind]]
    if len(answered) == 1:  # a single picture has room for what exactly was done
        (only,) = answered
        pairs = zip(only.notices, only.notice_kinds, strict=True)
        noted = [notice for notice, kind in pairs if kind != "out_of_distribution"]
    if noted:
        footer.append(Text("; ".join(noted), style="dim"))
    if strange := sum(_is_strange(p, result) for p in answered):
        pictures = "a picture" if strange == 1 else "pictures"
        line = f"! {text.plural(strange, 'answer')} may mean nothing: {pictures} unlike those the checkpoint knows"
        footer.append(Text(f"{line} (strangeness over {result.strangeness_threshold:.1f})", style=STRANGE_STYLE))
    return footer
