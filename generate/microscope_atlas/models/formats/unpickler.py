"""Pickles read as data: what is in them is looked at, nothing of it is run.

A pickle is a program for a machine with a stack. This machine has the instructions that tensors, numbers, texts,
tuples, lists and dictionaries are written with, and no others. A name that a pickle asks for is looked up among those
that the caller knows, never imported. Python's pickletools describes the instructions, and parses them here.
"""

import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from microscope_atlas.models.formats.protobuf import Malformed

MOST = 1_000_000  # instructions; OpenAI's largest file has some 50,000
PLAIN = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
MADE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MOVES = {
    *("PROTO", "FRAME", "STOP", "MARK", "TUPLE", "APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"),
}
OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
INSTRUCTIONS = PLAIN | MADE.keys() | TUPLES.keys() | MOVES
MARK = object()


class Refused(Malformed):
    """A name that no data needs."""


@dataclass(eq=False)
class Record:
    """An object of a type that is a name and nothing more: its attributes."""

    state: dict[str, Any] = field(default_factory=dict)


class Rebuilt:
    """An object that a function of ours makes, and that a pickle then gives its state."""

    def set_state(self, state: Any) -> None:
        """Take it, or raise Malformed."""
        raise Malformed("its pickle gives an object a state that it does not have")


@dataclass(frozen=True)
class Known:
    """What a name stands for that a pickle may ask for."""

    value: Any = None  # it is this
    call: Callable[..., Any] | None = None  # or a function of ours
    record: bool = False  # or a type of Record


class Machine:
    """Reads one pickle: `find` says what a name stands for, None where refused; `load`, what a persistent id does."""

    def __init__(self, find: Callable[[str], Known | None], load: Callable[[Any], Any]):
        self.find, self.load = find, load
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, data: bytes) -> Any:
        """What the pickle holds; Malformed where it is no whole pickle of data alone, Refused for a name."""
        try:
            for number, (name, arg) in enumerate(_instructions(data)):
                if number > MOST:
                    raise Malformed(f"it has more than {MOST} instructions")
                if name == "STOP":
                    return self.stack.pop()
                self._step(name, arg)
        except Malformed:
            raise
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise Malformed(f"its pickle is damaged: {error}") from error
        raise Malformed("its pickle has no end")

    def _step(self, name: str, arg: Any) -> None:
        """One instruction."""
        stack = self.stack
        if name in PLAIN:
            stack.append(arg)
        elif name in MADE:
            stack.append(MADE[name]())
        elif name in TUPLES:
            self._join(TUPLES[name])
        else:
            self._move(name, arg)

    def _move(self, name: str, arg: Any) -> None:
        """One instruction that works on what is there."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                stack.append(MARK)
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "APPEND" | "APPENDS":
                values = self._marked() if name == "APPENDS" else [stack.pop()]
                self._top(list).extend(values)
            case "SETITEM" | "SETITEMS":
                values = self._marked() if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
                self._set(values)
            case "BINPUT" | "LONG_BINPUT":
                self.memo[arg] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[arg])
            case "GLOBAL":
                self._global(arg)
            case "STACK_GLOBAL":
                last, module = stack.pop(), stack.pop()
                self._global(f"{module}.{last}" if isinstance(last, str) and isinstance(module, str) else "no name")
            case "REDUCE":
                self._reduce()
            case "NEWOBJ":
                self._new()
            case "BUILD":
                self._build()
            case "BINPERSID":
                stack.append(self.load(stack.pop()))

    def _join(self, count: int) -> None:
        if len(self.stack) < count:
            raise Malformed("its pickle takes more than it has put down")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _marked(self) -> list[Any]:
        """What was put down since the last mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:  # IndexError without one
            at -= 1
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise Malformed(f"its pickle takes a {type(self.stack[-1]).__name__} for a {kind.__name__}")
        return self.stack[-1]

    def _global(self, name: str) -> None:
        known = self.find(name)
        if known is None:
            raise Refused(
                f"it asks for {name}, which is code; tensors, numbers, texts, lists and dictionaries alone are read, "
                "and nothing is run"
            )
        self.stack.append(known if known.call or known.record else known.value)

    def _known(self, what: str) -> Known:
        known = self.stack.pop()
        if not isinstance(known, Known):
            raise Malformed(f"its pickle {what} a {type(known).__name__}")
        return known

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        known = self._known("calls")
        if known.call is None or not isinstance(arguments, tuple):
            raise Malformed("its pickle calls what is no function")
        self.stack.append(known.call(*arguments))

    def _new(self) -> None:
        arguments = self.stack.pop()
        if not self._known("makes an object of").record or arguments != ():
            raise Malformed("its pickle makes an object of what is no type")
        self.stack.append(Record())

    def _build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Rebuilt):
            self.stack[-1].set_state(state)
            return
        if not isinstance(state, dict):
            raise Malformed(f"its pickle gives an object a {type(state).__name__} for its attributes")
        if not isinstance(self.stack[-1], dict):  # what state dicts say of themselves is none of their tensors
            self._top(Record).state = state

    def _set(self, values: list[Any]) -> None:
        items, into = list(zip(values[::2], values[1::2], strict=True)), self._top(dict)
        for key, value in items:
            if not isinstance(key, str | int):
                raise Malformed(f"its pickle has a {type(key).__name__} for a key")
            into[key] = value


def _instructions(data: bytes) -> Iterator[tuple[str, Any]]:
    """The pickle's instructions by name, and what each carries; Malformed for one that is not known here."""
    stream = io.BytesIO(data)
    while code := stream.read(1):
        opcode = OPCODES.get(code.decode("latin-1"))
        if opcode is None:
            raise Malformed(f"its pickle is damaged: {code!r} is no instruction")
        if opcode.name not in INSTRUCTIONS:
            raise Malformed(f"its pickle has the instruction {opcode.name}, which no data needs")
        if opcode.name == "GLOBAL":  # two lines; pickletools would have escapes in them
            yield opcode.name, ".".join(stream.readline().removesuffix(b"\n").decode() for _ in range(2))
        else:
            yield opcode.name, opcode.arg.reader(stream) if opcode.arg else None
