from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.runs import short_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished short run; tests read it and leave it as it is."""
    result = short_run(tmp_path_factory.mktemp("runs"), name="shared", keep_last=3)
    return Path(result.run_dir)
