"""Small files that would take much memory or time to read, and how little they get of either."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from resnetcli.checkpoints.format import MODEL_FILE
from tests.faults.conftest import Broke
from tests.faults.hostile import Call, good_model, legacy, options, tarred, with_header, write_run, zipped
from tests.faults.runner import ran

MIB = 2**20
MAX_MEMORY, MAX_SECONDS = 400 * MIB, 1.0
"""Above what the process holds with torch imported; of processor time."""


def safetensors(header: object, size: int | None = None, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def deflated(name: str, size: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/version", b"3\n", compress_type=zipfile.ZIP_STORED)
        with archive.open(f"archive/{name}", "w") as member:
            for _ in range(size // MIB):
                member.write(bytes(MIB))
    return buffer.getvalue()


def sharing() -> bytes:
    """A zip file of which 5,000 entries are the same megabyte."""
    local = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, 0, MIB, MIB, 10, 0) + b"archive/aa"
    entry = b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 0, 0, MIB, MIB, 10, 0, 0, 0, 0, 0, 0)
    directory = (entry + b"archive/aa") * 5000
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 5000, 5000, len(directory), len(local) + MIB, 0)
    return local + bytes(MIB) + directory + end


def many_entries() -> bytes:
    """A zip file of nothing but a directory of two million entries."""
    local = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    entry = b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 2_000_000
    return (
        local + directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, len(directory), len(local), 0)
    )


def view_of(shape: str) -> bytes:
    """A saved tensor of four numbers that claims to have 2**26 of them."""
    buffer = io.BytesIO()
    torch.save({"fc.weight": torch.zeros(4)}, buffer, _use_new_zipfile_serialization=shape == "zip")
    if shape == "legacy":
        return buffer.getvalue().replace(b"K\x04\x85", b"J\x00\x00\x00\x04\x85", 1)
    with zipfile.ZipFile(buffer) as archive:
        data = archive.read("archive/data.pkl").replace(b"K\x04\x85", b"J\x00\x00\x00\x04\x85", 1)
        return zipped(data, **{"data/0": archive.read("archive/data/0")})


def again_and_again() -> bytes:
    """Builds one list of 100,000 pairs and counts it 100,000 times."""
    pairs = b"](" + b"N" * 100_000 + b"e" + b"q\x01"
    return b"\x80\x02" + pairs + b"0(l" + b"ccollections\nCounter\nh\x01\x85Ra" * 30_000 + b"."


def inner(text: str) -> bytes:
    """A file of ours whose header, a JSON text inside of a JSON text, is this one."""
    return safetensors({"__metadata__": {"resnetcli": text}})


def bombs() -> dict[str, bytes]:
    """Foreign files by names that end in ckpt, portable ones in safetensors."""
    shape = {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}
    model = good_model()

    def claims(outer: dict[str, dict[str, object]]) -> None:
        outer["head.weight"]["shape"] = [100_000, 1024]

    classes = f'{{"architecture": {{"num_classes": {10**12}}}, "class_names": [], "normalization": {{}}}}'
    return {
        "shape.safetensors": safetensors({"__metadata__": {"resnetcli": "{}"}, "w": shape}),
        "shape-in-a-good-file.safetensors": with_header(model, claims),
        "classes.safetensors": inner(classes),
        "header-100-MB.safetensors": safetensors(b'{"__metadata__":{"resnetcli":"' + b"x" * 100 * MIB + b'"}}'),
        "header-claims-100-MB.safetensors": safetensors(b"{}", 100 * MIB),
        "header-claims-2-to-the-63.safetensors": safetensors(b"{}", 2**63),
        "lists-4-MB.safetensors": safetensors(b'{"x":[' + b"[]," * (4 * MIB // 3 - 10) + b"[]]}"),
        "lists-100-MB.safetensors": safetensors(b'{"x":[' + b"[]," * (100 * MIB // 3) + b"[]]}"),
        "inner-lists.safetensors": inner('{"config":{"x":[' + "[]," * (4 * MIB // 3 - 50) + "[]]}}"),
        "inner-objects.safetensors": inner('{"config":{"x":[' + "{}," * 60_000 + "{}]}}"),
        "nested.safetensors": inner("[" * 1_000_000),
        "digits.safetensors": inner('{"step":' + "9" * 4_000_000 + "}"),
        "keys.safetensors": safetensors(b"{" + b",".join(b'"%06x":0' % i for i in range(380_000)) + b"}"),
        "zeros.safetensors": bytes(300 * MIB),
        "deflated-pickle.ckpt": deflated("data.pkl", 500 * MIB),
        "deflated-storage.ckpt": deflated("data/0", 900 * MIB),
        "shared-entries.ckpt": sharing(),
        "many-entries.ckpt": many_entries(),
        "view-zip.ckpt": view_of("zip"),
        "view-legacy.ckpt": view_of("legacy"),
        "bytearray-zip.ckpt": zipped(Call("builtins", "bytearray", 2**31 - 1).bytes(2)),
        "bytearray-legacy.ckpt": legacy(Call("builtins", "bytearray", 2**31 - 1).bytes(2)),
        "tensor.ckpt": zipped(Call("torch", "FloatTensor", 2**34).bytes(2)),
        "again-and-again-zip.ckpt": zipped(again_and_again()),
        "again-and-again-legacy.ckpt": legacy(again_and_again()),
        "one-hash.ckpt": zipped(pickle.dumps(dict.fromkeys((i * (2**61 - 1) for i in range(20_000)), 0), 2)),
        "one-hash-legacy.ckpt": legacy(pickle.dumps(dict.fromkeys((i * (2**61 - 1) for i in range(20_000)), 0), 2)),
        "steps.ckpt": zipped(b"\x80\x02" + b"N0" * 500_000 + b"N."),
        "steps-legacy.ckpt": legacy(b"\x80\x02" + b"N0" * 20_000_000 + b"N."),
        "memo.ckpt": zipped(b"\x80\x02Nr\xff\xff\xff\xffr\xff\xff\xff\x7f."),
        "long-number.ckpt": zipped(b"\x80\x02\x8b\xff\xff\xff\x7f."),
        "long-text.ckpt": zipped(b"\x80\x02X\xff\xff\xff\xff."),
        "long-bytes.ckpt": zipped(b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f."),
        "tar-of-digits.ckpt": tarred(b"1" * 300_000),
        "zeros.ckpt": bytes(300 * MIB),
        "pickles.ckpt": pickle.dumps([[]] * 1000, 2) * 20_000,
    }


FULL = tuple(options(""))[:9]  # list and prune take no single file


@pytest.mark.slow
@pytest.mark.parametrize("asked", [("inspect",), pytest.param(FULL, marks=pytest.mark.full)], ids=["quick", "full"])
def test_a_bomb_costs_little(asked: tuple[str, ...], tmp_path: Path, broke: Broke) -> None:
    (tmp_path / "good.safetensors").write_bytes(good_model())
    (tmp_path / "picture.png").write_bytes(b"")
    files = bombs()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    in_runs = [write_run(tmp_path / "run", {MODEL_FILE: files["inner-lists.safetensors"]})]
    in_runs.append(write_run(tmp_path / "manifest", {}, manifest=b"[" + b"[]," * 10_000_000 + b"[]]"))
    in_runs.append(write_run(tmp_path / "config", {MODEL_FILE: good_model()}))
    (in_runs[-1] / "config.json").write_bytes(b"[" + b"{}," * 10_000_000 + b"{}]")
    every = options("good.safetensors")
    lines = [every[option](name) for name in files for option in asked if option != "train --resume"]
    lines += [every[option](str(run)) for run in in_runs[:2] for option in (*asked, "checkpoints list")]
    lines += [every["train --resume"](str(run)) for run in in_runs]
    warm = [["inspect", "good.safetensors"], *(every[option]("nowhere") for option in asked)]
    answers = ran(lines, warm=warm, cwd=tmp_path)
    assert len(answers) == len(lines)
    for answer in answers:
        assert answer.code == 4, answer
        assert "Traceback" not in answer.err, answer
        assert answer.memory < MAX_MEMORY, answer
        assert answer.seconds <= MAX_SECONDS, answer
    broke(
        9,
        "checkpoint bombs: huge declared shapes, deflated and shared entries, 100 MB headers, pickles that multiply",
        len(lines),
        "refused before allocation, exit 4, under 400 MB above the import of torch, at most 1 s of work",
    )
    if path := os.environ.get("RESNETCLI_FAULTS_WORST"):
        worst = max(a.memory for a in answers) / MIB, max(a.seconds for a in answers)
        Path(path).write_text(f"{worst[0]:.0f} MiB, {worst[1]:.2f} s\n")


def test_a_pipe_or_a_device_in_place_of_a_file_is_not_read(tmp_path: Path) -> None:
    lines = []
    for name in (MODEL_FILE, "manifest.json", "config.json"):
        for kind in ("pipe", "device"):
            run = write_run(tmp_path / f"{kind}-{name}", {MODEL_FILE: good_model()})
            path = run / name if name == "config.json" else run / "checkpoints" / "step-0000008" / name
            path.unlink()
            if kind == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to("/dev/zero")
            lines += [["train", "--resume", run.name]]
            lines += [["checkpoints", "verify", run.name], ["inspect", run.name]] if name != "config.json" else []
    for answer in ran(lines, warm=[], cwd=tmp_path):
        assert answer.code == 4, answer
        assert "not a plain file" in answer.out + answer.err, answer
