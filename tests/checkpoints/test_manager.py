import json
import os
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from resnetcli.checkpoints import manager
from resnetcli.checkpoints.format import (
    DTYPES,
    MAX_FILE_BYTES,
    MODEL_FILE,
    SCHEMA_VERSION,
    TRAINER_FILE,
    ModelHeader,
    encode,
    read_tensors,
)
from resnetcli.checkpoints.locks import RunLock
from resnetcli.checkpoints.manager import (
    CheckpointManager,
    best_first,
    newest_intact,
    read_best,
    read_model,
    read_snapshot,
    step_folders,
)
from resnetcli.checkpoints.reading import open_checkpoint
from resnetcli.checkpoints.storage import REPLACED
from resnetcli.errors import CheckpointError, RunInUseError, StorageError
from tests.checkpoints.samples import NORMALIZATION, damage, snapshot

OLD_CALIBRATION = {"temperature": 0.8, "images": 5000, "split": "val"}
"""As versions before the gain was stored wrote it."""
CALIBRATION = OLD_CALIBRATION | {"gain": 0.02, "gain_error": 0.001}
APPEARANCE = {"mean": [0.5] * 7, "precision": [[0.1] * 7] * 7, "threshold": 4.5, "images": 5000, "split": "val"}


def names(run):
    return [int(p.name.removeprefix("step-")) for p in step_folders(run)]


def test_what_is_saved_comes_back(tmp_path):
    path = CheckpointManager(tmp_path, 2).save(snapshot(7, 0.5))
    folder, found = newest_intact(tmp_path)
    assert folder == path
    assert torch.equal(found.model["w"], torch.full((64,), 7.0))
    assert torch.equal(found.trainer["m"], torch.ones(3))
    assert found.header.metrics == {"val_top1": 0.5}
    assert found.position.global_step == 7


def test_the_newest_and_the_best_are_kept(tmp_path):
    manager = CheckpointManager(tmp_path, keep_last=2)
    for step, score in ((1, 0.3), (2, 0.9), (3, None), (4, 0.9), (5, 0.5), (6, None)):
        manager.save(snapshot(step, score))
    assert names(tmp_path) == [2, 5, 6]
    assert best_first(tmp_path)[0].name == "step-0000002"


def test_the_best_of_a_final_run_is_its_last(tmp_path):
    manager = CheckpointManager(tmp_path, keep_last=3)
    for step in (1, 2, 3):
        manager.save(snapshot(step))
    assert best_first(tmp_path)[0].name == "step-0000003"


@pytest.mark.parametrize("file", [MODEL_FILE, TRAINER_FILE, "manifest.json"])
@pytest.mark.parametrize("how", ["cut", "flip", "gone", "empty"])
def test_damage_is_found_and_the_previous_checkpoint_is_taken(tmp_path, file, how):
    manager = CheckpointManager(tmp_path, 3)
    manager.save(snapshot(1))
    damage(manager.save(snapshot(2)) / file, how)
    if (file, how) == ("manifest.json", "flip"):  # the flipped byte of a manifest may be white space
        text = (tmp_path / "checkpoints/step-0000002/manifest.json").read_text().replace('"size": ', '"size": 1')
        (tmp_path / "checkpoints/step-0000002/manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="step-0000002"):
        read_snapshot(tmp_path / "checkpoints/step-0000002")
    folder, found = newest_intact(tmp_path)
    assert folder.name == "step-0000001"
    assert found.position.global_step == 1


def test_damaged_checkpoints_are_set_aside_so_that_pruning_keeps_the_intact_ones(tmp_path):
    manager = CheckpointManager(tmp_path, keep_last=1)
    for step in (4, 8):
        manager.save(snapshot(step))
    damage(tmp_path / "checkpoints/step-0000008" / MODEL_FILE, "flip")
    (reason,) = manager.set_damaged_aside()
    assert "step-0000008" in reason
    manager.save(snapshot(5))
    assert names(tmp_path) == [5]
    assert (tmp_path / "checkpoints" / "damaged-step-0000008").is_dir()


def test_checkpoints_are_ordered_by_number_and_other_folders_are_none(tmp_path):
    manager = CheckpointManager(tmp_path, keep_last=9)
    for step in (9_999_999, 10_000_000):
        manager.save(snapshot(step))
    (tmp_path / "checkpoints" / "step-copy").mkdir()
    assert names(tmp_path) == [9_999_999, 10_000_000]


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": {"name": "vgg"}},
        {"architecture": {"image_size": 64}},
        {"normalization": {"mean": [0, 0, 0], "std": [0, 1, 1]}},
        {"val_fraction": 5.0},
        {"split_seed": 2**70},
        *[{"calibration": CALIBRATION | {"temperature": t}} for t in (0, -1.0, float("nan"), 1e9, "hot")],
        {"calibration": {"temperature": 1.0}},
        {"calibration": CALIBRATION | {"images": 0}},
        {"calibration": CALIBRATION | {"gain_error": -1.0}},
        {"calibration": CALIBRATION | {"gain": float("inf")}},
        *[{"appearance": APPEARANCE | {"threshold": t}} for t in (-1.0, float("inf"), 1e300)],
        {"appearance": APPEARANCE | {"mean": [0.0] * 6}},
        {"appearance": APPEARANCE | {"mean": [float("nan")] * 7}},
        {"appearance": APPEARANCE | {"precision": [[0.0] * 7] * 6}},
        {"appearance": APPEARANCE | {"precision": [[1e300] * 7] * 7}},
    ],
)
def test_a_header_that_claims_the_impossible_is_refused(tmp_path, change):
    header = json.loads(snapshot(1).header.model_dump_json()) | change
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.torch.save({"w": torch.ones(1)}, {"resnetcli": json.dumps(header)}))
    with pytest.raises(CheckpointError, match="damaged header"):
        read_tensors(path, ModelHeader)


def test_what_is_known_of_its_own_limits_comes_back_and_need_not_be_there(tmp_path):
    header = json.loads(snapshot(1).header.model_dump_json())
    for known in ({"calibration": CALIBRATION, "appearance": APPEARANCE}, {}):
        document = {key: value for key, value in header.items() if key not in ("calibration", "appearance")} | known
        path = tmp_path / "x.safetensors"
        path.write_bytes(safetensors.torch.save({"w": torch.ones(1)}, {"resnetcli": json.dumps(document)}))
        found = json.loads(read_tensors(path, ModelHeader)[1].model_dump_json())
        assert (found["calibration"], found["appearance"]) == (known.get("calibration"), known.get("appearance"))


def test_a_calibration_from_before_the_gain_was_stored_is_read(tmp_path):
    header = json.loads(snapshot(1).header.model_dump_json()) | {"calibration": OLD_CALIBRATION}
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.torch.save({"w": torch.ones(1)}, {"resnetcli": json.dumps(header)}))
    found = read_tensors(path, ModelHeader)[1].calibration
    assert (found.temperature, found.gain, found.gain_error) == (0.8, None, None)


def test_a_truncated_file_is_named_with_the_missing_bytes(tmp_path):
    folder = CheckpointManager(tmp_path, 3).save(snapshot(2))
    damage(folder / MODEL_FILE, "cut")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: 5 bytes short \(truncated\?\)"):
        open_checkpoint(str(folder), NORMALIZATION)


def test_nothing_to_resume_is_an_error_that_says_why(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint yet"):
        newest_intact(tmp_path)


def test_a_newer_schema_asks_for_an_update(tmp_path):
    folder = CheckpointManager(tmp_path, 3).save(snapshot(1))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(CheckpointError, match="schema version 2") as caught:
        read_model(folder)
    assert "update" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 64,
        (2**62).to_bytes(8, "little") + b"{}",
        b"\x02" + b"\0" * 7 + b"[]",
        b"PK\x03\x04junk",
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        read_tensors(path, ModelHeader)


def test_encoding_is_a_pure_function(tmp_path):
    s = snapshot(3)
    assert encode(s.model, s.header) == encode(dict(s.model), s.header.model_copy())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_encoded_is_what_the_library_reads(dtype):
    numbers = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    tensors = {
        "maps": numbers.to(dtype).to(memory_format=torch.channels_last),
        "bytes": torch.arange(5, dtype=torch.uint8),
        'a "quoted" é\n': numbers[:, 0, 0, 0].to(dtype),
        "none": torch.zeros(0, 3, dtype=dtype),
        "one": torch.tensor(7).to(dtype),
    }
    read = safetensors.torch.load(encode(tensors, snapshot(3).header))
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read[name], tensor)


def test_a_second_process_is_told_who_holds_the_run(tmp_path):
    program = (
        "import sys; from pathlib import Path; from resnetcli.checkpoints.locks import RunLock\n"
        "from resnetcli.errors import RunInUseError\n"
        "try: RunLock(Path(sys.argv[1])).__enter__()\n"
        "except RunInUseError as e: print(e.message); sys.exit(e.exit_code)\n"
    )
    with RunLock(tmp_path):
        result = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert result.returncode == RunInUseError.exit_code == 6
    assert f"process {os.getpid()}" in result.stdout
    with RunLock(tmp_path):
        pass


def test_leftovers_of_a_killed_writer_are_cleared_at_the_next_start(tmp_path):
    litter = tmp_path / "checkpoints" / ".tmp-step-0000009-abc"
    litter.mkdir(parents=True)
    (litter / MODEL_FILE).write_bytes(b"half")
    CheckpointManager(tmp_path, 2)
    assert not litter.exists()


@pytest.mark.parametrize("how", ["cut", "flip", "gone"])
def test_pruning_never_keeps_a_damaged_checkpoint_in_the_place_of_an_intact_one(tmp_path, how):
    manager = CheckpointManager(tmp_path, keep_last=9)
    for step, score in ((1, 0.2), (2, 0.6), (3, 0.4), (4, 0.9)):
        manager.save(snapshot(step, score))
    damage(tmp_path / "checkpoints" / "step-0000004" / TRAINER_FILE, how)
    removed = CheckpointManager(tmp_path, keep_last=1).prune()
    assert [path.name for path in removed] == ["step-0000001"]
    assert names(tmp_path) == [2, 3, 4]
    assert newest_intact(tmp_path)[0].name == "step-0000003"


def test_a_checkpoint_that_was_put_aside_counts_until_another_has_its_name(tmp_path):
    manager = CheckpointManager(tmp_path, keep_last=2)
    path = manager.save(snapshot(3))
    path.rename(path.with_name(f"{REPLACED}{path.name}"))
    assert newest_intact(tmp_path)[1].position.global_step == 3
    assert open_checkpoint(str(tmp_path), NORMALIZATION).header.step == 3
    CheckpointManager(tmp_path, keep_last=2)
    assert newest_intact(tmp_path)[0] == path


def test_a_run_in_use_names_its_holder_also_when_nobody_wrote_down_who_it_is(tmp_path):
    with RunLock(tmp_path):
        with pytest.raises(RunInUseError, match=f"in use by process {os.getpid()}"):
            RunLock(tmp_path).__enter__()
        (tmp_path / ".holder").unlink()
        with pytest.raises(RunInUseError, match="in use by another process"):
            RunLock(tmp_path).__enter__()


def test_a_run_that_cannot_be_locked_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write to .*file"):
        RunLock(tmp_path / "file").__enter__()


@pytest.mark.parametrize(
    "header",
    [
        b'{"__metadata__": {"resnetcli": 3}}',
        b'{"__metadata__": {"other": "x"}}',
        b'{"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {"resnetcli": HEADER}}',
    ],
)
def test_a_safetensors_file_that_is_not_ours_or_not_whole_is_refused(tmp_path, header):
    header = header.replace(b"HEADER", json.dumps(snapshot(1).header.model_dump_json()).encode())
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match=r"x\.safetensors: (the metadata|a safetensors file, but|damaged)"):
        read_tensors(path, ModelHeader)


def test_a_file_larger_than_any_checkpoint_is_refused_unread(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(CheckpointError, match="2,147,483,649 bytes, more than any checkpoint"):
        read_tensors(path, ModelHeader)


def test_the_best_that_is_cleared_away_while_it_is_read_is_looked_for_anew(tmp_path, monkeypatch):
    saving = CheckpointManager(tmp_path, keep_last=1)
    first = saving.save(snapshot(1, 0.5))
    real = manager.read_model

    def read_model(folder):
        if folder == first and folder.exists():
            saving.save(snapshot(2, 0.6))
        return real(folder)

    monkeypatch.setattr(manager, "read_model", read_model)
    folder, _, header, passed_over = read_best(tmp_path)
    assert (folder.name, header.step, passed_over) == ("step-0000002", 2, ())
    assert not first.exists()


def test_a_checkpoint_whose_header_cannot_be_read_may_have_been_the_best_and_is_named(tmp_path):
    saving = CheckpointManager(tmp_path, keep_last=9)
    saving.save(snapshot(1, 0.5))
    damage(saving.save(snapshot(2, 0.6)) / MODEL_FILE, "empty")
    folder, _, _, passed_over = read_best(tmp_path)
    assert folder.name == "step-0000001"
    assert ["step-0000002" in reason for reason in passed_over] == [True]


def test_what_is_no_folder_has_no_checkpoints(tmp_path):
    (tmp_path / "foreign.ckpt").write_text("a file")
    assert step_folders(tmp_path / "foreign.ckpt") == step_folders(tmp_path / "missing") == []
