"""NaN and Inf in loss and gradient at the first, a middle and the last step of a run."""

from __future__ import annotations

import json
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from resnetcli.checkpoints.manager import read_best, read_snapshot, step_folders
from resnetcli.errors import DivergedError
from tests.engine.test_guard import guarded, poison
from tests.engine.test_loop import CONFIG, run, trainer
from tests.faults.children import resnetcli, train_arguments

SETTINGS: dict[str, object] = {
    "limit_train": 64, "batch_size": 16, "epochs": 2, "branch_scale": 0.3, "lr": 0.02, "precision": "fp32",
    "threads": 1, "schedule": "constant", "save_every": 0,
}  # fmt: skip
STEPS = (1, 5, 8)
FAULT = "NaN or Inf in loss or gradient at the first, a middle and the last step"
OUTCOME = "exit 5 before the weights change; step, lr and next command named; never best, all checkpoints finite"


def spoil_step(at: int, value: float, where: str) -> None:
    """In a child: the loss of step `at` (from 1), or every entry of its gradient, is multiplied by `value`."""
    import torch.nn.functional as F

    from resnetcli.engine import loop

    calls = []

    def cross_entropy(logits, *args, **kwargs):
        calls.append(None)
        if len(calls) == at and where == "gradient":
            logits.register_hook(lambda gradient: gradient * value)
        loss = F.cross_entropy(logits, *args, **kwargs)
        return loss * value if len(calls) == at and where == "loss" else loss

    loop.F = SimpleNamespace(cross_entropy=cross_entropy)


def assert_diverged(folder, at, value, where, optimizer):
    folder.mkdir()
    argv = train_arguments("run", optimizer=optimizer, json=True, **SETTINGS)
    ended = resnetcli(argv, folder, prepare=partial(spoil_step, at, value, where))
    error = json.loads(ended.out)["error"]
    assert (ended.code, error["kind"], error["exit_code"]) == (5, "diverged", 5)
    assert f"epoch {1 + (at - 1) // 4}, step {1 + (at - 1) % 4} (lr 0.02)" in error["message"]
    assert "resnetcli train --config run/config.json --name run-again --lr 0.005" in error["hint"]
    saved = step_folders(folder / "run")
    assert saved[-1].name == f"step-{at - 1:07d}"  # the last step before it, since all are saved
    for checkpoint in saved:
        snapshot = read_snapshot(checkpoint)
        for tensor in (*snapshot.model.values(), *snapshot.trainer.values()):
            assert torch.isfinite(tensor).all()
    assert all(math.isfinite(v) for v in read_best(folder / "run")[2].metrics.values())
    again = resnetcli([*error["hint"].partition("resnetcli ")[2].split(), "--quiet"], folder)
    assert again.code == 0, again.err


@pytest.mark.slow
@pytest.mark.parametrize(("at", "value", "where"), [(1, math.inf, "gradient"), (5, math.nan, "loss")])
def test_a_run_that_diverges_ends_before_its_weights_do(tmp_path, broke, at, value, where):
    assert_diverged(tmp_path / "case", at, value, where, "muon")
    broke(11, FAULT, 1, OUTCOME)


@pytest.mark.full
@pytest.mark.parametrize("optimizer", ["sgd", "muon", "adam", "adamw"])
def test_every_optimiser_at_every_kind_of_divergence(tmp_path, broke, optimizer):
    cases = [(at, value, where) for at in STEPS for value in (math.nan, math.inf) for where in ("loss", "gradient")]
    for i, case in enumerate(cases):
        assert_diverged(tmp_path / str(i), *case, optimizer)
    broke(11, FAULT, len(cases), OUTCOME)


def test_on_a_device_that_is_not_asked_the_weights_stay_too(broke):
    cases = 0
    for optimizer in ("sgd", "muon", "adam", "adamw"):
        for at in (0, 14, 29):
            for where in ("loss", "gradient"):
                config = CONFIG.model_copy(update={"optimizer": optimizer, "lookahead": 0})
                clean, t = trainer(config), guarded(config)
                calls = iter(range(100))
                run(clean, stop=lambda at=at, calls=calls: next(calls) == at)
                poison(t, at, math.inf, where)
                with pytest.raises(DivergedError):
                    run(t)
                for p, q in zip(t.model.parameters(), clean.model.parameters(), strict=True):
                    assert torch.equal(p, q)
                cases += 1
    broke(11, "the same where the device itself must hold the step (CUDA; here with a stand-in)", cases, OUTCOME)
