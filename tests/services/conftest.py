from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.runs import short_run
from tests.small import small_network


@pytest.fixture(autouse=True)
def network_of_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """The small network, but for tests marked `whole_network`."""
    if request.node.get_closest_marker("whole_network"):
        yield
    else:
        with small_network():
            yield


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished short run of the small network; tests read it and leave it as it is."""
    with small_network():
        result = short_run(tmp_path_factory.mktemp("runs"), name="shared", keep_last=3)
    return Path(result.run_dir)
