from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resnetcli.checkpoints.format import encode
from resnetcli.checkpoints.manager import best_first, read_model
from resnetcli.results.checkpoints import Calibration
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


@pytest.fixture(scope="session")
def calibrated(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portable copy of `run` that has a temperature, which so short a run does not earn."""
    weights, header = read_model(best_first(run)[0])
    path = tmp_path_factory.mktemp("calibrated") / "calibrated.safetensors"
    known = Calibration(temperature=10, images=200, gain=0.1, gain_error=0.01)
    path.write_bytes(encode(weights, header.model_copy(update={"calibration": known})))
    return path
