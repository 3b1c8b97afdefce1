"""`did you mean …?`, worded and decided once.

A suggestion is made for a slip of the fingers, an abbreviation or a longer form of the same word, and for nothing that
merely shares letters: a wrong one costs more than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PREFIXES = re.compile(r"^(--|RESNETCLI_)")
"""What all words of a kind have in common says nothing of how near two of them are."""
MIN_LETTERS = 3
"""Of an abbreviation, and of the word that a longer form begins with."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """`: did you mean X?` for the known word that was meant; nothing where none is near enough."""
    meant = nearest(word, known)
    return f": did you mean {meant}?" if meant else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` is a slip, an abbreviation or a longer form of; None where there is none.

    A slip leaves the digits: `fp16` is not `bf16`, and `cifar100` not `cifar10`.
    """
    plain = _plain(word)
    slips: list[tuple[int, bool, str]] = []
    relatives: list[tuple[int, str]] = []
    for one in known:
        other = _plain(one)
        same_digits = sorted(re.findall(r"\d", plain)) == sorted(re.findall(r"\d", other))
        if same_digits and (steps := distance(plain, other)) <= _allowed(len(plain)):
            slips.append((steps, sorted(plain) != sorted(other), one))  # letters that changed places before others
        elif min(len(plain), len(other)) >= MIN_LETTERS and _begins(plain, other):
            relatives.append((abs(len(other) - len(plain)), one))
    if slips:
        return min(slips)[2]
    return min(relatives)[1] if relatives else None


def _begins(a: str, b: str) -> bool:
    """Whether one of two words is the beginning of the other; a number is whole or another one."""
    shorter, longer = sorted((a, b), key=len)
    return longer.startswith(shorter) and not shorter[-1].isdigit()


def distance(a: str, b: str) -> int:
    """Letters to insert, delete or replace, and neighbours to swap, from `a` to `b` (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, last, row = row, before, [i]
        for j, y in enumerate(b, start=1):
            steps = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                steps = min(steps, last[j - 2] + 1)
            row.append(steps)
    return row[-1]


def _allowed(letters: int) -> int:
    """Slips in a word of so many letters."""
    return 0 if letters < MIN_LETTERS else 1 if letters < 6 else 2


def _plain(word: str) -> str:
    return re.sub(r"[-_. ]", "", PREFIXES.sub("", word[:100])).casefold()
