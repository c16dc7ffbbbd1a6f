"""The tables of the file, made of option classes: their keys, types, defaults and words."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import os
import re
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from netring_bpf.errors import OptionError, did_you_mean
from netring_bpf.events.event import CoreEvent, event_name
from netring_bpf.ring.options import PRESETS, TpacketOptions, XdpOptions
from netring_bpf.sinks.mqtt_options import MqttOptions

__all__ = [
    "REQUIRED",
    "Choice",
    "Field",
    "Kind",
    "Many",
    "Maybe",
    "Table",
    "UnfitError",
    "rule_of",
    "table_of",
]

REQUIRED: Final = object()  #: the default of a key that must be given
NONE: Final = "none"  #: stands for None, where a key has another default
_NAME: Final = r"``(\w+)``"
_NAMED: Final = re.compile(rf"(?:^|(?<=\s)){_NAME}(?:(?:,| or| and) {_NAME})*: ?")
_SENTENCE: Final = re.compile(r"(?<=[.;]) (?=[A-Z`])")


class UnfitError(ValueError):
    """A value that a key cannot take; ``within``: the place inside of a list."""

    def __init__(self, message: str, within: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.within = within


# -- kinds of values --


class Kind(ABC):
    """A type of values: how TOML writes them."""

    wanted: str  #: in words, behind "must be"

    @abstractmethod
    def read(self, value: object) -> Any:
        """Return the value as the option class takes it. Raises ``UnfitError``."""

    @abstractmethod
    def write(self, value: Any) -> str:
        """Return the value as TOML."""

    def unfit(self, value: object) -> UnfitError:
        """Return the error for a value of another type. It does not show the value."""
        return UnfitError(f"must be {self.wanted}, not {_type_name(value)}")


class _Truth(Kind):
    wanted = "true or false"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise self.unfit(value)
        return value

    def write(self, value: bool) -> str:
        return str(value).lower()


class _Whole(Kind):
    wanted = "a whole number"

    def read(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.unfit(value)
        if abs(value) >= 1 << 63:
            raise UnfitError("must be a number of at most 64 bits")
        return value

    def write(self, value: int) -> str:
        return str(value)


class _Number(Kind):
    wanted = "a number"

    def read(self, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.unfit(value)
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf

    def write(self, value: float) -> str:
        return repr(float(value))


class _Text(Kind):
    wanted = "a text"

    def read(self, value: object) -> Any:
        if not isinstance(value, str):
            raise self.unfit(value)
        if "\0" in value:
            raise UnfitError("must be a text without NUL")
        return value

    def write(self, value: object) -> str:
        text = str(value)
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'


class _PathText(_Text):
    wanted = "a path, as a text"

    def read(self, value: object) -> Path:
        text = super().read(value)
        if not text:
            raise UnfitError("must be a path, not an empty text")
        return Path(text)


class Choice(Kind):
    """One of some values with names."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values = values
        self.wanted: str = f"one of {', '.join(values)}"

    def read(self, value: object) -> object:
        """Return the value of this name."""
        if not isinstance(value, str):
            raise self.unfit(value)
        if value not in self.values:
            raise UnfitError(f"{value!r}: must be {self.wanted}{did_you_mean(value, self.values)}")
        return self.values[value]

    def write(self, value: object) -> str:
        """Return the name of the value."""
        return _Text().write(next(name for name, known in self.values.items() if known == value))


class Many(Kind):
    """A list of values of one kind."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.wanted: str = "a list"

    def read(self, value: object) -> tuple[object, ...]:
        """Return the values."""
        if not isinstance(value, list):
            raise self.unfit(value)
        found = []
        for number, one in enumerate(value):
            try:
                found.append(self.kind.read(one))
            except UnfitError as error:
                raise UnfitError(str(error), (number, *error.within)) from None
        return tuple(found)

    def write(self, value: Sequence[object]) -> str:
        """Return the list, in several lines if it has tables."""
        texts = list(map(self.kind.write, value))
        if isinstance(self.kind, _Inline) and texts:
            return "[\n" + "".join(f"{text},\n" for text in texts) + "]"
        return f"[{', '.join(texts)}]"


class Maybe(Kind):
    """A value, or None: an empty text or list of texts, and the word "none" for others."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._is_text = isinstance(kind, _Text)
        self.wanted: str = kind.wanted if self._is_text else f'{kind.wanted}, or "{NONE}"'

    def read(self, value: object) -> Any:
        """Return the value, or None."""
        if value == ("" if self._is_text else NONE):
            return None
        try:
            return self.kind.read(value)
        except UnfitError as error:
            if error.within or isinstance(value, str) is isinstance(self.kind, _Text | Choice):
                raise
            raise self.unfit(value) from None

    def write(self, value: object) -> str:
        """Return the value as TOML."""
        if value is not None:
            return self.kind.write(value)
        return '""' if self._is_text else f'"{NONE}"'


class _Inline(Kind):
    """A small table inside of a list."""

    wanted = "a table, as { … }"

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self._kinds = {field.name: _kind_of(cls, field) for field in dataclasses.fields(cls)}
        words = ", ".join(f"{name} = …" for name in self._kinds)
        self.wanted = f"a table, as {{ {words} }}"

    def read(self, value: object) -> object:
        if not isinstance(value, dict):
            raise self.unfit(value)
        found = {}
        for name, one in value.items():
            if name not in self._kinds:
                raise UnfitError(f"unknown key{did_you_mean(name, self._kinds)}", (name,))
            try:
                found[name] = self._kinds[name].read(one)
            except UnfitError as error:
                raise UnfitError(str(error), (name, *error.within)) from None
        if missing := [name for name in self._kinds if name not in found]:
            raise UnfitError(f"{', '.join(missing)}: missing, must be given")
        try:
            return self._cls(**found)
        except OptionError as error:
            raise UnfitError(rule_of(error), (error.option,)) from None

    def write(self, value: object) -> str:
        pairs = (
            f"{name} = {kind.write(getattr(value, name))}" for name, kind in self._kinds.items()
        )
        return f"{{ {', '.join(pairs)} }}"


def rule_of(error: OptionError) -> str:
    """Return the message without the option's name, which stands before it already."""
    return str(error).removeprefix(f"{error.option}=").removeprefix(f"{error.option}: ")


def _type_name(value: object) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text",
             list: "a list", dict: "a table"}  # fmt: skip
    return names.get(type(value), "a date or time")


# -- kinds of fields --

_EVENTS: Final = {event_name(kind): kind for kind in get_args(CoreEvent)}
_FLOW_EVENTS: Final = {
    name: kind for name, kind in _EVENTS.items() if kind.__name__.startswith("Flow")
}


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _kind_of(cls: type, field: dataclasses.Field[Any]) -> Kind:
    if field.name == "kinds" and cls is MqttOptions:
        return Many(Choice(_FLOW_EVENTS))
    return _kind(_hints(cls)[field.name])


def _kind(hint: Any) -> Kind:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        some = [one for one in arguments if one is not types.NoneType]
        # A path may be given as a text, too.
        kind = _PathText() if any(map(_is_path, some)) else _kind(some[0])
        return kind if len(some) == len(arguments) else Maybe(kind)
    if origin is Literal:
        return Choice({str(value): value for value in arguments})
    if origin is type:
        return Choice(_EVENTS)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return Many(_kind(arguments[0]))
    if _is_path(hint):
        return _PathText()
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return Choice({str(one.value): one for one in hint})
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _Inline(hint)
    kinds: dict[object, Callable[[], Kind]] = {
        bool: _Truth, int: _Whole, float: _Number, str: _Text
    }  # fmt: skip
    return kinds[hint]()


def _is_path(hint: Any) -> bool:
    return hint is Path or get_origin(hint) is os.PathLike


# -- tables --


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a table. ``owner``: the flat part that has it; empty: the class itself."""

    name: str
    kind: Kind
    default: Any
    words: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A class whose fields are the keys of a table.

    ``flat``: fields whose options stand in the same table, with their classes. ``tables``: those
    that are tables below it. ``default``: the instance that the file changes; None: there is none.
    ``words``: of the class. ``has_presets``: the class has a ``preset()``. ``owner``: as of a
    field.
    """

    cls: type
    fields: Mapping[str, Field]
    flat: Mapping[str, type]
    tables: Mapping[str, Table]
    default: Any
    words: str
    has_presets: bool = False
    owner: str = ""


@functools.cache
def table_of(cls: type, default: Any = None) -> Table:
    """Return the table of an option class. ``default``: the instance that gives the defaults."""
    told = _Words(cls)
    fields: dict[str, Field] = {}
    flat: dict[str, type] = {}
    tables: dict[str, Table] = {}
    presets = cls in {XdpOptions, TpacketOptions}
    if presets:
        words = "the values of keys that are not given, for one goal (docs/tuning.md)"
        fields["preset"] = Field("preset", Choice({n: n for n in PRESETS}), "default", words)
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        own = _default(field) if default is None else getattr(default, field.name)
        inner = _dataclass_of(_hints(cls)[field.name])
        if inner is None:
            fields[field.name] = Field(field.name, _kind_of(cls, field), own, told.of(field.name))
        elif field.metadata.get("flat"):
            flat[field.name] = inner
            below = table_of(inner, own)
            for name, part in below.fields.items():
                fields[name] = dataclasses.replace(part, owner=field.name)
            tables |= {n: dataclasses.replace(t, owner=field.name) for n, t in below.tables.items()}
        else:
            tables[field.name] = table_of(inner, own)
    return Table(cls, fields, flat, tables, default, told.head, presets)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED


def _dataclass_of(hint: Any) -> type | None:
    """Return the option class that a field holds, if it does."""
    arguments = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    for one in arguments:
        if isinstance(one, type) and dataclasses.is_dataclass(one):
            return one
    return None


class _Words:
    """The words of a class about its fields, taken from its documentation."""

    def __init__(self, cls: type) -> None:
        paragraphs = (cls.__doc__ or "").strip().split("\n\n")
        self.head = _plain(_SENTENCE.split(" ".join(paragraphs[0].split()))[0])
        text = " ".join(" ".join(p.split()) for p in paragraphs)
        self._named: dict[str, str] = {}
        self._raw: list[str] = []
        self._told: list[str] = _SENTENCE.split(text)
        starts = list(_NAMED.finditer(text))
        for match, after in zip(starts, [*starts[1:], None], strict=True):
            words = text[match.end() : after.start() if after else len(text)]
            self._raw.append(words)
            for name in re.findall(_NAME, match[0]):
                self._named[name] = _plain(words)
        first = paragraphs[0].split("``")[0]
        rest = _SENTENCE.split(" ".join(first.split()))[1:]
        units = [sentence for sentence in rest if "second" in sentence]
        if units:
            self.head += " " + _plain(" ".join(units))

    def of(self, name: str) -> str:
        """Return what is said of the field; empty if nothing is."""
        if name in self._named:
            return self._named[name]
        beside = (words for words in self._raw if f"``{name}``" in words)
        alone = (sentence for sentence in self._told if f"``{name}``" in sentence)
        return _plain(next(beside, next(alone, "")))


def _plain(text: str) -> str:
    """Return words of a docstring as those of a file."""
    text = re.sub(r" ?Raises ``OptionError``.*$", "", text)
    text = re.sub(r"``None``|\bNone\b", f'"{NONE}"', text)
    text = re.sub(r"\bTrue\b", "true", re.sub(r"\bFalse\b", "false", text))
    return text.replace("``", "").strip()
