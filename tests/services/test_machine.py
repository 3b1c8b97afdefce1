import pytest

from resnetcli.errors import UsageError
from resnetcli.services import machine
from resnetcli.services.machine import FILE, runtime_for


@pytest.fixture
def measured(monkeypatch):
    """The gains that a measurement finds, one after the other, and how often one was made."""
    gains, calls = [2.0, 0.5], []

    def measure():
        calls.append(gains[len(calls)])
        return calls[-1]

    monkeypatch.setattr(machine, "measure_bf16_gain", measure)
    return calls


def test_a_measurement_is_made_once_and_remembered(measured, tmp_path):
    assert runtime_for("cpu", 0, "auto", tmp_path).precision == "bf16"
    assert runtime_for("cpu", 0, "auto", tmp_path).precision == "bf16"
    assert measured == [2.0]


def test_another_number_of_threads_is_measured_on_its_own(measured, tmp_path):
    before = machine.torch.get_num_threads()
    try:
        runtime_for("cpu", 1, "auto", tmp_path)
        assert runtime_for("cpu", 2, "auto", tmp_path).precision == "fp32"
        assert len(measured) == 2
    finally:
        machine.torch.set_num_threads(before)


def test_what_is_said_needs_no_measurement(measured, tmp_path):
    assert runtime_for("cpu", 0, "fp32", tmp_path).precision == "fp32"
    assert not measured
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("damage", ["", "{", '{"bf16_gain": {"x": "fast"}}', "[]"])
def test_a_damaged_memory_is_measured_anew_and_mended(measured, tmp_path, damage):
    (tmp_path / FILE).write_text(damage)
    assert runtime_for("cpu", 0, "auto", tmp_path).precision == "bf16"
    runtime_for("cpu", 0, "auto", tmp_path)
    assert len(measured) == 1


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_measurement(measured, tmp_path):
    (tmp_path / "file").write_text("")
    assert runtime_for("cpu", 0, "auto", tmp_path / "file").precision == "bf16"


def test_bf16_that_is_said_is_held_against_the_same_memory(measured, tmp_path):
    assert runtime_for("cpu", 0, "bf16", tmp_path).precision == "bf16"
    assert measured == [2.0]
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace("2.0", "0.03"))
    with pytest.raises(UsageError, match="about 33 times slower"):
        runtime_for("cpu", 0, "bf16", tmp_path)
    assert runtime_for("cpu", 0, "bf16", tmp_path, allow_slow=True).precision == "bf16"
    assert measured == [2.0]
