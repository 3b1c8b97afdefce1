"""`did you mean …?`, worded once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str]) -> str:
    """`: did you mean X?` for the nearest known word; nothing where none is near."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {nearest[0]}?" if nearest else ""
