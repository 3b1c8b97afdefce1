"""How OpenMP's threads wait: set before torch is loaded, here and in what we start, unless the user has chosen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SHOW = "import os, resnetcli; print(*(os.environ.get(name, '-') for name in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')))"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in CHOICES}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=inherited | environment,
        cwd=Path(__file__).parents[1],
    )


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, "2000 -"),
        ({"GOMP_SPINCOUNT": "77"}, "77 -"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "- ACTIVE"),
        ({"GOMP_SPINCOUNT": "77", "OMP_WAIT_POLICY": "PASSIVE"}, "77 PASSIVE"),
    ],
)
def test_waiting_threads_spin_briefly_unless_the_user_has_chosen(chosen, expected):
    assert python(SHOW, **chosen).stdout.split() == expected.split()


@pytest.mark.skipif(sys.platform != "linux", reason="only torch's Linux wheels carry GNU OpenMP")
@pytest.mark.parametrize("module", ["resnetcli.services.train", "resnetcli.services.plain", "tests.conftest"])
def test_openmp_has_read_it_when_torch_is_loaded(module):
    """OpenMP itself says what it took over: in the tool, in the loop that `bench` starts beside it, in these tests."""
    assert "GOMP_SPINCOUNT = '2000'" in python(f"import {module}", OMP_DISPLAY_ENV="VERBOSE").stderr
