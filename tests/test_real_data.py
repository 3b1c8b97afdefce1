"""What only all of CIFAR-10 can show."""

import pytest
import torch

from resnetcli.checkpoints.packaged import read_about
from resnetcli.config.base import DataOptions
from resnetcli.config.commands import EvaluateConfig
from resnetcli.data.augment import epoch_order
from resnetcli.data.split import stratified_split
from resnetcli.events import ignore
from resnetcli.services.dry_run import dry_run
from resnetcli.services.evaluate import evaluate
from tests.services.runs import short_config, short_run

pytestmark = pytest.mark.cifar10


def test_the_validation_split_holds_500_images_of_each_class_and_shares_none(cifar10):
    train, val = stratified_split(cifar10.train.labels, 0.1, 0)
    assert torch.bincount(cifar10.train.labels[val]).tolist() == [500] * 10
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(50_000))


def test_a_dry_run_of_the_reference_recipe_sees_all_images_in_batches_of_100(tmp_path, cifar10):
    config = short_config(
        tmp_path,
        data="cifar10",
        limit_train=None,
        val_fraction=0.0,
        batch_size=100,
        epochs=1,
        optimizer="adam",
        lr=1e-3,
    )
    result = dry_run(config, {}, on_event=ignore)
    assert (result.train_images, result.val_images, result.steps) == (50_000, 0, 500)
    assert len(epoch_order(50_000, 0, 0).unique()) == 50_000


@pytest.mark.slow
def test_a_short_run_beats_guessing_on_the_whole_test_split(tmp_path, cifar10):
    """Twelve steps of 128 images are no model yet, but half as good again as a coin with ten sides."""
    run = short_run(
        tmp_path, name="short", data="cifar10", limit_train=1536, batch_size=128, epochs=1, optimizer="muon", lr=0.08,
        precision="auto", val_fraction=0.0,
    )  # fmt: skip
    assert run.history[0].train_top1 > 0.15
    assert run.measured.scores.images == 10_000
    assert run.measured.protocol.data == DataOptions().data == "cifar10"


def test_the_packaged_weights_are_as_good_as_their_card_says():
    """Another processor rounds otherwise, which may turn the answer to an image that was a toss-up."""
    measured, stated = evaluate(EvaluateConfig(), on_event=ignore), read_about("pretrained").metrics
    assert (measured.checkpoint, measured.protocol.data, measured.protocol.split) == ("pretrained", "cifar10", "test")
    assert measured.scores.top1.value == pytest.approx(stated["test_top1"], abs=5 / 10_000)
    assert measured.scores.top5.value == pytest.approx(stated["test_top5"], abs=5 / 10_000)
    assert measured.scores.nll == pytest.approx(stated["test_nll"], abs=1e-3)
    assert measured.temperature is None
    assert measured.scores.ece == pytest.approx(0.0117, abs=1e-3)
