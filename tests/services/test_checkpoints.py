import hashlib
import shutil

import pytest
import torch

from resnetcli.checkpoints import packaged
from resnetcli.checkpoints.format import read_header
from resnetcli.checkpoints.manager import best_first
from resnetcli.checkpoints.portable import without_places
from resnetcli.config.base import PRETRAINED
from resnetcli.errors import CheckpointError, UsageError
from resnetcli.events import ignore
from resnetcli.services.checkpoints import export, list_run, prune, show, verify
from resnetcli.services.networks import open_network


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def test_a_run_lists_its_checkpoints_with_best_and_last_marked(run):
    infos = list_run(run).checkpoints
    assert [i.step for i in infos] == [0, 4, 8]
    assert [i.last for i in infos] == [False, False, True]
    best = max(infos, key=lambda i: i.metrics.get("val_top1", 0))
    assert [i.best for i in infos] == [i is best for i in infos]


def test_damage_is_a_problem_of_list_and_verify_and_hides_no_other_checkpoint(copy):
    file = copy / "checkpoints" / "step-0000004" / "trainer.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    for result in (list_run(copy), verify(str(copy))):
        assert [i.step for i in result.checkpoints] == [0, 8]
        assert "step-0000004" in result.problems[0].message
    alone = verify(str(file.parent))
    assert "trainer.safetensors" in alone.problems[0].message


def test_an_intact_run_checkpoint_and_portable_file_verify(run, tmp_path):
    export(str(run), tmp_path / "m.safetensors", force=False)
    for target in (run, run / "checkpoints" / "step-0000008", tmp_path / "m.safetensors"):
        result = verify(str(target))
        assert not result.problems
        assert result.checkpoints


def test_verify_says_what_is_wrong_with_anything_else(tmp_path):
    (tmp_path / "x.ckpt").write_text("hello")
    assert "x.ckpt" in verify(str(tmp_path / "x.ckpt")).problems[0].message
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        verify(str(tmp_path / "none"))


def test_prune_keeps_the_best_and_the_newest_and_a_dry_run_keeps_all(copy):
    best = next(i.path for i in list_run(copy).checkpoints if i.best)
    would = prune(copy, keep_last=1, dry_run=True).removed
    assert len(list_run(copy).checkpoints) == 3
    result = prune(copy, keep_last=1, dry_run=False)
    assert result.removed == would
    assert best in [i.path for i in result.checkpoints]
    assert result.checkpoints[-1].last


def test_a_portable_copy_carries_everything_a_user_must_know(run, tmp_path):
    out = tmp_path / "portable.safetensors"
    assert export(str(run), out, force=False).written == str(out)
    original, copied = (open_network(str(p), ignore)[0].header for p in (run, out))
    assert copied == without_places(original)
    assert copied.config["lr"] == original.config["lr"]
    assert copied.calibration is not None
    assert copied.appearance is not None
    assert copied.chosen_by == "val"
    assert copied.class_names[0] == "airplane"
    info = show(str(out)).checkpoints[0]
    assert (info.kind, info.recipe) == ("portable", "fast")


def test_no_path_of_this_machine_travels_in_a_portable_copy(run, tmp_path):
    export(str(run), tmp_path / "portable.safetensors", force=False)
    header = read_header(tmp_path / "portable.safetensors")["resnetcli"]
    assert str(run.parent) in read_header(best_first(run)[0] / "model.safetensors")["resnetcli"]
    assert str(run.parent) not in header
    assert '"/' not in header


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_rounded_copy_says_so_wherever_it_is_described_and_answers_almost_alike(run, tmp_path, dtype):
    out = tmp_path / "small.safetensors"
    written = export(str(run), out, force=False, dtype=dtype).checkpoints[0]
    shown = show(str(out)).checkpoints[0]
    assert (written.rounded_to, written.rounding_error) == (shown.rounded_to, shown.rounding_error)
    assert shown.rounded_to == dtype
    assert 0 < shown.rounding_error < 0.01
    assert [f.sha256 for f in shown.files] == [hashlib.sha256(out.read_bytes()).hexdigest()]
    assert show(str(run)).checkpoints[0].rounded_to is None
    (_, whole), (_, small) = (open_network(str(path), ignore) for path in (run, out))
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(images), whole.eval()(images), rtol=0.05, atol=0.05)


@pytest.mark.whole_network
def test_the_packaged_weights_are_shown_verified_and_exported_by_their_name(tmp_path):
    shown = show(PRETRAINED).checkpoints[0]
    assert (shown.path, shown.kind) == (PRETRAINED, "packaged")
    assert shown.metrics["test_top1"] > 0.5
    assert verify(PRETRAINED).checkpoints == (shown,)
    export(PRETRAINED, tmp_path / "mine.safetensors", force=False)
    mine = show(str(tmp_path / "mine.safetensors")).checkpoints[0]
    assert (mine.kind, mine.metrics, mine.rounded_to) == ("portable", shown.metrics, shown.rounded_to)


def test_verify_says_what_is_wrong_with_the_packaged_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    (problem,) = verify(PRETRAINED).problems
    assert problem.path == PRETRAINED
    assert "the packaged weights are damaged" in problem.message


def test_export_overwrites_only_when_asked_to(run, tmp_path):
    out = tmp_path / "m.safetensors"
    out.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        export(str(run), out, force=False)
    assert out.read_text() == "mine"
    export(str(run), out, force=True)
    with pytest.raises(UsageError, match=r"ends in \.safetensors"):
        export(str(run), tmp_path / "m.ckpt", force=False)


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    for call in (lambda: list_run(tmp_path), lambda: prune(tmp_path, 1, dry_run=True)):
        with pytest.raises(CheckpointError, match="not a run directory"):
            call()
