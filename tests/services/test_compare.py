import pytest
import torch

from resnetcli.checkpoints import storage
from resnetcli.checkpoints.format import encode
from resnetcli.config.commands import CompareConfig, EvaluateConfig
from resnetcli.errors import CheckpointError, UsageError
from resnetcli.events import Notice, Progress, ignore
from resnetcli.results.checkpoints import Ancestor
from resnetcli.services.checkpoints import export
from resnetcli.services.compare import compare
from resnetcli.services.evaluate import evaluate
from resnetcli.services.networks import open_network
from tests.foreign import SMALL, lived_in


def compared(a, b, on_event=ignore, **settings):
    config = CompareConfig(checkpoint_a=str(a), checkpoint_b=str(b), **settings)
    return compare(config, on_event=on_event)


def flattered(events):
    return [e.text[0] for e in events if isinstance(e, Notice) and e.warning and "will flatter" in e.text]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "resnet50_epoch285.ckpt"
    torch.save(lived_in("identity", stages=SMALL).state_dict(), path)
    return path


@pytest.fixture
def altered(run, tmp_path):
    """A portable copy of the run's best, whose header says something else of its data."""

    def make(**changes):
        checkpoint, network = open_network(str(run), ignore)
        header = checkpoint.header.model_copy(update=changes)
        storage.write_file(tmp_path / "altered.safetensors", encode(network.state_dict(), header))
        return tmp_path / "altered.safetensors"

    return make


@pytest.mark.parametrize("tta", ["none", "shift"])
def test_both_sides_are_measured_as_evaluate_measures_them(run, foreign, tta):
    result = compared(run, foreign, tta=tta)
    sides = [
        evaluate(EvaluateConfig(checkpoint=str(path), data="cifar10-mini", tta=tta), on_event=ignore)
        for path in (run, foreign)
    ]
    for side, alone in zip((result.a, result.b), sides, strict=True):
        assert (side.checkpoint, side.chosen_by) == (alone.checkpoint, alone.protocol.chosen_by)
        assert (side.top1, side.top5, side.nll, side.ece) == (
            alone.scores.top1, alone.scores.top5, alone.scores.nll, alone.scores.ece,
        )  # fmt: skip
    assert (result.data, result.split, result.tta) == ("cifar10-mini", "test", tta)
    names = [c.name for c in sides[0].scores.classes]
    expected = [
        (x.image, names[x.label], names[x.predicted], names[y.predicted])
        for x, y in zip(sides[0].answers, sides[1].answers, strict=True)
        if x.predicted != y.predicted
    ]
    assert [(d.image, d.label, d.a, d.b) for d in result.differences] == expected
    assert len(expected) > 100
    assert result.paired.only_a == sum(d.right == "A" for d in result.differences)
    assert result.paired.only_b == sum(d.right == "B" for d in result.differences)


def test_each_side_has_its_own_temperature_and_both_can_be_told_to_have_none(calibrated, foreign):
    warm, cold = compared(calibrated, foreign), compared(calibrated, foreign, calibrate=False)
    assert warm.a.temperature is not None
    assert (warm.b.temperature, cold.a.temperature) == (None, None)
    assert warm.a.nll != cold.a.nll
    assert warm.b == cold.b
    assert warm.paired == cold.paired


def test_sides_change_places_with_the_arguments(run, foreign):
    one, other = compared(run, foreign), compared(foreign, run)
    assert (one.a, one.b) == (other.b, other.a)
    assert (one.paired.only_a, one.paired.p) == (other.paired.only_b, other.paired.p)
    assert one.paired.difference.value == -other.paired.difference.value
    assert (other.data, other.paired.images) == ("cifar10-mini", 500)  # B says it where A does not know


def test_a_checkpoint_does_not_differ_from_itself_nor_from_its_portable_copy(run, tmp_path):
    export(str(run), tmp_path / "m.safetensors", force=False)
    for other in (run, tmp_path / "m.safetensors"):
        result = compared(run, other)
        assert result.differences == ()
        assert (result.paired.only_a, result.paired.only_b, result.paired.p) == (0, 0, 1.0)
        assert result.paired.better is None
        assert {c.p_holm for c in result.paired.classes} == {1.0}


def test_checkpoints_of_one_split_are_compared_on_it_without_a_warning(run, altered):
    events = []
    result = compared(run, altered(), events.append, split="val")
    assert (result.paired.images, flattered(events)) == (200, [])
    assert not result.a.may_have_seen
    assert not result.b.may_have_seen
    tasks = [e.task for e in events if isinstance(e, Progress)]
    assert (tasks[0], tasks[-1]) == ("Evaluating A on val", "Evaluating B on val")


KNOWN = {"sha256": "0f" * 32, "data": "cifar10-mini", "split_seed": 0}
FAMILY = (
    Ancestor(name="hour", val_fraction=0.1, config={"init": "first"}, **KNOWN),
    Ancestor(name="first", val_fraction=0.2, config={"init": None}, **KNOWN),
)


@pytest.mark.parametrize("changes", [{"val_fraction": 0.2}, {"config": {"init": "hour"}, "lineage": FAMILY}])
def test_a_checkpoint_none_of_whose_generations_knows_the_validation_images_is_not_named(run, altered, changes):
    events = []
    result = compared(run, altered(**changes), events.append, split="val")
    assert flattered(events) == []
    assert (result.a.may_have_seen, result.b.may_have_seen) == (False, False)


@pytest.mark.parametrize(
    "changes",
    [{"split_seed": 1}, {"split_seed": None}, {"val_fraction": 0.05}, {"val_fraction": 0.0}, {"data": "cifar10"},
     {"data": None}, {"config": {}}, {"config": {"init": "other.safetensors"}}, {"lineage": FAMILY[:1]},
     {"lineage": (FAMILY[0], FAMILY[1].model_copy(update={"split_seed": 7}))},
     {"lineage": (FAMILY[0], FAMILY[1].model_copy(update={"val_fraction": 0.05}))}],
)  # fmt: skip
def test_a_checkpoint_that_may_know_the_validation_images_is_named(run, altered, changes):
    events = []
    result = compared(run, altered(**changes), events.append, split="val")
    assert flattered(events) == ["B"]
    assert (result.a.may_have_seen, result.b.may_have_seen) == (False, True)
    assert result.paired.images == 200  # those of A's run
    assert result.differences == ()  # B is A, and answers the same images


def test_the_validation_split_is_that_of_b_where_a_held_out_none(run, foreign):
    events = []
    result = compared(foreign, run, events.append, split="val")
    assert (result.paired.images, flattered(events)) == (200, ["A"])
    assert result.b.top1 == evaluate(EvaluateConfig(checkpoint=str(run), split="val"), on_event=ignore).scores.top1


def test_on_training_images_both_are_flattered_and_on_test_images_nobody(run, foreign):
    events = []
    assert compared(run, run, events.append, split="train").paired.images == 64
    assert flattered(events) == ["A", "B"]
    events.clear()
    compared(run, foreign, events.append)
    assert flattered(events) == []


def test_a_split_that_neither_held_out_is_a_usage_error(foreign):
    events = []
    with pytest.raises(UsageError, match="held out no images"):
        compared(foreign, foreign, events.append, split="val", data="cifar10-mini")
    assert not any("may have been trained" in event.text for event in events if isinstance(event, Notice))


def test_checkpoints_of_different_classes_are_refused_and_both_named(run, tmp_path):
    state = lived_in("identity", stages=SMALL).state_dict()
    state["fc.weight"], state["fc.bias"] = state["fc.weight"][:7], state["fc.bias"][:7]
    torch.save(state, tmp_path / "seven.ckpt")
    with pytest.raises(CheckpointError) as caught:
        compared(run, tmp_path / "seven.ckpt")
    assert caught.value.exit_code == 4
    for part in ("seven.ckpt knows 7", "step-", "knows 10 classes (airplane"):
        assert part in caught.value.message
