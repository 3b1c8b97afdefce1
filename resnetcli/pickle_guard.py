"""What a pickle would cost and what it would call, found out without building anything of it.

Readers of pickles that execute nothing still work for whoever wrote the file: a megabyte of empty containers becomes
hundreds, a dict of 64,000 integers with one hash takes hours, five bytes that number an object take 4 GB. So the steps
are followed here first, with stand-ins: None for a text or a number, the name of a function, an empty tuple for a
tensor or a short tuple of numbers, and for all else a list of the stand-ins that it holds.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Iterable
from typing import Any, BinaryIO

MAX_OPCODES = 2**17
"""The larger variant with the states of Adam has 27,000, a batch of CIFAR-10 30,000 to 120,000."""
MAX_SHARED = 100
"""Uses of one container by several others, of which neither a state_dict nor a batch has any. What can neither grow
nor hold much does not count: tensors, of which two state_dicts in one file may share all, and short tuples of numbers,
as an optimiser's betas are for each of its groups."""
MAX_SHORT = 8
"""Numbers or texts in such a tuple."""
MAX_NUMBER = 2**64
"""Of the integers below, no more than a few have the same hash."""

_PLAIN = frozenset(
    [
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    ]
)
_EMPTY = frozenset(
    ["EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT", "EMPTY_SET", "PERSID", "NEXT_BUFFER", "EXT1", "EXT2", "EXT4"]
)
_MARK = object()
_HASHES = re.compile(r".*[ .](set|frozenset|Counter)")
_HASHES_FIRSTS = re.compile(r".*[ .](OrderedDict|dict)")
"""Functions that put what they are given, or the first of each pair of it, into a table."""


class Refused(ValueError):
    """Why, to be read after the name of the file, or "it"."""


def check_pickle(stream: BinaryIO, allowed: re.Pattern[str] | None = None, known: int = 0) -> None:
    """Reads one pickle to its end. `allowed` is what it may call, as "module name", None where its reader asks that;
    `known` an integer that it may hold whatever its size.

    Raises Refused for what would be expensive or is not allowed, and whatever a damaged pickle provokes.
    """
    steps = _Steps(allowed, known)
    for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if number >= MAX_OPCODES:
            raise Refused(f"has a pickle of more steps than the {MAX_OPCODES:,} that are read")
        steps.take(opcode.name, argument)


class _Steps:
    """The stack and the memo of a pickle's reader, with stand-ins."""

    def __init__(self, allowed: re.Pattern[str] | None, known: int) -> None:
        self.allowed, self.known = allowed, known
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.shared = 0

    def take(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _PLAIN:
            if isinstance(argument, int) and abs(argument) > MAX_NUMBER and argument != self.known:
                raise Refused("has a number of more than 8 bytes in its pickle")
            stack.append(None)
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.top()
        elif "PUT" in name:
            if int(argument) > MAX_OPCODES:
                raise Refused(f"is hostile: it remembers an object by the number {argument}")
            self.memo[int(argument)] = self.top()
        elif "GET" in name:
            self.share(self.memo[int(argument)])
        elif name == "DUP":
            self.share(self.top())
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "POP":
            stack.pop()
        elif name in ("APPEND", "APPENDS"):
            items = [self.pop()] if name == "APPEND" else self.pop_to_mark()
            if isinstance(target := self.top(), list):
                target.extend(items)
        elif name == "SETITEM":
            self.pop()
            _check_keys([self.pop()])
        elif name == "SETITEMS":
            _check_keys(self.pop_to_mark()[::2])
        elif name == "ADDITEMS":
            _check_keys(self.pop_to_mark())
        elif name == "BUILD":
            state = self.pop()
            for pairs in (state, *(state or ())):  # of its attributes, or two tables of them
                _check_firsts(pairs)
        elif name == "GLOBAL":
            if self.allowed and not self.allowed.fullmatch(argument):
                raise Refused(f"asks for {argument.replace(' ', '.')[:80]!r}, and nothing was executed")
            stack.append(argument)
        elif name not in ("PROTO", "FRAME", "STOP", "READONLY_BUFFER"):
            stack.append(self.made(name, argument))

    def made(self, name: str, argument: Any) -> list[Any] | tuple[()] | None:
        """What steps that make a container or an object leave on the stack."""
        if name == "LIST":
            return self.pop_to_mark()
        if name.startswith("TUPLE"):
            items = self.pop_to_mark() if name == "TUPLE" else [self.pop() for _ in range(int(name[-1]))][::-1]
            return () if len(items) <= MAX_SHORT and all(item is None for item in items) else items
        if name in ("DICT", "FROZENSET"):
            _check_keys(self.pop_to_mark()[:: 2 if name == "DICT" else 1])
        elif name == "INST":
            _check_call(argument, self.pop_to_mark())
        elif name == "OBJ":
            function, *arguments = self.pop_to_mark()
            _check_call(function, arguments)
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            if name == "NEWOBJ_EX":
                self.pop()
            arguments = self.pop()
            function = self.pop()
            if isinstance(function, str) and function.startswith("torch._utils _rebuild_"):
                return ()
            if function == "_codecs encode":  # how Python 3 writes bytes in protocols that have none
                return None
            _check_call(function, arguments)
        elif name in ("STACK_GLOBAL", "BINPERSID"):
            for _ in range(2 if name == "STACK_GLOBAL" else 1):
                self.pop()
        elif name not in _EMPTY:
            raise Refused(f"has a pickle with the step {name}, which no writer of such files takes")
        return []

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise Refused("has a damaged pickle")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        self.stack.pop()
        return value

    def pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def share(self, value: Any) -> None:
        self.shared += isinstance(value, list)
        if self.shared > MAX_SHARED:
            raise Refused("has a pickle that uses the same objects again and again")
        self.stack.append(value)


def _check_keys(keys: Iterable[Any]) -> None:
    """The hashes of texts are known to nobody beforehand, and few numbers of 8 bytes share one; tuples can be made to
    share one all together."""
    if any(key is not None for key in keys):
        raise Refused("has a pickle with keys that are neither texts nor numbers")


def _check_firsts(pairs: Any) -> None:
    if isinstance(pairs, list):
        _check_keys(pair[0] for pair in pairs if isinstance(pair, list) and pair)


def _check_call(function: Any, arguments: Any) -> None:
    if not isinstance(function, str) or not isinstance(arguments, list):
        return
    for argument in arguments:
        if _HASHES.fullmatch(function) and isinstance(argument, list):
            _check_keys(argument)
        elif _HASHES_FIRSTS.fullmatch(function):
            _check_firsts(argument)
