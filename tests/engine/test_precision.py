import pytest
import torch

from resnetcli.engine import precision as module
from resnetcli.engine.precision import measure_bf16_gain


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
