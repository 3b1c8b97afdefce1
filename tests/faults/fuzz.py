"""A fuzzer that goes by coverage, for the parsers of checkpoints and pictures.

    python -m tests.faults.fuzz checkpoints 20000

An input that makes our own code, torch's weights-only unpickler or Pillow's decoders take a branch that none before it
took joins the corpus, and later inputs are made from it. What comes out is a result or an expected error; anything
else is a finding and ends the run with the input that provoked it.
"""

from __future__ import annotations

import io
import json
import random
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

from resnetcli.checkpoints import foreign, manager, reading, vetting
from resnetcli.checkpoints import format as own
from resnetcli.data import archives, images, pickles
from resnetcli.errors import ResnetCliError
from tests.checkpoints.samples import NORMALIZATION
from tests.data.conftest import python2_pickle
from tests.faults.hostile import Call, legacy, zipped
from tests.faults.test_hostile_images import originals

OURS = (foreign, own, manager, reading, vetting, archives, images, pickles)
WATCHED = tuple(module.__file__ for module in OURS if module.__file__)
WATCHED_BELOW = ("torch/_weights_only_unpickler.py", "Plugin.py", "PIL/Image.py", "zipfile.py", "pickletools.py")
WORDS = (
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\x80",
    b"[",
    b"{",
    b'"',
    b"9" * 20,
    b"R",
    b"b",
    b".",
)


@dataclass(frozen=True)
class Fuzzed:
    executions: int
    corpus: int
    """Inputs that took a branch which none before them took; the seeds are among them."""
    branches: int


@contextmanager
def watched(seen: set[tuple[str, int, int]]) -> Iterator[None]:
    """Inside, every step from one line to the next in the files above is added to `seen`."""
    known: dict[str, bool] = {}
    last = 0

    def line(frame: FrameType, event: str, arg: object) -> Callable[..., object]:
        nonlocal last
        seen.add((frame.f_code.co_filename, last, frame.f_lineno))
        last = frame.f_lineno
        return line

    def call(frame: FrameType, event: str, arg: object) -> Callable[..., object] | None:
        name = frame.f_code.co_filename
        if name not in known:
            known[name] = name in WATCHED or name.endswith(WATCHED_BELOW)
        return line if known[name] else None

    before = sys.gettrace()  # a coverage tool's own
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """A few of: another byte, a flipped bit, a telling word, a piece less, a piece twice, a piece of `other`."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at, length = chance.randrange(len(out) + 1), chance.randrange(1, 33)
        match chance.randrange(6):
            case 0:
                out[at : at + 1] = bytes((chance.randrange(256),))
            case 1 if at < len(out):
                out[at] ^= 1 << chance.randrange(8)
            case 2:
                word = chance.choice(WORDS)
                out[at : at + len(word)] = word
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = out[at : at + length]
            case 5 if other:
                start = chance.randrange(len(other))
                out[at : at + length] = other[start : start + length]
    return bytes(out)


def checkpoint_seeds() -> list[bytes]:
    """The first byte chooses what the rest is: a file, a pickle in a zip or legacy file, a header, a batch's pickle."""
    tensors = {
        "fc.weight": torch.zeros(2, 2),
        "layer1.0.bias": torch.zeros(2),
        "module.layer1.1.running_mean": torch.ones(2),
    }
    seeds = []
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save({"state_dict": tensors}, buffer, _use_new_zipfile_serialization=new)
        seeds.append(b"\0" + buffer.getvalue())
    pickled = Call("collections", "OrderedDict").bytes(2)
    header = own.ModelHeader(architecture=own.Architecture(), class_names=("a",) * 10, normalization=NORMALIZATION)
    seeds += [b"\1" + pickled, b"\2" + pickled, b"\1" + Call("os", "system", "x").bytes(2)]
    seeds += [b"\3" + header.model_dump_json().encode(), b"\4" + own.encode(tensors, header)]
    seeds += [b"\5" + python2_pickle(b"\1\2", b"\3" * 8), b"\6" + own.manifest_for({"model.safetensors": b""})]
    return seeds


def read_checkpoint(data: bytes, folder: Path) -> None:
    kind, rest = data[:1], data[1:]
    path = folder / ("x.ckpt" if kind in b"\0\1\2" else "x.safetensors")
    match kind:
        case b"\1":
            rest = zipped(rest, **{"data/0": bytes(16)})
        case b"\2":
            rest = legacy(rest)
        case b"\3":
            text = json.dumps({"__metadata__": {own.HEADER_KEY: rest.decode("latin-1")}}).encode()
            rest = struct.pack("<Q", len(text)) + text
        case b"\5":
            try:
                pickles.read_batch(rest)
            except ValueError:
                return
        case b"\6":
            own.parse(rest, own.Manifest, path)
            return
    path.write_bytes(rest)
    reading.open_checkpoint(str(path), NORMALIZATION)


def read_image(data: bytes, folder: Path) -> None:
    path = folder / "x"
    path.write_bytes(data)
    assert images.decode(path).pixels.shape == (32, 32, 3)


TARGETS: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes, Path], None]]] = {
    "checkpoints": (checkpoint_seeds, read_checkpoint),
    "images": (lambda: [data for _, data in originals()], read_image),
}


def fuzz(target: str, executions: int, seed: int = 0) -> Fuzzed:
    """Raises what a parser raised, with the input as a note, where that is no expected error."""
    seeds, read = TARGETS[target]
    chance, corpus = random.Random(seed), []
    seen: set[tuple[str, int, int]] = set()
    waiting = seeds()
    with tempfile.TemporaryDirectory() as name, images.quiet_decoders():
        for _ in range(executions):
            data = waiting.pop() if waiting else mutate(chance.choice(corpus), chance.choice(corpus), chance)
            before = len(seen)
            try:
                with watched(seen):
                    read(data, Path(name))
            except ResnetCliError:
                pass
            except Exception as error:
                error.add_note(f"the input: {data!r}")
                raise
            if len(seen) > before:
                corpus.append(data)
    return Fuzzed(executions, len(corpus), len(seen))


if __name__ == "__main__":
    print(fuzz(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:])))
