"""Runs the fuzzer; any other exception than an expected error fails the test and shows the input."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Broke
from tests.faults.fuzz import fuzz

EXECUTIONS = {"checkpoints": (2000, 50_000), "images": (500, 10_000)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "executions"),
    [
        pytest.param(target, count, marks=pytest.mark.full if full else ())
        for target, counts in EXECUTIONS.items()
        for full, count in enumerate(counts)
    ],
)
def test_a_parser_gives_a_result_or_an_expected_error(target: str, executions: int, broke: Broke) -> None:
    fuzzed = fuzz(target, executions)
    assert fuzzed.corpus > 2 * 9  # it found its way to more than its seeds show
    assert fuzzed.branches > 300
    broke(
        8 if target == "checkpoints" else 13,
        f"coverage-guided fuzzing of the parsers of {target}",
        executions,
        "a result or an expected error, never another",
    )


def test_the_fuzzer_finds_what_is_not_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above could not fail."""

    def broken(path: object, size: int = 32) -> None:
        raise IndexError("a bug")

    monkeypatch.setattr("resnetcli.data.images.decode", broken)
    with pytest.raises(IndexError) as caught:
        fuzz("images", 3)
    assert caught.value.__notes__[0].startswith("the input: b")
