"""Checkpoints that are cut short or altered, bit by bit: all of it is noticed, and the one before is taken."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnetcli.checkpoints.format import (
    MANIFEST_FILE,
    MODEL_FILE,
    TRAINER_FILE,
    Manifest,
    entry_for,
    manifest_for,
    read_manifest,
)
from resnetcli.checkpoints.manager import CheckpointManager, newest_intact, read_best, read_model, verify_folder
from resnetcli.cli.main import run
from resnetcli.errors import CheckpointError
from tests.checkpoints.samples import snapshot

FILES = (MODEL_FILE, TRAINER_FILE, MANIFEST_FILE)


@pytest.fixture
def saved(tmp_path, no_waiting):
    """A run with two checkpoints, of which the newer is the better."""
    manager = CheckpointManager(tmp_path, keep_last=2)
    return manager.save(snapshot(1, 0.5)), manager.save(snapshot(2, 0.9))


def check_noticed(older, newer, file):
    """Whoever reads `newer`, whose `file` is damaged, is told; whoever asks the run gets `older` and is told why."""
    run = newer.parent.parent
    with pytest.raises(CheckpointError) as caught:
        verify_folder(newer)
    told = caught.value.message
    assert caught.value.exit_code == 4
    assert told.startswith(str(newer / ("" if file == MANIFEST_FILE else file)))  # a manifest may lie of either file
    assert newest_intact(run)[0] == older
    if TRAINER_FILE not in told:  # weights alone do not need it
        with pytest.raises(CheckpointError):
            read_model(newer)
        folder, _, _, passed_over = read_best(run)
        assert folder == older
        assert all(reason == told for reason in passed_over)
    assert CheckpointManager(run, 2).set_damaged_aside() == [told]
    newer.with_name(f"damaged-{newer.name}").rename(newer)


def cut_short(content, length):
    return content[:length]


def flipped(content, bit):
    return content[: bit // 8] + bytes([content[bit // 8] ^ (1 << bit % 8)]) + content[bit // 8 + 1 :]


def check_damages(saved, damages):
    """Does each of `damages` (file, how, where) to the newer checkpoint, and undoes it."""
    older, newer = saved
    intact = {file: (newer / file).read_bytes() for file in FILES}
    for file, how, where in damages:
        (newer / file).write_bytes(how(intact[file], where))
        check_noticed(older, newer, file)
        (newer / file).write_bytes(intact[file])
    assert newest_intact(newer.parent.parent)[0] == newer


def parts(folder):
    """The bits of each part of a checkpoint: header and data of both files, and the manifest."""
    spans = {}
    for file in (MODEL_FILE, TRAINER_FILE):
        content = (folder / file).read_bytes()
        header = 8 + int.from_bytes(content[:8], "little")
        spans[f"header of {file}"] = (file, range(8 * header))
        spans[f"data of {file}"] = (file, range(8 * header, 8 * len(content)))
    spans[MANIFEST_FILE] = (MANIFEST_FILE, range(8 * (folder / MANIFEST_FILE).stat().st_size))
    return spans


def test_a_checkpoint_cut_short_anywhere_is_noticed_and_the_one_before_is_taken(saved, broke):
    sizes = {file: (saved[1] / file).stat().st_size for file in FILES}
    cuts = []
    for file, count in ((MODEL_FILE, 22), (TRAINER_FILE, 21), (MANIFEST_FILE, 21)):
        lengths = {0, 1, 7, 8, sizes[file] - 1, *(sizes[file] * n // count for n in range(count))}
        cuts += [(file, cut_short, length) for length in [*sorted(lengths)[-count:], 0]]
    assert len(cuts) >= 64
    check_damages(saved, cuts)
    broke(
        7, "checkpoint files cut short", len(cuts), "100 % detected, exit 4; a run falls back to the newest intact one"
    )


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.full)])
def test_any_flipped_bit_is_noticed_and_the_one_before_is_taken(saved, broke, count):
    draw = random.Random(count)
    spans = list(parts(saved[1]).values())
    flips = [(file, flipped, draw.choice(bits)) for file, bits in spans for _ in range(count // len(spans))]
    assert len(flips) == count
    check_damages(saved, flips)
    broke(
        7,
        "bits flipped in data, header and manifest",
        count,
        "100 % detected, exit 4; a run falls back to the newest intact one",
    )


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["cut", "flip"])
def test_a_command_given_a_damaged_checkpoint_by_its_path_ends_with_exit_code_4(saved, capsys, file, how):
    older, newer = saved
    content = (newer / file).read_bytes()
    (newer / file).write_bytes(content[:-1] if how == "cut" else flipped(content, 8 * len(content) - 20))
    commands = [["checkpoints", "verify"], ["train", "--resume"]]
    if file != TRAINER_FILE:  # weights alone do not need it
        commands += [["inspect"], ["evaluate"], ["checkpoints", "show"], ["predict", str(newer / file), "--checkpoint"]]
    for command in commands:
        assert run([*command, str(newer)]) == 4, command
        said = capsys.readouterr()
        assert newer.name in said.out + said.err
        assert "Traceback" not in said.err
    capsys.readouterr()
    assert run(["checkpoints", "verify", str(newer.parent.parent)]) == 4
    listed = capsys.readouterr()
    assert f"{newer.name}" in listed.out + listed.err
    assert read_best(older.parent.parent)[0] == (newer if file == TRAINER_FILE else older)


def test_each_single_bit_of_the_manifest_counts(saved):
    """It is watched over by nothing but its own form: so every bit, not a sample."""
    _, newer = saved
    path, content = newer / MANIFEST_FILE, (newer / MANIFEST_FILE).read_bytes()
    for bit in range(8 * len(content)):
        path.write_bytes(flipped(content, bit))
        with pytest.raises(CheckpointError):
            verify_folder(newer)


contents = st.binary(max_size=200)


@settings(deadline=None)
@given(model=contents, trainer=contents)
def test_a_manifest_is_read_as_it_was_written_and_fits_no_other_files(tmp_path_factory, model, trainer):
    folder = tmp_path_factory.mktemp("m")
    files = {MODEL_FILE: model, TRAINER_FILE: trainer}
    (folder / MANIFEST_FILE).write_bytes(manifest_for(files))
    manifest = read_manifest(folder)
    assert manifest.encode() == manifest_for(files)
    assert {name: entry.size for name, entry in manifest.files.items()} == {n: len(data) for n, data in files.items()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
        assert entry_for(folder / name) == manifest.files[name]
        for other in (data + b"\0", data[:-1] if data else b"x", bytes(len(data)) if any(data) else b"\1" + data[1:]):
            (folder / name).write_bytes(other)
            assert entry_for(folder / name) != manifest.files[name]
    shutil.rmtree(folder)


@settings(deadline=None)
@given(data=st.data())
def test_a_manifest_altered_in_any_way_is_refused_or_fits_no_file(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("m")
    files = {MODEL_FILE: b"weights", TRAINER_FILE: b"state"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    text = manifest_for(files)
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2), label="span"))
    altered = text[:start] + data.draw(st.binary(max_size=20), label="replacement") + text[end:]
    (folder / MANIFEST_FILE).write_bytes(altered)
    if altered != text:
        assert not _fits_both(folder)
    shutil.rmtree(folder)


def _fits_both(folder):
    try:
        return all(entry_for(folder / name) == entry for name, entry in read_manifest(folder).files.items())
    except CheckpointError:
        return False


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["schema_version", "files", "size", "sha256", MODEL_FILE, "x"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(document=json_like)
def test_no_document_but_a_manifest_is_taken_for_one(tmp_path_factory, document):
    folder = tmp_path_factory.mktemp("m")
    (folder / MANIFEST_FILE).write_text(json.dumps(document, indent=2) + "\n")
    with pytest.raises(CheckpointError, match=MANIFEST_FILE):
        read_manifest(folder)
    shutil.rmtree(folder)


def test_a_manifest_that_lists_other_files_is_refused(tmp_path):
    (tmp_path / MANIFEST_FILE).write_bytes(manifest_for({MODEL_FILE: b"", "evil.bin": b""}))
    with pytest.raises(CheckpointError, match=r"lists \['evil\.bin', 'model\.safetensors'\]"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST_FILE).write_bytes(Manifest(files={}).encode())
    with pytest.raises(CheckpointError, match=r"lists \[\]"):
        read_manifest(tmp_path)
