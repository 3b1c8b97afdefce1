"""Names that are no text, names that are too long, and folders that may not be entered."""

import json
import os
import sys

import pytest

from resnetcli.checkpoints.manager import best_first, read_model
from resnetcli.checkpoints.portable import without_places
from resnetcli.checkpoints.reading import open_checkpoint
from resnetcli.errors import CheckpointError, StorageError
from resnetcli.events import ignore
from resnetcli.interrupts import StopRequest
from resnetcli.services.checkpoints import NORMALIZATION, export, list_run
from resnetcli.services.networks import open_network
from resnetcli.services.output_dir import check_output_dir
from resnetcli.services.run_folder import new_run_folder
from resnetcli.services.train import read_config, resume
from tests.faults.sandbox import in_child
from tests.services.runs import short_config, short_run


@pytest.mark.skipif(sys.platform != "linux", reason="file systems of other systems take no such names")
def test_a_run_in_a_folder_whose_name_is_no_text_is_saved_resumed_and_exported(run, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    init = export(str(run), folder / "start.safetensors", force=False).written
    places = {"output_dir": folder, "cache_dir": folder / "cache", "data_dir": folder / "data", "init": init}
    short_run(name="r", epochs=1, **{"folder": folder, **{k: v for k, v in places.items() if k != "output_dir"}})
    config = read_config(folder / "r")
    assert {name: getattr(config, name) for name in places} == places
    assert json.loads((folder / "r" / "config.json").read_text(encoding="ascii"))["cache_dir"] == str(folder / "cache")
    assert resume(folder / "r", {}, stop=StopRequest(), on_event=ignore).steps == 4
    header = read_model(best_first(folder / "r")[0])[1]
    assert header.config["init"] == init
    export(str(folder / "r"), folder / "end.safetensors", force=False)
    assert open_network(folder / "end.safetensors", ignore)[0].header == without_places(
        header.model_copy(update={"chosen_by": "val"})
    )
    assert list_run(folder / "r").checkpoints[0].path.startswith(str(folder))


def test_a_name_that_is_too_long_is_called_so_before_anything_is_computed(tmp_path):
    long = "ü" * 200
    for check in (
        lambda: check_output_dir(tmp_path, long),
        lambda: check_output_dir(tmp_path / "missing", long),
        lambda: new_run_folder(short_config(tmp_path, name=long)),
    ):
        with pytest.raises(StorageError, match="File name too long") as caught:
            check()
        assert "choose a shorter name with --name" in caught.value.hint
    with pytest.raises(StorageError, match="File name too long") as caught:
        check_output_dir(tmp_path / "missing" / long)
    assert "choose a shorter name with --output-dir" in caught.value.hint
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        open_checkpoint(tmp_path / long, NORMALIZATION)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="gives up its rights in a child")
@pytest.mark.parametrize("below", ["", "checkpoints/step-0000004"])
def test_a_folder_without_permission_is_not_called_missing(tmp_path, below):
    closed = tmp_path / "closed"
    (closed / "checkpoints" / "step-0000004").mkdir(parents=True)
    closed.chmod(0)

    def look(tell):
        if os.geteuid() == 0:  # whom no permission binds
            os.seteuid(65534)
        try:
            open_checkpoint(closed / below, NORMALIZATION)
        except CheckpointError as error:
            tell(error.message)

    try:
        ((message,), _) = in_child(look)[::-1]
    finally:
        closed.chmod(0o700)
    assert message == f"{closed / below}: cannot be read (Permission denied)"


def test_a_loop_of_links_is_not_called_missing(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CheckpointError, match=r"loop: cannot be read \(Too many levels of symbolic links\)"):
        open_checkpoint(tmp_path / "loop", NORMALIZATION)
