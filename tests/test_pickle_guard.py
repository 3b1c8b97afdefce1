"""What may stand in a pickle that is read, and that what would be expensive is refused before anything is built."""

from __future__ import annotations

import collections
import io
import pickle
import re
from typing import Any

import pytest
import torch

from resnetcli.checkpoints import vetting
from resnetcli.pickle_guard import MAX_OPCODES, Refused, check_pickle

MODULUS = 2**61 - 1
ALL = re.compile(".*")
START = b"\x80\x02"
LONG = b"\x8a\x09" + (2**64 + 1).to_bytes(9, "little")


def tuples(count: int) -> list[tuple[int, ...]]:
    return [(number,) for number in range(count)]


def put_in_calls(name: str, what: Any) -> bytes:
    """A pickle that calls `name` with `what`."""
    return START + b"c" + name.replace(" ", "\n").encode() + b"\n" + pickle.dumps(what, 2)[2:-1] + b"\x85R."


REFUSED = {
    "integers of one hash": (pickle.dumps(dict.fromkeys((i * MODULUS for i in range(200)), 0), 2), "more than 8 bytes"),
    "the same as text": (pickle.dumps(dict.fromkeys((i * MODULUS for i in range(200)), 0), 0), "more than 8 bytes"),
    "a long number": (START + LONG + b".", "more than 8 bytes"),
    "a longer one": (START + b"\x8b\x10\x00\x00\x00" + b"\x7f" * 16 + b".", "more than 8 bytes"),
    "tuples for keys": (pickle.dumps(dict.fromkeys(tuples(3)), 2), "keys that are neither"),
    "one key": (START + b"}" + b"K\x01\x85" + b"Ns.", "keys that are neither"),
    "keys between marks": (START + b"(K\x01\x85Nd.", "keys that are neither"),
    "a set of tuples": (pickle.dumps(set(tuples(3)), 2), "keys that are neither"),
    "the same in protocol 4": (pickle.dumps(set(tuples(3)), 4), "keys that are neither"),
    "a frozen one": (pickle.dumps(frozenset(tuples(3)), 4), "keys that are neither"),
    "counted tuples": (put_in_calls("collections Counter", tuples(3)), "keys that are neither"),
    "pairs": (put_in_calls("collections OrderedDict", [[key, 0] for key in tuples(3)]), "keys that are neither"),
    "attributes": (START + b"]" + pickle.dumps([[(1,), 0]], 2)[2:-1] + b"b.", "keys that are neither"),
    "attributes in two tables": (
        START + b"]" + pickle.dumps((["ab", [(1,), 0]], None), 2)[2:-1] + b"b.",
        "keys that are neither",
    ),
    # The list is filled after the tuple of arguments that it is in was kept.
    "a list that is filled later": (
        START + b"]q\x01\x85q\x020ccollections\nCounter\nh\x01K\x01\x85a0h\x02R.",
        "keys that are neither",
    ),
    "steps": (START + b"}0" * (MAX_OPCODES // 2) + b"N.", "more steps"),
    "empty containers": (START + b"]" * MAX_OPCODES + b".", "more steps"),
    "a large number in the memo": (START + b"Nr\x00\x00\x00\x10.", "by the number 268435456"),
    "copies of one list": (START + b"]q\x01" + b"h\x01" * 101 + b".", "again and again"),
    "copies of the topmost": (START + b"]" + b"2" * 101 + b".", "again and again"),
    "a mark for a value": (START + b"((R.", "damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_expensive_is_refused_by_name(name: str) -> None:
    data, said = REFUSED[name]
    with pytest.raises(Refused, match=said):
        check_pickle(io.BytesIO(data), ALL)


def test_what_is_not_allowed_is_not_called() -> None:
    with pytest.raises(Refused, match=r"asks for 'os\.system', and nothing was executed"):
        check_pickle(io.BytesIO(b"cos\nsystem\n."), re.compile("collections OrderedDict"))


def plain_things() -> list[object]:
    ordered = collections.OrderedDict([("a", 1), ("b", [])])
    kept = [1, -(2**63), 2**64 - 1, 1.5, "text", b"bytes", None, True, (), (1, (2, [3])), {"a": {0: {"b": ()}}}]
    return [*kept, ordered, collections.Counter({30: 1}), {1, 2, "c"}, frozenset({1}), {0.5: 1, None: 2, b"k": 3}]


@pytest.mark.parametrize("protocol", range(6))
def test_what_checkpoints_hold_passes_in_every_protocol(protocol: int) -> None:
    data = pickle.dumps(plain_things(), protocol)
    stream = io.BytesIO(data + b"rest")
    check_pickle(stream)
    assert stream.read() == b"rest"


def test_a_model_with_the_states_of_an_optimiser_passes_in_both_formats_of_torch(tmp_path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60])
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    states = [part.state_dict() for part in (model, optimizer, schedule)]
    for zipped in (True, False):
        torch.save({"parts": states, "seed": 2**64 - 1}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        read = torch.load(vetting.vetted_copy(tmp_path / "a.pt"), weights_only=True)
        assert read["seed"] == 2**64 - 1
        assert read["parts"][2] == states[2]
