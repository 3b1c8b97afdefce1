"""What is refused for its size or its kind before anybody reads it, and who is said to hold a run."""

import os
import pickle
import platform
import zipfile

import pytest
import torch

from resnetcli.checkpoints import format as format_
from resnetcli.checkpoints.format import MAX_HEADER_BYTES, Manifest, ModelHeader, read_json
from resnetcli.checkpoints.locks import LOCK_FILE, RunLock, check_not_in_use
from resnetcli.checkpoints.vetting import MAX_BYTES, MAX_PICKLE_BYTES, vetted_copy
from resnetcli.errors import CheckpointError, RunInUseError
from resnetcli.pickle_guard import MAX_OPCODES, MAX_SHARED, Refused
from resnetcli.untrusted import MAX_ITEMS


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_in_place_of_a_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a plain file"):
        format_.entry_for(tmp_path / "pipe")


def test_a_file_of_json_that_is_too_long_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_bytes(b" " * (MAX_HEADER_BYTES + 1))
    with pytest.raises(OSError, match=f"more than {MAX_HEADER_BYTES:,} bytes"):
        read_json(path, Manifest)


def test_a_short_text_of_too_many_values_is_not_parsed(tmp_path):
    with pytest.raises(CheckpointError, match="more than 131,072 values"):
        format_.parse("[" + "0," * MAX_ITEMS + "0]", ModelHeader, tmp_path)


def zipped(path, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("_", "."), data)
    return path


def test_a_pickle_in_a_zip_file_has_a_limit(tmp_path):
    with pytest.raises(Refused, match="more than a state_dict needs"):
        vetted_copy(zipped(tmp_path / "a.pt", data_pkl=bytes(MAX_PICKLE_BYTES + 1)))


def test_entries_whose_names_differ_in_case_alone_are_refused(tmp_path):
    with pytest.raises(Refused, match="one entry twice"):
        vetted_copy(zipped(tmp_path / "a.pt", data_pkl=b"", DATA_PKL=b""))


def test_a_file_larger_than_any_checkpoint_is_not_read(tmp_path):
    with (tmp_path / "a.pt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(Refused, match="more than any checkpoint"):
        vetted_copy(tmp_path / "a.pt")


def test_a_pickle_of_too_many_steps_is_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"\x80\x02" + b"N0" * (MAX_OPCODES // 2 + 1) + b"N.")
    with pytest.raises(Refused, match="more steps"):
        vetted_copy(tmp_path / "a.pt")


def test_a_container_that_is_used_again_and_again_is_refused(tmp_path):
    shared: list[int] = []
    (tmp_path / "a.pt").write_bytes(pickle.dumps([shared] * (MAX_SHARED + 2), protocol=2))
    with pytest.raises(Refused, match="again and again"):
        vetted_copy(tmp_path / "a.pt")


def test_what_torch_saved_passes_and_is_read_as_it_was(tmp_path):
    torch.save({"w": torch.arange(3.0)}, tmp_path / "a.pt")
    assert torch.load(vetted_copy(tmp_path / "a.pt"), weights_only=True)["w"].tolist() == [0, 1, 2]


def test_a_run_that_is_held_names_its_holder(tmp_path):
    check_not_in_use(tmp_path)  # nobody ever held it
    with RunLock(tmp_path), pytest.raises(RunInUseError, match=f"process {os.getpid()} on {platform.node()}"):
        check_not_in_use(tmp_path)
    check_not_in_use(tmp_path)
    assert (tmp_path / LOCK_FILE).exists()


def test_a_holder_that_is_long_dead_is_not_named(tmp_path):
    lock = RunLock(tmp_path)
    lock.acquire()
    (tmp_path / ".holder").write_text(f"process {2**31 - 2} on {platform.node()}")
    with pytest.raises(RunInUseError, match="another process"):
        check_not_in_use(tmp_path)
    lock.release()
