"""What goes wrong gives the right exit code, one message and no traceback; with --json one document on stdout."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resnetcli.cli.failures import BROKEN_PIPE, explain, fail, wants_json
from resnetcli.cli.runs import RECENT_SECONDS
from resnetcli.cli.session import Session
from resnetcli.errors import Interrupted, ResnetCliError, StorageError

Cli = Callable[..., Any]

# Made by the fixture `material`: text.txt (no checkpoint), empty (0 bytes), folder/, old/report.json, bad.toml
CASES: list[tuple[str, int, str]] = [
    # nothing, or the wrong word
    ("trian", 2, "no such command 'trian': did you mean train?"),
    ("checkpoints verfy x", 2, "did you mean verify?"),
    ("--bogus", 2, "no such option --bogus"),
    ("train --epoch 5", 2, "did you mean --epochs?"),
    ("train surplus", 2, "surplus"),
    ("train --epochs", 2, "requires an argument"),
    ("inspect --device cpu", 2, "no such option --device"),
    # train
    ("train --lr -1", 2, "--lr -1: must be greater than 0"),
    ("train --lr abc", 2, "--lr abc: must be a number"),
    ("train --lr nan", 2, "--lr nan: must be finite"),
    ("train --lr 1e999", 2, "--lr 1e999: must be finite"),
    ("train --epochs 0", 2, "--epochs 0: must be greater than or equal to 1"),
    ("train --epochs 99999999999999999999999999", 2, "--epochs 99999999999999999999999999: must be"),
    ("train --epochs 1.5", 2, "--epochs 1.5: must be a whole number"),
    ("train --device gpu", 2, "--device gpu: "),
    ("train --optimizer sdg", 2, "did you mean sgd?"),
    ("train --grad-accum 7 --batch-size 8", 2, "grad_accum 7 does not divide batch_size 8"),
    ("train --epochs 1 --warmup-epochs 2", 2, "warmup_epochs 2 is longer than epochs 1"),
    ("train --budget 15 --epochs 3", 2, "--budget 15 beside --epochs 3: a budget chooses it"),
    ("train --budget 0", 2, "--budget 0: must be greater than 0"),
    ("train --budgte 15", 2, "did you mean --budget?"),
    ("train --resume folder --budget 15", 2, "--budget with --resume: a resumed run keeps its settings"),
    ("train --name ../up", 2, "--name ../up: "),
    ("train --name=", 2, "--name got an empty value"),
    ("train --recipe nope", 2, "unknown recipe 'nope'"),
    ("train --recipe nope.toml", 2, "nope.toml: no such file"),
    ("train --recipe folder/", 2, "not a file"),
    ("train --config nope.toml", 2, "nope.toml: no such file"),
    ("train --config folder", 2, "not a file"),
    ("train --config empty.json", 2, "not valid JSON"),
    ("train --config bad.toml", 2, "did you mean epochs?"),
    ("train --resume folder --lr 1", 2, "--lr with --resume: a resumed run keeps its settings"),
    ("train --resume folder --config bad.toml", 2, "--config with --resume"),
    ("train --resume folder --dry-run", 2, "--dry-run with --resume"),
    (
        "train --resume folder --epochs 5",
        2,
        "with --extend which learning rates the run then takes: stretch, restart, c",
    ),
    (
        "train --resume folder --epochs 5 --extend strech",
        2,
        "--extend strech: must be one of stretch, restart, constant",
    ),
    ("train --resume folder --epochs x --extend stretch", 2, "--epochs x: must be a whole number"),
    ("train --resume folder --epochs 0 --extend stretch", 2, "--epochs 0: must be greater than or equal to 1"),
    ("train --resume folder --extend stretch", 2, "--extend stretch: to how many epochs?"),
    ("train --resume folder --epochs 5 --extend stretch --lr 1", 2, "--lr with --resume: a resumed run keeps"),
    ("train --dry-run --resume folder --epochs 5 --extend stretch", 4, "folder: not a run directory"),
    ("train --resume folder --epochs 5 --extend stretch", 4, "folder: not a run directory"),
    ("train --extend stretch", 2, "--extend stretch: only a run that is there can be extended"),
    ("train --resume folder --threads -1", 2, "--threads -1: must be"),
    ("train --resume folder", 4, "folder"),
    ("train --resume nowhere", 4, "nowhere"),
    # evaluate
    ("evaluate --data cifar10-mini --split val", 2, "pretrained held out no images of cifar10-mini"),
    ("evaluate nowhere", 4, "nowhere"),
    ("evaluate text.txt", 4, "text.txt"),
    ("evaluate empty.json", 4, "empty.json"),
    ("evaluate folder", 4, "folder"),
    ("evaluate x --output old", 2, "nothing is overwritten"),
    ("evaluate x --output text.txt", 2, "--output text.txt: is a file"),
    ("evaluate a b", 2, "unexpected extra argument"),
    ("evaluate x --split tset", 2, "did you mean test?"),
    ("evaluate x --tta flp", 2, "--tta flp: must be one of none, flip, shift: did you mean flip?"),
    ("evaluate x --data cifar", 2, "--data cifar: must be one of cifar10, cifar10-mini: did you mean cifar10?"),
    ("evaluate x --threads -1", 2, "--threads -1: must be greater than or equal to 0"),
    ("evaluate x --threads 1e9", 2, "--threads 1e9: must be a whole number"),
    # compare
    ("compare", 2, "no checkpoint given, and two are compared"),
    ("compare a", 2, "only one checkpoint given, a"),
    ("compare pretrained nowhere", 4, "nowhere"),
    ("compare a b c", 2, "unexpected extra argument"),
    ("compare nowhere text.txt", 4, "nowhere"),
    ("compare text.txt nowhere", 4, "text.txt"),
    ("compare a b --shw 3", 2, "did you mean --show?"),
    ("compare a b --show -1", 2, "--show -1: must be"),
    ("compare a b --split tset", 2, "did you mean test?"),
    ("compare a b --data cifar100", 2, "--data cifar100: must be one of"),
    ("compare a b --output old", 2, "nothing is overwritten"),
    ("compare a b --output text.txt", 2, "--output text.txt: is a file"),
    # predict
    ("predict", 2, "no picture given"),
    ("predict a.png --checkpoint nowhere", 4, "nowhere"),
    ("predict a.png --checkpoint x --top-k 0", 2, "--top-k 0: must be"),
    ("predict a.png --checkpoint x --json --format csv", 2, "contradict each other"),
    ("predict a.png --checkpoint x --format xml", 2, "--format xml: must be one of table, json, jsonl, csv"),
    # inspect
    ("inspect nowhere", 4, "nowhere"),
    ("inspect text.txt", 4, "text.txt"),
    ("inspect --depth 0", 2, "--depth 0: must be"),
    ("inspect --batch-size 99999999", 2, "--batch-size 99999999: must be"),
    ("inspect --shortcut identiti", 2, "did you mean identity?"),
    ("inspect runs/a --shortcut identity", 2, "the checkpoint runs/a: a checkpoint brings its own network"),
    ("inspect ./pretrained", 4, "pretrained: no such checkpoint"),
    # bench
    ("bench nothing", 2, "no such command 'nothing'"),
    ("bench train --round 2", 2, "did you mean --rounds?"),
    ("bench train --epochs 2", 2, "no such option --epochs"),
    ("bench train --rounds 0", 2, "--rounds 0: must be"),
    ("bench train --seconds 0", 2, "--seconds 0: must be greater than 0"),
    ("bench train --recipe nope", 2, "unknown recipe 'nope'"),
    ("bench train --config bad.toml", 2, "did you mean epochs?"),
    ("bench infer --device cuda:99", 2, "--device cuda:99: not on this machine"),
    ("bench infer --batch-size 2", 2, "no such option --batch-size"),
    # data
    ("data nothing", 2, "no such command 'nothing'"),
    ("data download --source ftp", 2, "--source ftp: must be one of"),
    ("data verify --data cifar100", 2, "--data cifar100: must be one of"),
    ("data show --count 0", 2, "--count 0: must be"),
    # checkpoints
    ("checkpoints list runs --output-dir folder", 2, "--output-dir beside runs"),
    ("checkpoints list --output-dir text.txt", 7, "text.txt"),
    ("checkpoints list nowhere", 4, "nowhere"),
    ("checkpoints show text.txt", 4, "text.txt"),
    ("checkpoints prune folder --keep-last 0", 2, "--keep-last 0: must be"),
    ("checkpoints prune folder", 4, "folder"),
    ("checkpoints export nowhere out.safetensors", 4, "nowhere"),
    ("checkpoints export nowhere", 2, "missing argument 'OUT.safetensors'"),
    ("checkpoints export pretrained out.safetensors --dtype fp8", 2, "--dtype fp8: must be one of fp32, fp16, bf16"),
    ("checkpoints export pretrained out.bin", 2, "out.bin: .bin names another format than safetensors"),
    ("checkpoints export pretrained out.onnx.safetensors", 2, ".onnx names another format than safetensors"),
    ("checkpoints export pretrained v1.2", 2, "ends in .safetensors"),
    ("checkpoints list pretrained", 4, "pretrained: not a run directory"),
    ("train --init ./pretrained", 4, "pretrained: no such checkpoint"),
]


@pytest.fixture(autouse=True)
def material(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "report.json").write_text("{}")
    (tmp_path / "text.txt").write_text("this is no checkpoint")
    (tmp_path / "empty.json").write_bytes(b"")
    (tmp_path / "bad.toml").write_text("epoch = 3\n")


TEXT_CASES = [case for case in CASES if "--json" not in case[0]]


@pytest.mark.parametrize(("line", "code", "message"), TEXT_CASES, ids=[line for line, _, _ in TEXT_CASES])
def test_a_mistake_gives_its_code_and_one_message(line: str, code: int, message: str, cli: Cli) -> None:
    outcome = cli(*line.split())
    assert outcome.code == code
    assert outcome.out == ""
    assert message in outcome.err
    assert outcome.err.count("error: ") == 1
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(("line", "code", "message"), CASES, ids=[line for line, _, _ in CASES])
def test_with_json_the_same_mistake_is_one_document_on_stdout(line: str, code: int, message: str, cli: Cli) -> None:
    if line.split()[-1].startswith("--") and "=" not in line:
        line = f"--json {line}" if line != "train --epochs" else "train --json --epochs"
    else:
        line = f"{line} --json"
    outcome = cli(*line.split())
    document = json.loads(outcome.out)
    assert document["schema_version"] == 2
    assert message in document["error"]["message"] or "--json" in document["error"]["message"]
    assert document["error"]["exit_code"] == outcome.code == code
    assert "Traceback" not in outcome.err


def test_the_hint_names_the_newest_run(cli: Cli, tmp_path: Path) -> None:
    for age, name in ((2, "old-1"), (1, "fast-1")):
        (tmp_path / "runs" / name / "checkpoints").mkdir(parents=True)
        os.utime(tmp_path / "runs" / name, (1e9 - age, 1e9 - age))
    assert "resnetcli compare runs/fast-1 pretrained" in cli("compare").err
    assert "resnetcli compare pretrained runs/fast-1" in cli("compare", "pretrained").err


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("evaluate --split tset", "add 'runs/my run' for"),
        ("predict a.png --tta flip --top-k 0", "add --checkpoint 'runs/my run' for"),
        ("inspect --depth 0", "add 'runs/my run' for"),
    ],
)
def test_who_has_just_trained_is_told_what_is_taken_and_what_to_add(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, added: str
) -> None:
    step = tmp_path / "runs" / "my run" / "checkpoints" / "step-0000001"
    step.mkdir(parents=True)
    taken = "no checkpoint given: pretrained is taken"
    assert taken not in cli(*line.split()).err  # a script knows what it calls
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert f"{taken}; {added} the newest run here" in cli(*line.split()).err
    assert taken not in cli(*line.split(), "--quiet").err
    assert taken not in cli("inspect", "--depth", "0", "--shortcut", "identity").err
    yesterday = time.time() - RECENT_SECONDS - 60
    os.utime(step, (yesterday, yesterday))
    assert taken not in cli(*line.split()).err
    step.rmdir()
    assert taken not in cli(*line.split()).err


def test_damaged_packaged_weights_are_a_checkpoint_error(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resnetcli.checkpoints import packaged

    folder = shutil.copytree(packaged.FOLDER, tmp_path / "weights")
    monkeypatch.setattr(packaged, "FOLDER", folder)
    (folder / "pretrained.safetensors").write_bytes(b"short")
    for line in (
        "inspect",
        "predict x.png",
        "evaluate",
        "compare pretrained pretrained",
        "checkpoints show pretrained",
    ):
        outcome = cli(*line.split())
        assert outcome.code == 4
        assert "the packaged weights are damaged" in outcome.err
        assert "install resnetcli again" in outcome.err


def test_a_current_folder_that_was_deleted_is_said(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    outcome = cli("evaluate")
    monkeypatch.chdir(tmp_path)
    assert outcome.code == 7
    assert "the current folder does not exist any more" in outcome.err


def test_an_optimizer_that_takes_the_recipes_learning_rate_or_no_decay_is_warned_of(cli: Cli) -> None:
    line = "train --output-dir text.txt --optimizer adamw --lookahead 0"
    err = cli(*line.split()).err
    assert "warning: lr 0.08 is that of recipe fast for muon: choose one with --lr" in err
    assert "warning: --optimizer adamw is adam as long as --weight-decay is 0" in err
    assert "warning" not in cli(*line.split(), "--lr", "0.003", "--weight-decay", "0.05").err
    assert "warning" not in cli(*["train", "--output-dir", "text.txt", "--optimizer", "muon"]).err


def test_rates_that_are_scaled_for_the_batch_size_are_said(cli: Cli) -> None:
    line = ("train", "--output-dir", "text.txt", "--batch-size", "32")
    said = (
        "lr 0.02, sgd_lr 0.003: scaled for batches of 32 from those of recipe fast for 512; --lr and --sgd-lr to choose"
    )
    assert said in cli(*line).err
    assert (
        "sgd_lr 0.003: scaled for batches of 32 from those of recipe fast for 512; --sgd-lr"
        in cli(*line, "--lr", "1").err
    )
    assert "scaled for" not in cli(*line, "--lr", "1", "--sgd-lr", "1").err
    assert "scaled for" not in cli(*line[:-1], "512").err
    Path("own.toml").write_text("lr = 0.08")
    assert "lr 0.08 of --config is not scaled for --batch-size 32" in cli(*line, "--config", "own.toml").err


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_a_recipe_for_trained_weights_that_starts_from_nothing_is_warned_of(cli: Cli, dry_run: tuple[str, ...]) -> None:
    line = ("train", "--output-dir", "text.txt", *dry_run, "--recipe")
    err = cli(*line, "best").err
    assert "warning: recipe best was only measured from trained weights, and this run starts from nothing" in err
    assert "--recipe balanced is the one for that, or name weights with --init" in err
    assert "warning" not in cli(*line, "best", "--init", "pretrained").err
    assert "warning" not in cli(*line, "balanced").err


def test_a_wrong_variable_is_named_as_a_variable_and_a_flag_beats_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETCLI_DEPTH", "deep")
    assert "RESNETCLI_DEPTH=deep: must be a whole number" in cli("inspect").err
    assert "--depth 0: must be" in cli("inspect", "--depth", "0").err
    monkeypatch.setenv("RESNETCLI_FLIP", "maybe")
    assert "RESNETCLI_FLIP=maybe: must be true or false" in cli("train").err


def test_an_unknown_variable_is_a_warning_and_no_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETCLI_LRR", "1")
    outcome = cli("inspect", "--depth", "0")
    assert "did you mean RESNETCLI_LR?" in outcome.err
    assert outcome.code == 2


def test_a_full_disk_is_exit_7_and_names_the_file() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "runs/a")
    explained = explain(error, Session())
    assert isinstance(explained, StorageError)
    assert (explained.exit_code, explained.message) == (7, "runs/a: No space left on device")


def test_a_bug_is_exit_1_and_asks_for_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(ZeroDivisionError("by zero"), Session(), []) == 1
    err = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: by zero" in err
    assert "--debug" in err
    assert "Traceback" not in err


def test_signals_give_the_codes_that_shells_expect(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(KeyboardInterrupt(), Session(), []) == 130
    assert fail(Interrupted(signal.SIGTERM, "interrupted by SIGTERM"), Session(), []) == 143
    session = Session()
    session.stop.signum = signal.SIGINT
    assert fail(ImportError("an import that a signal broke"), session, []) == 130
    assert capsys.readouterr().err.count("stopped: ") == 3


@pytest.mark.parametrize("switch", ["--debug", "--quiet"])
def test_a_name_in_a_message_or_a_traceback_is_no_order_to_the_terminal(cli: Cli, switch: str) -> None:
    outcome = cli(switch, "evaluate", "\x1b]0;owned\x07\u202e\u2028\U000e0041")
    assert outcome.code == 4
    assert ("Traceback" in outcome.err) == (switch == "--debug")
    assert "?]0;owned???" in outcome.err
    assert not set(outcome.err) & set("\x1b\x07\u202e\u2028\U000e0041")


def test_where_no_temporary_file_can_be_made_the_mend_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/none"])
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.gettempdir()
    assert fail(caught.value, Session(), []) == 7
    assert "TMPDIR" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(BrokenPipeError(), Session(), []) == BROKEN_PIPE
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("sink", "code", "message"),
    [("closed pipe", BROKEN_PIPE, ""), ("full disk", 7, "No space left on device")],
)
def test_stdout_that_takes_nothing(sink: str, code: int, message: str) -> None:
    if sink == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-m", "resnetcli", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.count("error: ") == bool(message)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("line", "code", "closed"),
    [
        *(("--help", 0, closed) for closed in ((0,), (1,), (2,), (1, 2), (0, 1, 2))),
        *(("inspect --shortcut identity --json", 0, closed) for closed in ((1,), (0, 1, 2))),
        *(("inspect nothing --json", 4, closed) for closed in ((2,), (0, 1, 2))),
    ],
)
def test_streams_that_the_caller_has_closed(tmp_path: Path, line: str, code: int, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    said = tmp_path / "said"
    with said.open("wb") as file:
        command = [sys.executable, "-m", "resnetcli", *line.split()]
        done = subprocess.run(command, stdout=file, stderr=file, preexec_fn=close, check=False)
    assert done.returncode == code
    assert "Traceback" not in said.read_text()


def test_every_expected_error_keeps_its_code() -> None:
    for kind in (ResnetCliError, *ResnetCliError.__subclasses__()):
        if kind is not Interrupted:
            assert explain(kind("x"), Session()).exit_code == kind.exit_code


@pytest.mark.parametrize(
    ("line", "environ", "expected"),
    [
        ("train --json", {}, True),
        ("train", {}, False),
        ("train", {"RESNETCLI_JSON": "1"}, True),
        ("predict a --format json", {}, True),
        ("predict a --format=json", {}, True),
        ("predict a --format csv", {"RESNETCLI_FORMAT": "json"}, False),
        ("predict a", {"RESNETCLI_FORMAT": "json"}, True),
        ("predict -- --json", {}, False),
    ],
)
def test_whether_errors_are_json(line: str, environ: dict[str, str], expected: bool) -> None:
    assert wants_json(line.split(), environ) is expected
