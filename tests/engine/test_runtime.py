import pytest
import torch

from resnetcli.engine import runtime as module
from resnetcli.engine.runtime import (
    measure_bf16_gain,
    peak_memory,
    processor_name,
    resolve_device,
    resolve_runtime,
    versions,
)
from resnetcli.errors import UsageError


def test_a_device_that_is_not_there_is_a_usage_error_that_says_what_is():
    with pytest.raises(UsageError, match="cuda:63"):
        resolve_device("cuda:63")


def test_auto_always_finds_a_device():
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")


def test_asked_for_threads_and_precision_are_taken():
    before = torch.get_num_threads()
    try:
        runtime = resolve_runtime("cpu", 1, "bf16", allow_slow=True)
        assert (runtime.threads, runtime.precision, torch.get_num_threads()) == (1, "bf16", 1)
        with runtime.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    finally:
        torch.set_num_threads(before)


def test_auto_precision_is_one_that_training_knows():
    assert resolve_runtime("cpu", 0, "auto").precision in ("fp32", "bf16")


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a test says so."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def costs(clock, fp32, bf16):
    """Work that takes so long in either precision, and how often it was done."""
    done = []

    def work(dtype):
        done.append(dtype)
        clock[0] += bf16 if dtype == torch.bfloat16 else fp32

    return work, done


def test_emulated_bf16_is_known_by_a_small_product(clock, monkeypatch):
    monkeypatch.setattr(module, "_small_product", costs(clock, 1.0, 33.0)[0])
    large, done = costs(clock, 1.0, 75.0)
    monkeypatch.setattr(module, "_convolution_and_product", large)
    assert measure_bf16_gain() == pytest.approx(1 / 33)
    assert not done


@pytest.mark.parametrize("gain", [0.4, 1.0, 4.0])
def test_where_a_small_product_is_about_as_fast_the_network_s_own_work_decides(clock, monkeypatch, gain):
    monkeypatch.setattr(module, "_small_product", costs(clock, 1.0, 2.9)[0])
    monkeypatch.setattr(module, "_convolution_and_product", costs(clock, gain, 1.0)[0])
    assert measure_bf16_gain() == pytest.approx(gain)


def test_bf16_that_the_processor_emulates_is_refused_with_the_ratio_unless_it_is_allowed():
    with pytest.raises(UsageError, match="bf16 is about 30 times slower than fp32 on this processor") as caught:
        resolve_runtime("cpu", 0, "bf16", lambda: 1 / 30)
    assert "--allow-slow" in caught.value.hint
    assert resolve_runtime("cpu", 0, "bf16", lambda: 1 / 30, allow_slow=True).precision == "bf16"
    assert resolve_runtime("cpu", 0, "bf16", lambda: 0.5).precision == "bf16"
    assert resolve_runtime("cpu", 0, "auto", lambda: 1 / 30).precision == "fp32"


def test_the_record_of_a_machine_names_what_repetition_depends_on():
    record = versions(resolve_runtime("cpu", 0, "fp32"))
    assert record["torch"] == torch.__version__
    assert record["threads"] == str(torch.get_num_threads())
    assert peak_memory(torch.device("cpu")) > 50 * 2**20


def test_the_name_of_the_processor_is_read_or_replaced(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast 9000: two cores\nmodel name\t: other\n")
    assert processor_name(cpuinfo) == "Fast 9000: two cores"
    assert processor_name(tmp_path / "none")
