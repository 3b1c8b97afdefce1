import pytest
import torch

from resnetcli.config.commands import InspectConfig
from resnetcli.events import ignore
from resnetcli.services.inspect import inspect
from tests.foreign import lived_in


@pytest.mark.whole_network
@pytest.mark.parametrize(
    ("shortcut", "convolutions", "parameters", "mmacs"),
    [("identity", 45, 8_882_762, 59.16), ("projection", 53, 14_728_266, 92.7)],
)
def test_the_figures_of_the_specification_come_out(shortcut, convolutions, parameters, mmacs):
    result = inspect(InspectConfig(shortcut=shortcut), on_event=ignore)
    assert (result.convolutions, result.parameters, result.trainable_parameters) == (
        convolutions,
        parameters,
        parameters,
    )
    assert result.conv_macs / 1e6 == pytest.approx(mmacs, abs=0.05 if shortcut == "projection" else 0.005)
    assert result.macs - result.conv_macs == 10_240
    assert result.flops == 2 * result.macs
    assert result.parameter_bytes == 4 * parameters
    if shortcut == "identity":
        assert result.buffer_elements == 32_173


def test_a_checkpoint_is_described_with_where_it_came_from(run):
    result = inspect(InspectConfig(checkpoint=str(run)), on_event=ignore)
    info = result.checkpoint
    assert (info.kind, info.recipe, info.data, info.chosen_by) == ("run", "fast", "cifar10-mini", "val")
    assert info.metrics["val_top1"] > 0
    assert {f.name for f in info.files} == {"model.safetensors", "trainer.safetensors"}
    assert info.versions["torch"] == torch.__version__
    assert info.calibration is None, "so short a run earns no temperature"
    assert 2 < info.strangeness_threshold < 10


def test_a_temperature_is_described_with_what_it_was_fitted_on(calibrated):
    known = inspect(InspectConfig(checkpoint=str(calibrated)), on_event=ignore).checkpoint.calibration
    assert (known.temperature, known.images, known.split) == (10, 200, "val")


@pytest.mark.whole_network
def test_without_checkpoint_and_variant_the_packaged_weights_are_described():
    result = inspect(InspectConfig(), on_event=ignore)
    assert (result.checkpoint.path, result.checkpoint.kind) == ("pretrained", "packaged")
    assert result.checkpoint.metrics["test_top1"] > 0.5
    bare = inspect(InspectConfig(shortcut=result.shortcut), on_event=ignore)
    assert bare.checkpoint is None
    assert bare.layers == result.layers


@pytest.mark.whole_network
def test_a_foreign_checkpoint_shows_its_variant(tmp_path):
    torch.save(lived_in("projection").state_dict(), tmp_path / "p.ckpt")
    result = inspect(InspectConfig(checkpoint=str(tmp_path / "p.ckpt"), batch_size=4), on_event=ignore)
    assert (result.shortcut, result.parameters, result.checkpoint.kind) == ("projection", 14_728_266, "foreign")
    assert result.input_shape == (4, 3, 32, 32)
