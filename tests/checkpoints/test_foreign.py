import io
import os
import pickle
import zipfile

import pytest
import torch

from resnetcli.checkpoints.foreign import load_foreign
from resnetcli.errors import CheckpointError, Interrupted
from resnetcli.events import ignore
from resnetcli.services.networks import open_network
from tests.foreign import lived_in


@pytest.fixture(scope="module", params=["identity", "projection"])
def original(request):
    return request.param, lived_in(request.param)


WRAPPINGS = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 285},
    "model": lambda s: {"model": s},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer": {"lr": 0.1}},
    "module prefix": lambda s: {f"module.{k}": v for k, v in s.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_an_imported_network_gives_the_originals_logits(tmp_path, original, wrapping):
    variant, net = original
    path = tmp_path / "resnet50_epoch285.ckpt"
    torch.save(WRAPPINGS[wrapping](net.state_dict()), path)
    checkpoint, ours = open_network(str(path), ignore)
    assert (checkpoint.kind, ours.shortcut) == ("foreign", variant)
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), net.eval()(images), rtol=1e-5, atol=1e-5)


def test_an_imported_network_trains_as_the_original_would(tmp_path, original):
    _, net = original
    torch.save(net.state_dict(), tmp_path / "x.pth")
    _, ours = open_network(str(tmp_path / "x.pth"), ignore)
    net, ours = net.double().train(), ours.double().train()
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(ours(images), net(images), rtol=1e-5, atol=1e-5)
    # The statistics that the step left behind agree too: in eval mode both still answer alike.
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), net.eval()(images), rtol=1e-5, atol=1e-5)
    net.float()


@pytest.mark.parametrize("legacy", [True, False])
def test_both_formats_of_torch_save_are_read(tmp_path, legacy):
    path = tmp_path / "x.ckpt"
    torch.save(lived_in("identity").state_dict(), path, _use_new_zipfile_serialization=not legacy)
    foreign = load_foreign(path)
    assert foreign.shortcut == "identity"
    assert not any(name.endswith("conv.bias") for name in foreign.weights)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"fc.weight": Evil()}, protocol))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt"):
        load_foreign(path)
    assert not (tmp_path / "pwned").exists()


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a checkpoint"),
        (b"hello", "not a checkpoint"),
        (saved([1, 2]), "no state_dict"),
        (saved({}), "no state_dict"),
        (saved({"fc.weight": 3}), "no state_dict"),
        (saved({"conv1.weight": torch.ones(1)}), "conv1.weight"),
        (saved(lived_in("identity").state_dict())[:-1000], "not a checkpoint"),
    ],
)
def test_what_is_no_state_dict_of_this_network_is_refused_with_a_reason(tmp_path, content, message):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_foreign(path)


HOSTILE = {
    "a view of many numbers": lambda s: {**s, "fc.bias": torch.zeros(1).expand(10**13)},
    "a sparse tensor": lambda s: {**s, "fc.weight": torch.eye(10).to_sparse()},
    "complex numbers": lambda s: {**s, "fc.weight": torch.zeros(10, 1024, dtype=torch.complex64)},
    "numbers of 8 bits": lambda s: {**s, "fc.bias": torch.zeros(10).to(torch.float8_e4m3fn)},
    "whole numbers": lambda s: {**s, "layer1.1.running_mean": torch.zeros(64, dtype=torch.int64)},
    "no place for numbers": lambda s: {**s, "fc.weight": torch.zeros(10, 1024, device="meta")},
    "too many classes": lambda s: {**s, "fc.weight": torch.zeros(200_001, 8), "fc.bias": torch.zeros(200_001)},
    "no classes": lambda s: {**s, "fc.weight": torch.zeros(0, 1024), "fc.bias": torch.zeros(0)},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_tensors_that_no_checkpoint_needs_are_refused(tmp_path, kind):
    path = tmp_path / "hostile.ckpt"
    torch.save(HOSTILE[kind](lived_in("identity").state_dict()), path)
    with pytest.raises(CheckpointError, match=r"hostile\.ckpt"):
        open_network(str(path), ignore)


def test_an_archive_that_would_unpack_to_gigabytes_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.ckpt"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x/data/0", "w", force_zip64=True) as member,
    ):
        for _ in range(1100):
            member.write(bytes(2**20))
    with pytest.raises(CheckpointError, match="has compressed entries"):
        load_foreign(path)


def test_no_message_advises_to_switch_the_safety_off(tmp_path):
    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps(Evil(), 2))
    with pytest.raises(CheckpointError) as caught:
        load_foreign(path)
    assert "weights_only" not in caught.value.message + caught.value.hint


def test_a_signal_while_a_foreign_file_is_read_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise Interrupted(15, "interrupted by SIGTERM")

    path = tmp_path / "x.ckpt"
    torch.save({"a": torch.ones(1)}, path)
    monkeypatch.setattr(torch, "load", interrupted)
    with pytest.raises(Interrupted):
        load_foreign(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_biases_of_a_half_precision_file_are_folded_in_float32(tmp_path, dtype):
    net = lived_in("identity")
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))
    torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in net.state_dict().items()}, tmp_path / "h.pt")
    _, ours = open_network(str(tmp_path / "h.pt"), ignore)
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), net.eval()(images), rtol=1e-5, atol=1e-5)


def without(state, key):
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "layer3.1.layer.1.0.weight"), "1 missing, first layer3.1.branch.1.conv.weight"),
        (lambda s: {**s, "layer2.7.layer.0.0.weight": torch.ones(1)}, "1 unknown, first layer2.7"),
        (lambda s: {**s, "fc.weight": torch.ones(10, 7)}, r"head.weight is \(10, 7\), expected \(10, 1024\)"),
    ],
)
def test_a_state_dict_that_does_not_fit_says_what_was_expected_and_found(tmp_path, change, message):
    path = tmp_path / "x.ckpt"
    torch.save(change(lived_in("identity").state_dict()), path)
    with pytest.raises(CheckpointError, match=message):
        open_network(str(path), ignore)


def test_counters_that_old_files_lack_are_no_fault(tmp_path):
    state = {k: v for k, v in lived_in("identity").state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.ckpt")
    open_network(str(tmp_path / "old.ckpt"), ignore)
