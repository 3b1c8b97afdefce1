"""Numbers and strings as people read them. Every glyph here has a one-character ASCII substitute in `console`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from rich.cells import cell_len

from resnetcli.results.base import Interval

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_ESCAPES |= {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(128, 256)}  # as `os.fsdecode` marks them
_EIGHTHS = "▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"


_JOINERS = "\u200c\u200d"
"""Without width, and yet part of how words of some scripts, and composed emoji, are spelt."""
_COUNT_SIGNS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
"""Signs around a number that Unicode counts among the format characters, and that have a shape."""


class _Visible(dict[int, int | str]):
    """What to show for a character, by code point; one at a time, since a table of all would cost 0.1 s."""

    def __missing__(self, code: int) -> int | str:
        letter = chr(code)
        shown = letter in f"\n{_JOINERS}{_COUNT_SIGNS}" or unicodedata.category(letter) not in ("Cc", "Cf", "Zl", "Zp")
        self[code] = code if shown else "?"
        return self[code]


_VISIBLE = _Visible()


def visible(text: str) -> str:
    """The text with "?" for each character that speaks to the terminal or cannot be seen: control characters but the
    end of a line, other separators of lines, marks that turn the direction of writing, tags and their like."""
    return text.translate(_VISIBLE)


def duration(seconds: float) -> str:
    """Seconds as "85 ms", "3.2 s", "2m 31s", "1h 02m" or "3d 04h"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def size(bytes_: float) -> str:
    """Bytes as B, KiB, MiB or GiB, three or four digits."""
    if abs(bytes_) < 1024:
        return f"{bytes_:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        bytes_ /= 1024
        if abs(bytes_) < 1024 or unit == "GiB":
            break
    return f"{bytes_:,.1f} {unit}"


def count(number: int) -> str:
    """An integer with thousands separators."""
    return f"{number:,}"


def millions(number: int) -> str:
    """A large integer as "8.88 M"; below ten thousand as it is."""
    if number < 10_000:
        return f"{number:,}"
    if number < 1_000_000:
        return f"{number / 1e3:.1f} k"
    if number < 1_000_000_000:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e9:.2f} G"


def percent(share: float, digits: int = 2) -> str:
    """A fraction as "83.41 %"."""
    return f"{100 * share:.{digits}f} %"


def interval(value: Interval, digits: int = 2) -> str:
    """The ends of an interval as "82.67–84.13 %"."""
    return f"{100 * value.low:.{digits}f}–{100 * value.high:.{digits}f} %"


def points(share: float) -> str:
    """A difference of two fractions in percentage points, as "+1.20"."""
    shown = f"{100 * share:+.2f}"
    return "0.00" if float(shown) == 0 else shown


def p_value(p: float) -> str:
    """ "p = 0.42", "p = 0.0003", "p = 4e-21"; one too small for a float as "p < 1e-300"."""
    if p < 1e-300:
        return "p < 1e-300"
    if p < 1e-4:
        return f"p = {p:.0e}"
    digits = 2 if p >= 0.1 else 3 if p >= 0.001 else 4
    return f"p = {p:.{digits}f}"


def shape(dimensions: Sequence[int]) -> str:
    """Dimensions as "64×8×8"."""
    return "×".join(str(d) for d in dimensions)


_UNBROKEN = re.compile(
    r"`[^`]*`\S*"  # a command, to be copied
    r"|(?<=: )resnetcli .*$"  # the same, at the end of a message
    r"|[\d.,]+ (?:%|ms|s|min|m|h|B|KiB|MiB|GiB|images/s)(?=[\s.,;:)]|$)\S*"  # a number and its unit
    r"|\S+"
)


def wrapped(line: str, width: int) -> list[str]:
    """The line in parts of at most `width` characters, cut between words; a number keeps its unit, and a command is not
    cut. What is longer than `width` by itself stays whole."""
    parts, start, end = list[str](), 0, 0
    for match in _UNBROKEN.finditer(line):
        if end and match.end() - start > width:
            parts.append(line[start:end])
            start = match.start()
        end = match.end()
    return [*parts, line[start:end]]


def ending(line: str, width: int) -> str:
    """The line, or of one of more columns its last characters behind an ellipsis, `width` columns at most."""
    if cell_len(line) <= width:
        return line
    start = len(line)
    while start and cell_len(line[start - 1 :]) < width:
        start -= 1
    return "…" + line[start:]


def escaped(name: str) -> str:
    """A file's name on one line: bytes that are no text, line ends and other control characters as "\\xe9"."""
    return name.translate(_ESCAPES)


def bar(share: float, width: int) -> str:
    """A bar of `width` characters, filled to `share` in eighths of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest - 1] if rest else "")).ljust(width)


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """One character per value between the least and the greatest.

    A longer series is thinned to `width` characters and keeps its last value. A value that is missing or not finite
    leaves a gap.
    """
    if len(values) > width:
        values = [values[(i + 1) * len(values) // width - 1] for i in range(width)]
    known = [v for v in values if v is not None and abs(v) < float("inf")]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(_LEVELS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        _LEVELS[round((v - low) * scale)] if v is not None and abs(v) < float("inf") else " " for v in values
    )


def plural(number: int, noun: str) -> str:
    """A count and its noun: "1 image", "2 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
