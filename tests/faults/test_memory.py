"""No memory left: said plainly, with the flag that needs less; nothing about the run is changed behind its back."""

from __future__ import annotations

import json
import resource
from functools import partial
from pathlib import Path

import pytest

from resnetcli.checkpoints.manager import newest_intact, step_folders
from resnetcli.errors import is_out_of_memory
from tests.faults.children import resnetcli, train_arguments

SETTINGS: dict[str, object] = {
    "limit_train": 128, "batch_size": 64, "epochs": 1, "branch_scale": 0.3, "optimizer": "sgd", "lr": 0.02,
    "precision": "fp32", "threads": 1, "save_every": 0, "json": True,
}  # fmt: skip
FAULT = "no memory left, of the device or of the process"
OUTCOME = "exit 2 with the flag that needs less; the batch is not changed; what was saved is whole"

SAID = (
    ("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 8 GiB"),
    ("RuntimeError", "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ("RuntimeError", "CUDA error: out of memory"),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ("RuntimeError", "MPS backend out of memory (MPS allocated: 5.05 GB, max allowed: 5.1 GB)"),
    ("RuntimeError", "std::bad_alloc"),
    ("MemoryError", "Unable to allocate 1.72 GiB for an array"),
)


def fail_at(step: int, kind: str, text: str) -> None:
    """In a child: the forward pass of step `step` (from 1) finds no memory."""
    import torch
    from torch import nn

    from resnetcli.models.resnet import ResNet

    error = (
        torch.OutOfMemoryError if kind.startswith("torch") else {"RuntimeError": RuntimeError}.get(kind, MemoryError)
    )
    forward, calls = ResNet.forward, []

    def failing(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        if len(calls) == step:
            raise error(text)
        return forward(self, images)

    ResNet.forward = failing


def limit(spare: int) -> None:
    """In a child: so many bytes of address space beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + spare
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def assert_told(ended, wanted):
    error = json.loads(ended.out)["error"]
    assert (ended.code, error["kind"]) == (2, "memory"), error["message"]
    assert "not enough memory" in error["message"]
    assert wanted in error["hint"]
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(("kind", "text"), SAID, ids=[text[:30] for _, text in SAID])
def test_a_run_without_memory_names_the_flag_that_needs_less(tmp_path, broke, kind, text):
    ended = resnetcli(train_arguments("run", **SETTINGS), tmp_path, prepare=partial(fail_at, 2, kind, text))
    assert_told(ended, "--grad-accum 2 computes the batch in 2 parts")
    assert text[:40] in json.loads(ended.out)["error"]["message"]
    assert [p.name for p in step_folders(tmp_path / "run")] == ["step-0000000", "step-0000001"]
    _, snapshot = newest_intact(tmp_path / "run")
    assert (snapshot.header.config["batch_size"], snapshot.header.config["grad_accum"]) == (64, 1)
    broke(16, FAULT, 1, OUTCOME)


def test_the_next_command_is_the_one_that_the_hint_names(tmp_path):
    settings = SETTINGS | {"grad_accum": 2, "batch_size": 60}
    broken = partial(fail_at, 1, "MemoryError", "no")
    ended = resnetcli(train_arguments("run", **settings), tmp_path, prepare=broken)
    assert_told(ended, "--grad-accum 4 computes the batch in 4 parts")
    hint = json.loads(ended.out)["error"]["hint"]
    command = hint.partition("resnetcli ")[2].partition(";")[0]
    again = resnetcli([*command.split(), "--json"], tmp_path)
    assert again.code == 0, again.err
    assert json.loads(again.out)["steps"] == 3
    previewed = resnetcli([*train_arguments("other", **settings), "--dry-run"], tmp_path, prepare=broken)
    assert_told(previewed, "--grad-accum 4")


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_measuring_and_predicting_say_it_too(tmp_path, broke, command):
    ended = resnetcli(train_arguments("run", **SETTINGS | {"epochs": 1}), tmp_path)
    assert ended.code == 0, ended.err
    picture = Path("examples/images/cat.png").absolute()
    argv = ["evaluate", "run"] if command == "evaluate" else ["predict", str(picture), "--checkpoint=run"]
    assert_told(resnetcli([*argv, "--json"], tmp_path, prepare=partial(no_inference)), "--device cpu")
    broke(16, FAULT, 1, "exit 2 with a clear message")


def no_inference() -> None:
    """In a child: inference finds no memory."""
    import torch

    from resnetcli.models.inference import InferenceNetwork

    def failing(self: object, images: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    InferenceNetwork.forward = failing


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError(28, "No space left on device"))


@pytest.mark.full
@pytest.mark.parametrize("spare", [2**20 * n for n in (40, 80, 160, 320, 640)])
def test_a_process_that_gets_no_more_memory_from_the_kernel(tmp_path, broke, spare):
    settings = SETTINGS | {"batch_size": 1024, "limit_train": 1024, "branch_scale": 0.3}
    ended = resnetcli(train_arguments("run", **settings), tmp_path, small=False, prepare=partial(limit, spare))
    assert ended.out, ended
    error = json.loads(ended.out)["error"]  # on stderr libraries may say what they like: safetensors panics aloud
    assert (ended.code, error["kind"]) == (2, "memory"), error["message"]
    assert "not enough memory" in error["message"]
    if (tmp_path / "run").exists() and step_folders(tmp_path / "run"):
        newest_intact(tmp_path / "run")
    broke(16, FAULT, 1, OUTCOME)
