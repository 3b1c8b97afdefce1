"""Checkpoints that mean harm: what they hold, how it is wrapped, and every option that can be handed one."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from resnetcli.checkpoints.format import (
    MODEL_FILE,
    TRAINER_FILE,
    Architecture,
    ModelHeader,
    TrainerHeader,
    encode,
    manifest_for,
)
from resnetcli.config.base import CLASS_NAMES
from resnetcli.config.train import TrainConfig
from resnetcli.models.resnet import ResNet
from tests.checkpoints.samples import NORMALIZATION

MAGIC = 0x1950A86A20F9469CFC6C
"""The number by which torch.load knows its old format."""


class Call:
    """Pickles as a call of `module.name(*arguments)`."""

    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self.module, self.name, self.arguments = module, name, arguments

    def bytes(self, protocol: int) -> bytes:
        """The pickle of {"fc.weight": this call}; written by hand, so that no protocol changes what is called."""
        head = b"" if protocol < 2 else bytes((0x80, protocol))
        arguments = b"".join(_pushed(value) for value in self.arguments)
        if protocol < 4:
            function = f"c{self.module}\n{self.name}\n".encode()
        else:
            function = _short(self.module) + _short(self.name) + b"\x93"
        key = b"Vfc.weight\n"
        return head + b"(d" + key + function + b"(" + arguments + b"tRs."


def _short(text: str) -> bytes:
    return b"\x8c" + bytes((len(text),)) + text.encode()


def _pushed(value: object) -> bytes:
    return pickle.dumps(value, 0)[:-1]


def payloads(mark: Path) -> dict[str, Call]:
    """Calls that would leave `mark` behind, or start something."""
    touch = f"open({str(mark)!r}, 'w')"
    inner = pickle.dumps({"x": 1}, 2)
    return {
        "os.mkdir": Call("os", "mkdir", str(mark)),
        "os.system": Call("os", "system", f"touch {mark}"),
        "posix.system": Call("posix", "system", f"touch {mark}"),
        "exec": Call("builtins", "exec", touch),
        "eval": Call("builtins", "eval", touch),
        "open": Call("builtins", "open", str(mark), "w"),
        "compile": Call("builtins", "compile", touch, "x", "exec"),
        "import": Call("builtins", "__import__", "antigravity"),
        "python 2's eval": Call("__builtin__", "eval", touch),
        "subprocess": Call("subprocess", "Popen", ["touch", str(mark)]),
        "pty": Call("pty", "spawn", "touch"),
        "runpy": Call("runpy", "run_path", str(mark)),
        "shutil": Call("shutil", "rmtree", str(mark.parent)),
        "webbrowser": Call("webbrowser", "open", "http://127.0.0.1:9/"),
        "socket": Call("socket", "create_connection", ("127.0.0.1", 9)),
        "ctypes": Call("ctypes", "CDLL", str(mark)),
        "a pickle in a pickle": Call("pickle", "loads", inner),
        "torch.load": Call("torch", "load", str(mark)),
        "torch.hub": Call("torch.hub", "load", "a/b", "c"),
        "torch's inner pickle": Call("torch.storage", "_load_from_bytes", inner),
        "a codec by name": Call("_codecs", "encode", "x" * 10, "punycode"),
        "memory": Call("builtins", "bytearray", 2**31 - 1),
        "a tensor of any size": Call("torch", "FloatTensor", 2**30),
        "getattr": Call("builtins", "getattr", "x", "__class__"),
    }


def zipped(data: bytes, **more: bytes) -> bytes:
    """In the format of torch.save, with this pickle inside."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {"data.pkl": data, "version": b"3\n", "byteorder": b"little", **more}.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def legacy(data: bytes) -> bytes:
    """In torch's format of before 2020."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    return b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, system)) + data + pickle.dumps([], 2)


def tarred(data: bytes) -> bytes:
    """In torch's first format, of 2016."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def in_header(data: bytes) -> bytes:
    """A safetensors file whose header is a pickle."""
    return struct.pack("<Q", len(data)) + data


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "bare": bytes,
    "zip": zipped,
    "legacy": legacy,
    "tar": tarred,
    "safetensors header": in_header,
}


def malicious(folder: Path, mark: Path) -> Iterator[Path]:
    """Every payload in every protocol and wrapping, under the names of a foreign and of a portable file."""
    for number, call in enumerate(payloads(mark).values()):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            for wrapping, wrap in WRAPPINGS.items():
                for suffix in ("ckpt", "safetensors"):
                    path = folder / f"{number:02d}-{protocol}-{wrapping.split()[0]}.{suffix}"
                    path.write_bytes(wrap(call.bytes(protocol)))
                    yield path


def good_model(step: int = 8, **changes: object) -> bytes:
    """A model.safetensors of ours, complete; `changes` to its header."""
    torch.manual_seed(0)
    header = ModelHeader(
        architecture=Architecture(),
        class_names=CLASS_NAMES,
        normalization=NORMALIZATION,
        data="cifar10-mini",
        step=step,
    )
    weights = {name: tensor.detach() for name, tensor in ResNet().state_dict().items()}
    return encode(weights, header.model_copy(update=changes))


def write_run(run: Path, files: dict[str, bytes], manifest: bytes | None = None) -> Path:
    """A run directory with one checkpoint of these files, in the digests of which all is well."""
    folder = run / "checkpoints" / "step-0000008"
    folder.mkdir(parents=True)
    position = TrainerHeader(
        epoch=0, step=8, global_step=8, seconds=0, total_seconds=0, history=(), versions={"torch": "2"}
    )
    files = {MODEL_FILE: b"", TRAINER_FILE: encode({"sums": torch.zeros(3)}, position), **files}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_bytes(manifest_for(files) if manifest is None else manifest)
    (run / "config.json").write_text(TrainConfig(data="cifar10-mini").model_dump_json())
    return run


TRAIN = ("train", "--data=cifar10-mini", "--device=cpu", "--precision=fp32", "--epochs=1", "--output-dir=made")


def options(good: str) -> dict[str, Callable[[str], list[str]]]:
    """Every option that takes a checkpoint: a command line for it. `good` is one that is as it should be."""
    return {
        "evaluate": lambda c: ["evaluate", c, "--data=cifar10-mini", "--device=cpu"],
        "predict": lambda c: ["predict", "picture.png", "--checkpoint", c, "--device=cpu"],
        "inspect": lambda c: ["inspect", c],
        "compare A": lambda c: ["compare", c, good, "--data=cifar10-mini", "--device=cpu"],
        "compare B": lambda c: ["compare", good, c, "--data=cifar10-mini", "--device=cpu"],
        "train --init": lambda c: [*TRAIN, "--init", c],
        "train --resume": lambda c: ["train", "--resume", c],
        "checkpoints show": lambda c: ["checkpoints", "show", c],
        "checkpoints verify": lambda c: ["checkpoints", "verify", c],
        "checkpoints export": lambda c: ["checkpoints", "export", c, "out.safetensors", "--force"],
        "checkpoints list": lambda c: ["checkpoints", "list", c],
        "checkpoints prune": lambda c: ["checkpoints", "prune", c],
    }


def digest(data: bytes) -> dict[str, object]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def with_header(data: bytes, change: Callable[[dict[str, object]], object]) -> bytes:
    """A safetensors file of ours whose header was rewritten by `change`."""
    size = struct.unpack("<Q", data[:8])[0]
    outer = json.loads(data[8 : 8 + size])
    change(outer)
    text = json.dumps(outer).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]
