import copy

import pytest
import torch
from torch import nn

from resnetcli.config.train import TrainConfig
from resnetcli.engine.averaging import EMA, Lookahead, make_average
from resnetcli.engine.schedule import Clock


def test_lookahead_pulls_the_fast_weights_back_to_the_slow_ones():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    lookahead = Lookahead(model, every=2, clock_at=lambda step: Clock(step, 100, 100))
    nn.init.ones_(model.weight)
    lookahead.update(99)
    assert model.weight.item() == 1  # not a step at which it acts
    lookahead.update(100)
    assert model.weight.item() == pytest.approx(1 - 0.95**2)
    nn.init.ones_(model.weight)
    with lookahead.applied():
        assert model.weight.item() == pytest.approx(1 - 0.95**2)
    assert model.weight.item() == 1


@pytest.mark.parametrize(("total", "share"), [(1, 1.0), (4, 1.0), (7, 0.5)])
def test_lookahead_of_a_run_shorter_than_its_period_hands_out_what_was_learned(total, share):
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    lookahead = Lookahead(model, every=5, clock_at=lambda step: Clock(step, total, total))
    for step in range(1, total):
        lookahead.update(step)
    nn.init.ones_(model.weight)
    lookahead.update(total)
    with lookahead.applied():
        assert model.weight.item() >= share


def test_lookahead_longer_than_an_epoch_acts_at_the_end_of_each():
    """or else every epoch would be judged, and stopped for want of patience, by the weights that the run began with."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    lookahead = make_average(model, TrainConfig(epochs=10, lookahead=50), 4)
    nn.init.ones_(model.weight)
    for step in range(1, 5):
        lookahead.update(step)
    with lookahead.applied():
        assert model.weight.item() == 1
    nn.init.zeros_(model.weight)
    for step in range(5, 9):
        lookahead.update(step)
    with lookahead.applied():
        assert model.weight.item() == pytest.approx(0.95**4 * (8 / 40) ** 3, rel=1e-4)  # as strong as 8 steps of 40


def test_an_exponential_moving_average_keeps_the_share_of_its_warm_up_and_then_its_decay():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = EMA(model, decay=0.5)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(1, 15):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor.normal_()
        fast = copy.deepcopy(model.state_dict())
        average.update(step)
        keep = min(0.5, (1 + step) / (10 + step))  # 2/11, 3/12, ... and from step 8 on the decay
        for name, tensor in fast.items():
            expected[name] = keep * expected[name] + (1 - keep) * tensor
        assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in fast.items())
    with average.applied():
        for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
            torch.testing.assert_close(model.state_dict()[name], expected[name])
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in fast.items())


@pytest.mark.parametrize("settings", [{"ema": 0.9}, {"lookahead": 2}])
def test_an_average_goes_on_from_the_averaged_weights_and_its_state(settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = make_average(model, TrainConfig(**settings), 100)

    def move(network):
        with torch.no_grad():
            network[0].weight.add_(1)

    for step in (1, 2, 3):
        move(model)
        average.update(step)
    with average.applied():
        checkpoint = copy.deepcopy(model.state_dict())
    resumed = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    resumed.load_state_dict(checkpoint)
    again = make_average(resumed, TrainConfig(**settings), 100)
    again.load_state({name: tensor.clone() for name, tensor in average.state().items()})
    for network, of in ((model, average), (resumed, again)):
        move(network)
        of.update(4)
    assert torch.equal(model[0].weight, resumed[0].weight)
    with average.applied(), again.applied():
        assert torch.equal(model[0].weight, resumed[0].weight)
        assert not torch.equal(model[0].weight, checkpoint["0.weight"])


def test_without_a_setting_nothing_is_averaged_and_two_averages_exclude_each_other():
    assert make_average(nn.Linear(1, 1), TrainConfig(), 10) is None
    with pytest.raises(ValueError, match=r"lookahead 5 and ema 0\.9 exclude each other"):
        TrainConfig(lookahead=5, ema=0.9)
