import pytest

from resnetcli.config.base import InferenceOptions
from resnetcli.config.commands import EvaluateConfig
from resnetcli.errors import UsageError
from resnetcli.events import ignore
from resnetcli.services import machine
from resnetcli.services.machine import FILE


def runtime_for(threads, precision, cache_dir, on_event=ignore, **settings):
    config = EvaluateConfig(device="cpu", threads=threads, precision=precision, cache_dir=cache_dir, **settings)
    return machine.runtime_for(config, on_event)


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
    assert runtime_for(0, "auto", tmp_path).precision == "bf16"
    assert runtime_for(0, "auto", tmp_path).precision == "bf16"
    assert measured == [2.0]


def test_another_number_of_threads_is_measured_on_its_own(measured, tmp_path):
    before = machine.torch.get_num_threads()
    try:
        runtime_for(1, "auto", tmp_path)
        assert runtime_for(2, "auto", tmp_path, allow_oversubscription=True).precision == "fp32"
        assert len(measured) == 2
    finally:
        machine.torch.set_num_threads(before)


def test_what_is_said_needs_no_measurement(measured, tmp_path):
    assert runtime_for(0, "fp32", tmp_path).precision == "fp32"
    assert not measured
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("damage", ["", "{", '{"bf16_gain": {"x": "fast"}}', "[]"])
def test_a_damaged_memory_is_measured_anew_and_mended(measured, tmp_path, damage):
    (tmp_path / FILE).write_text(damage)
    assert runtime_for(0, "auto", tmp_path).precision == "bf16"
    runtime_for(0, "auto", tmp_path)
    assert len(measured) == 1


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_measurement(measured, tmp_path):
    (tmp_path / "file").write_text("")
    assert runtime_for(0, "auto", tmp_path / "file").precision == "bf16"


def test_bf16_that_is_said_is_held_against_the_same_memory(measured, tmp_path):
    assert runtime_for(0, "bf16", tmp_path).precision == "bf16"
    assert measured == [2.0]
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace("2.0", "0.03"))
    with pytest.raises(UsageError, match="about 33 times slower"):
        runtime_for(0, "bf16", tmp_path)
    assert runtime_for(0, "bf16", tmp_path, allow_slow=True).precision == "bf16"
    assert measured == [2.0]


@pytest.mark.parametrize(
    ("asked", "chosen", "allowed", "taken", "said"),
    [
        (2, 1, False, 2, ""),
        (3, 1, False, 3, ""),
        (4, 1, False, 3, "threads 4: this process may use 3 CPUs, and takes as many threads"),
        (4096, 1, False, 3, "(--allow-oversubscription takes 4096)"),
        (4, 1, True, 4, "4 threads on the 3 CPUs that this process may use: this will be slow"),
        (0, 2, False, 2, ""),
        (0, 4, False, 3, ""),  # what torch chooses where it does not see the quota of a container
        (0, 4, True, 4, "4 threads on the 3 CPUs"),
    ],
)
def test_there_are_never_more_threads_than_usable_cpus_unless_it_is_allowed(
    monkeypatch, asked, chosen, allowed, taken, said
):
    threads = [chosen]
    monkeypatch.setattr(machine, "usable_cpus", lambda: 3)
    monkeypatch.setattr(machine.torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(machine.torch, "set_num_threads", threads.append)
    notices = []
    config = InferenceOptions(device="cpu", threads=asked, allow_oversubscription=allowed)
    assert machine.runtime_for(config, notices.append).threads == taken
    assert [said in notice.text and notice.warning for notice in notices] == [True] * bool(said)
