import pytest
import torch

from resnetcli.engine.runtime import (
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
