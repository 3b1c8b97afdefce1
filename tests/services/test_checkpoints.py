import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from resnetcli.checkpoints import manager, packaged, storage
from resnetcli.checkpoints.format import read_header
from resnetcli.checkpoints.locks import RunLock
from resnetcli.checkpoints.manager import best_first, read_model
from resnetcli.checkpoints.portable import without_places
from resnetcli.config.base import PRETRAINED
from resnetcli.errors import CheckpointError, RunInUseError, UsageError
from resnetcli.events import Notice, ignore
from resnetcli.interrupts import StopRequest
from resnetcli.reporting import files, tables, text
from resnetcli.results.checkpoints import CheckpointsResult
from resnetcli.services.checkpoints import export, list_run, list_runs, prune, show, verify
from resnetcli.services.networks import open_network
from resnetcli.services.train import resume
from tests.golden import drawn
from tests.reporting.examples import evaluate_result
from tests.services.runs import short_run


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


def test_a_dry_run_says_what_it_would_remove_and_how_much_that_frees(copy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    would = prune(copy, keep_last=1, dry_run=True)
    size = sum(file.stat().st_size for path in would.removed for file in Path(path).glob("*.safetensors"))
    assert (would.dry_run, len(would.removed), would.removed_bytes) == (True, 1, size)
    assert drawn(tables.checkpoints(would)).endswith(f"would remove {would.removed[0]} (frees {text.size(size)})\n")
    done = prune(copy, keep_last=1, dry_run=False)
    assert (done.dry_run, done.removed, done.removed_bytes) == (False, would.removed, size)
    assert drawn(tables.checkpoints(done)).endswith(f"removed {done.removed[0]} (freed {text.size(size)})\n")
    assert drawn(tables.checkpoints(prune(copy, keep_last=1, dry_run=True))).endswith("nothing to remove\n")


@pytest.mark.parametrize("dry_run", [False, True])
def test_prune_asks_for_the_run_before_it_looks_at_its_checkpoints(copy, dry_run):
    (copy / "checkpoints" / "step-0000004" / "manifest.json").unlink()
    with RunLock(copy), pytest.raises(RunInUseError, match="is in use by"):
        prune(copy, keep_last=1, dry_run=dry_run)


@pytest.mark.parametrize("call", [list_run, lambda run: verify(str(run)), lambda run: prune(run, 9, dry_run=True)])
def test_what_the_run_itself_clears_away_meanwhile_is_not_damaged(copy, monkeypatch, call):
    real = manager.verify_folder

    def verify_folder(folder):
        if folder.name == "step-0000004" and folder.exists():
            storage.remove_folder(folder)
        return real(folder)

    monkeypatch.setattr(manager, "verify_folder", verify_folder)
    result = call(copy)
    assert [i.step for i in result.checkpoints] == [0, 8]
    assert not result.problems


def test_what_the_run_itself_saves_anew_meanwhile_is_read_anew(copy, monkeypatch):
    real, folder = manager.verify_folder, copy / "checkpoints" / "step-0000004"
    shutil.copytree(folder, copy / "saved-anew")

    def verify_folder(found):
        if found == folder and (copy / "saved-anew").exists():
            shutil.rmtree(folder)
            (copy / "saved-anew").rename(folder)
            raise CheckpointError("half of the old one and half of the new one")
        return real(found)

    monkeypatch.setattr(manager, "verify_folder", verify_folder)
    result = list_run(copy)
    assert [i.step for i in result.checkpoints] == [0, 4, 8]
    assert not result.problems


def test_a_list_and_a_look_at_one_checkpoint_say_the_same_of_it(run):
    infos = list_run(run).checkpoints
    for info in infos:
        assert show(info.path).checkpoints == (info,)
    (best,) = (info for info in infos if info.best)
    assert show(str(run)).checkpoints == (best.model_copy(update={"kind": "run"}),)
    assert best.chosen_by == "val"
    assert {info.chosen_by for info in infos if not info.best} == {"user"}


def _reported(copy, split="test"):
    best = next(info.path for info in list_run(copy).checkpoints if info.best)
    measured = evaluate_result().model_copy(update={"checkpoint": f"elsewhere/{Path(best).name}"})
    measured = measured.model_copy(update={"protocol": measured.protocol.model_copy(update={"split": split})})
    (copy / "report").mkdir()
    (copy / "report" / "report.json").write_text(files.to_json(measured))
    return best, measured.scores.top1.value


def test_the_test_accuracy_that_the_report_of_a_run_states_stands_in_the_list(copy, monkeypatch):
    best, top1 = _reported(copy)
    listed = {info.path: info for info in list_run(copy).checkpoints}
    assert {path: info.metrics.get("test_top1") for path, info in listed.items()} == {
        path: top1 if path == best else None for path in listed
    }
    assert show(best).checkpoints == (listed[best],)
    for columns, last in (("62", "top-1"), ("80", "loss"), ("120", "created")):
        monkeypatch.setenv("COLUMNS", columns)
        infos = [
            info.model_copy(update={"path": f"runs/a/checkpoints/{Path(info.path).name}"}) for info in listed.values()
        ]
        lines = drawn(tables.checkpoints(CheckpointsResult(command="checkpoints list", checkpoints=infos))).splitlines()
        assert lines[1].split()[-1] == last
        assert len(lines) == 3 + len(infos)
        assert sum(text.percent(top1) in line for line in lines) == 1


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"scores": 3}', b"\xff", b'{"scores":{"top1":{"value":"high"}}}'])
def test_a_report_that_says_nothing_of_the_test_images_is_no_error(copy, content):
    _reported(copy, split="val")
    assert not any("test_top1" in info.metrics for info in list_run(copy).checkpoints)
    (copy / "report" / "report.json").write_bytes(content)
    assert not any("test_top1" in info.metrics for info in list_run(copy).checkpoints)


def test_without_a_run_the_runs_of_a_folder_are_listed_the_newest_last(copy, tmp_path):
    _, top1 = _reported(copy)
    copy.rename(tmp_path / "z")
    short_run(tmp_path, name="a", epochs=1)
    (tmp_path / "no-run").mkdir()
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    begun, old, new = list_runs(tmp_path).runs
    assert [Path(run.path).name for run in (begun, old, new)] == ["begun", "z", "a"]
    assert (begun.checkpoints, begun.size, begun.epoch) == (0, 0, None)
    assert (old.checkpoints, old.epoch, old.step, old.test_top1) == (3, 2, 8, top1)
    assert old.val_top1 == max(info.metrics.get("val_top1", 0) for info in list_run(tmp_path / "z").checkpoints)
    assert old.size == sum(file.size for info in list_run(tmp_path / "z").checkpoints for file in info.files)
    assert list_runs(tmp_path / "missing").runs == ()


def test_a_checkpoint_says_when_it_was_saved_and_not_when_its_run_began(tmp_path, monkeypatch):
    clock = (datetime(2026, 1, 2, 3, 4, second, tzinfo=UTC) for second in range(60))
    monkeypatch.setattr("resnetcli.services.train.datetime", SimpleNamespace(now=lambda zone: next(clock)))
    short_run(tmp_path, name="r", keep_last=9)
    created = [info.created for info in list_run(tmp_path / "r").checkpoints]
    assert created == [f"2026-01-02T03:04:0{second}+00:00" for second in range(3)]


def _file(path):
    path.write_text("a file")


def _loop(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize("put_there", [_file, _loop])
def test_what_took_the_place_of_the_newest_checkpoint_is_named(copy, put_there):
    newest = copy / "checkpoints" / "step-0000008"
    shutil.rmtree(newest)
    put_there(newest)
    for result in (list_run(copy), verify(str(copy))):
        assert [i.step for i in result.checkpoints] == [0, 4]
        assert [p.path for p in result.problems] == [str(newest)]
    notices = []
    open_network(copy, notices.append)
    assert ["step-0000008" in n.text for n in notices if isinstance(n, Notice) and n.warning] == [True]
    notices.clear()
    result = resume(copy, {}, stop=StopRequest(), on_event=notices.append)
    assert result.steps == 8
    assert any("step-0000008" in n.text and n.warning for n in notices if isinstance(n, Notice))
    assert read_model(newest)


@pytest.mark.parametrize("put_there", [_file, _loop])
def test_what_took_the_place_of_all_checkpoints_is_named(copy, put_there):
    shutil.rmtree(copy / "checkpoints")
    put_there(copy / "checkpoints")
    for call in (list_run, lambda run: open_network(run, ignore), lambda run: prune(run, 1, dry_run=True)):
        with pytest.raises(CheckpointError, match="copy/checkpoints: cannot be read"):
            call(copy)


def test_a_portable_copy_carries_the_temperature(calibrated, tmp_path):
    out = tmp_path / "portable.safetensors"
    export(str(calibrated), out, force=False)
    assert show(str(out)).checkpoints[0].calibration == show(str(calibrated)).checkpoints[0].calibration
    assert show(str(out)).checkpoints[0].calibration.temperature == 10


def test_a_portable_copy_carries_everything_a_user_must_know(run, tmp_path):
    out = tmp_path / "portable.safetensors"
    assert export(str(run), out, force=False).written == str(out)
    original, copied = (open_network(str(p), ignore)[0].header for p in (run, out))
    assert copied == without_places(original)
    assert copied.config["lr"] == original.config["lr"]
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
    with pytest.raises(UsageError, match=r"\.ckpt names another format than safetensors"):
        export(str(run), tmp_path / "m.ckpt", force=False)


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("out.onnx", "out.safetensors"),
        ("out.onnx.safetensors", "out.safetensors"),
        ("out.PTH", "out.safetensors"),
        ("v1.2", "v1.2.safetensors"),
    ],
)
def test_export_writes_no_file_that_another_format_is_named_in(run, tmp_path, name, better):
    with pytest.raises(UsageError) as caught:
        export(str(run), tmp_path / name, force=True)
    assert caught.value.hint == f"try {tmp_path / better}"
    assert not any(tmp_path.iterdir())
    export(str(run), tmp_path / better, force=False)
    assert (tmp_path / better).is_file()


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    for call in (lambda: list_run(tmp_path), lambda: prune(tmp_path, 1, dry_run=True)):
        with pytest.raises(CheckpointError, match="not a run directory"):
            call()
