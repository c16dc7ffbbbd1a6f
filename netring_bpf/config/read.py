"""Reads a file of ``netring-bpf run``, and tells every mistake with its line and key."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from netring_bpf.config.contradictions import contradictions
from netring_bpf.config.places import Path as Way
from netring_bpf.config.places import Places, dotted, places_of
from netring_bpf.config.schema import REQUIRED, Table, UnfitError, rule_of, table_of
from netring_bpf.config.tables import (
    CaptureConfig,
    Configuration,
    MetricsConfig,
    MqttConfig,
    RecorderConfig,
    RunConfig,
)
from netring_bpf.errors import (
    ConfigError,
    FilterError,
    LibpcapMissingError,
    OptionError,
    SinkError,
    did_you_mean,
)
from netring_bpf.filter.filter import Filter
from netring_bpf.secret_file import exposure

__all__ = ["NAMED", "parse", "read"]

#: The tables whose tables have names of the file's own, and the class of each.
NAMED: Final[Mapping[str, type]] = MappingProxyType(
    {
        "captures": CaptureConfig,
        "mqtt": MqttConfig,
        "metrics": MetricsConfig,
        "recorders": RecorderConfig,
    }
)
_LARGEST: Final = 1 << 20  # bytes of a file
_LONGEST_NAME: Final = 64
_MOST_TOLD: Final = 100  # mistakes
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_SECRETS: Final = {"password", "passwd", "username", "user", "token", "secret", "credentials"}
_AT: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TWICE: Final = re.compile(r"overwrite|declare|twice|uplicate|mutate|redefine|already")
_BY_SERVICE: Final = (
    "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY",
    "RUNTIME_DIRECTORY", "CONFIGURATION_DIRECTORY",
)  # fmt: skip
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))(?=/|$)")


def read(path: Path, environment: Mapping[str, str] | None = None) -> Configuration:
    """Read the file and check all of it.

    ``environment``: gives the folders that systemd makes for a service, as
    ``$CREDENTIALS_DIRECTORY``, with which paths of the file may begin; None: such paths stay as
    they are. Raises ``ConfigError``, which tells every mistake, a line each.
    """
    text, exposed = _text_of(path)
    return parse(text, path, environment, exposed)


def parse(
    text: str,
    path: Path,
    environment: Mapping[str, str] | None = None,
    exposed: str | None = None,
) -> Configuration:
    """Return the configuration of a text, as ``read()`` of a file of this name.

    ``exposed``: who else can read the file, in words, for the message about a secret in it.
    """
    reader = _Reader(path, places_of(text), environment, exposed)
    data = reader.load(text)
    configuration = reader.configuration(data) if not reader.mistakes else Configuration()
    if reader.mistakes:
        raise ConfigError(reader.told(), path=path)
    return configuration


def _text_of(path: Path) -> tuple[str, str | None]:
    """Return the text of the file, and who else can read it. Raises ``ConfigError``."""
    try:
        # A FIFO without a writer must not make this wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
                raise ConfigError(
                    [f"{path}: every user can change it, and with it what this process does; "
                     f"chmod o-w {path}"],
                    path=path,
                )  # fmt: skip
            os.set_blocking(descriptor, True)
            data = file.read(_LARGEST + 1)
            exposed = exposure(descriptor)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([f"{path}: {reason}"], path=path) from error
    if len(data) > _LARGEST:
        raise ConfigError([f"{path}: it has more than {_LARGEST} bytes"], path=path)
    try:
        return data.decode(), exposed
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [f"{path}:{line}: not TOML: byte 0x{data[error.start]:02x} is no UTF-8"], path=path
        ) from error


class _Reader:
    """One reading of a file, and its mistakes so far."""

    def __init__(
        self,
        path: Path,
        places: Places,
        environment: Mapping[str, str] | None,
        exposed: str | None,
    ) -> None:
        self._path = path
        self._places = places
        self._environment = environment
        self._exposed = exposed
        self.mistakes: list[tuple[int, str]] = []

    def told(self) -> list[str]:
        """Return a line for each mistake, in the order of the file."""
        ordered = sorted(self.mistakes, key=lambda mistake: mistake[0])
        told = [f"{self._path}:{line}: {text}" for line, text in ordered[:_MOST_TOLD]]
        more = len(ordered) - len(told)
        return [*told, f"{self._path}: {more} more mistakes"] if more else told

    def complain(self, way: Way, text: str) -> None:
        """Note a mistake at a key."""
        key = dotted(way)
        self.mistakes.append((self._places.line(way), f"{key}: {text}" if key else text))

    # -- TOML --

    def load(self, text: str) -> dict[str, Any]:
        """Return the values of the text; empty, with a mistake, if it is no TOML."""
        try:
            return tomllib.loads(text)
        except RecursionError:
            self.mistakes.append((1, "not TOML: lists or tables are nested too deeply"))
        except ValueError as error:  # a number of too many digits is no TOMLDecodeError
            self._explain(text, str(error))
        return {}

    def _explain(self, text: str, said: str) -> None:
        at = _AT.search(said)
        message = said[: at.start()] if at else said
        line = int(at[1]) if at and at[1] else text.count("\n") + (not text.endswith("\n"))
        before = [twice for twice in self._places.twice if twice.again <= line]
        if before and _TWICE.search(message):
            for path, first, again in before:
                what = f"{dotted(path)}: given twice; line {first} has it already"
                self.mistakes.append((again, what))
            return
        key = dotted(self._places.key_at(line))
        # The library quotes a character of the text, never a value.
        message = message[:1].lower() + message[1:]
        if "digits" in message:
            message = "a number has too many digits"
        self.mistakes.append(
            (line, f"{key}: not TOML: {message}" if key else f"not TOML: {message}")
        )

    # -- tables --

    def configuration(self, data: dict[str, Any]) -> Configuration:
        """Return the configuration; it is of use only if there are no mistakes."""
        known = ("run", *NAMED)
        for key in data:
            if key not in known:
                self._unknown((key,), known)
        found: dict[str, Any] = {}
        if isinstance(value := data.get("run", {}), dict):
            found["run"] = self._table(table_of(RunConfig, RunConfig()), value, ("run",))
        else:
            self.complain(("run",), "must be a table: [run]")
        for key, cls in NAMED.items():
            found[key] = MappingProxyType(self._named(key, cls, data.get(key, {})))
        whole = Configuration(**{k: v for k, v in found.items() if v is not None})
        captures = data.get("captures")
        named = tuple(captures) if isinstance(captures, dict) else ()
        for way, text in contradictions(whole, named, is_sound=not self.mistakes):
            self.complain(way, text)
        return whole

    def _named(self, key: str, cls: type, value: object) -> dict[str, Any]:
        table = table_of(cls)
        found: dict[str, Any] = {}
        if not isinstance(value, dict):
            self.complain((key,), f"must be tables with names, as [{key}.NAME]")
            return found
        for name, inner in value.items():
            way = (key, name)
            if not isinstance(inner, dict):
                hint = f", as [{key}.NAME] with {name} in it" if name in table.fields else ""
                self.complain(way, f"must be a table with a name of its own{hint}")
            elif not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
                self.complain(
                    way, f"the name must be 1 to {_LONGEST_NAME} letters, digits, - _ and ."
                )
            else:
                found[name] = self._table(table, inner, way)
        return {name: value for name, value in found.items() if value is not None}

    def _table(self, table: Table, data: dict[str, Any], way: Way) -> Any:
        """Return the options of a table; None, with mistakes, if they are wrong."""
        before = len(self.mistakes)
        given: dict[str, dict[str, Any]] = {"": {}, **{name: {} for name in table.flat}}
        for key, value in data.items():
            if key in table.fields:
                field = table.fields[key]
                with self._at((*way, key)):
                    given[field.owner][key] = self._expanded(field.kind.read(value))
                    _check_filter(key, given[field.owner][key])
            elif key in table.tables:
                if not isinstance(value, dict):
                    self.complain((*way, key), f"must be a table, [{dotted((*way, key))}]")
                elif (inner := self._table(table.tables[key], value, (*way, key))) is not None:
                    given[table.tables[key].owner][key] = inner
            else:
                self._unknown((*way, key), (*table.fields, *table.tables))
        for name, field in table.fields.items():
            if field.default is REQUIRED and name not in data:
                self.complain(way, f"{name} is missing, and must be given")
        made = self._made(table, given, way)
        return made if len(self.mistakes) == before else None

    def _made(self, table: Table, given: dict[str, dict[str, Any]], way: Way) -> Any:
        parts: dict[str, Any] = {}
        for name, cls in table.flat.items():
            part = self._instance(cls, None, given[name], way)
            if part is not None:  # else the default stands for it, for the mistakes of the rest
                parts[name] = part
        own = given[""]
        if table.has_presets:
            preset = own.pop("preset", "default")
            options: Any = table.cls
            return self._instance(functools.partial(options.preset, preset), None, own, way)
        return self._instance(table.cls, table.default, own | parts, way)

    def _instance(
        self, make: Callable[..., Any], default: Any, given: dict[str, Any], way: Way
    ) -> Any:
        """Return the options with the given values; None, with mistakes, if one is wrong.

        An option that is wrong is left out, so that the next one is found too.
        """
        good, made = dict(given), None
        for _ in range(len(given) + 1):
            try:
                made = make(**good) if default is None else dataclasses.replace(default, **good)
                break
            except OptionError as error:
                if error.option in good:
                    self.complain((*way, error.option), rule_of(error))
                else:  # a default that goes not with a given value
                    self.complain(way, str(error))
                if good.pop(error.option, None) is None:
                    return None
            except SinkError as error:  # of a URL, which may have a secret in it
                self._complain_of_url((*way, "url"), str(error))
                return None
            except TypeError:  # a key that must be given is missing, as was told
                return None
        return made if len(good) == len(given) else None

    def _complain_of_url(self, way: Way, text: str) -> None:
        if "credentials" in text and self._exposed:
            text += f"; change that password: of this file, {self._exposed}"
        self.complain(way, text)

    def _unknown(self, way: Way, known: tuple[str, ...]) -> None:
        key = str(way[-1])
        if key.lower() in _SECRETS and key not in known:
            text = (
                "a secret must not stand in this file: credentials_file names a file that only "
                "its owner can read"
            )
            if self._exposed:
                text += f"; change it: of this file, {self._exposed}"
            self.complain(way, text)
            return
        near = did_you_mean(key, known) if len(self.mistakes) < _MOST_TOLD else ""
        self.complain(way, f"unknown key{near}")

    @contextlib.contextmanager
    def _at(self, way: Way) -> Iterator[None]:
        try:
            yield
        except UnfitError as error:
            self.complain((*way, *error.within), str(error))

    def _expanded(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._expanded, value))
        if not isinstance(value, Path) or not (match := _VARIABLE.match(str(value))):
            return value
        name = match[1] or match[2]
        if name not in _BY_SERVICE:
            raise UnfitError(f"${name}: a path may begin with ${', $'.join(_BY_SERVICE)} only")
        if self._environment is None:
            return value
        folder = self._environment.get(name)
        if not folder:
            raise UnfitError(f"${name} is not set; systemd sets it for a service that asks for it")
        return Path(folder + str(value)[match.end() :])


def _check_filter(key: str, value: Any) -> None:
    """Raise ``UnfitError`` for a filter that libpcap refuses; without libpcap it is not tried."""
    if key == "filter" and value is not None:
        try:
            Filter(value).compile()
        except LibpcapMissingError:
            return
        except (FilterError, OptionError) as error:
            raise UnfitError(str(error)) from None
