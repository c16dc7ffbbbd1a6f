"""Readers of a flag's value. Each raises ``ArgumentTypeError`` with the value and its rule."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

from netring_bpf.errors import OptionError, did_you_mean
from netring_bpf.events.flow import TunnelKind
from netring_bpf.ring.flow_options import TUNNELS_OVER_UDP, PortTimeout
from netring_bpf.ring.options import BusyPoll

__all__ = [
    "NEVER",
    "OptionReader",
    "OrNever",
    "busy_poll",
    "count",
    "duration",
    "names",
    "number",
    "numbers",
    "port_timeout",
    "tunnel_port",
]

_T = TypeVar("_T")
Options = Callable[..., object]  # a class of options
NEVER: Final = math.inf  # seconds; None to the library
_FORM_OF_A_TIMEOUT: Final = "PROTO/PORT=SECONDS, as udp/53=10 or tcp/22=none"


def count(text: str) -> int:
    """Return a number of things, at least one."""
    return _value(text, int, lambda value: value >= 1, "a number, at least 1")


def duration(text: str) -> float:
    """Return a time in seconds, which may be 0."""
    return _value(
        text, float, lambda value: 0 <= value < math.inf, "a number of seconds, 0 or more"
    )


def number(highest: int) -> Callable[[str], int]:
    """Return a reader of numbers from 0 to ``highest``."""
    rule = f"a number from 0 to {highest}"
    return lambda text: _value(text, int, lambda value: 0 <= value <= highest, rule)


def numbers(things: str) -> Callable[[str], tuple[int, ...]]:
    """Return a reader of numbers of ``things``, with commas between them."""
    rule = f"numbers of {things}, as 2,3"

    def read(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split(",")))

    return lambda text: _value(text, read, lambda found: min(found) >= 0, rule)


def names(known: tuple[str, ...], example: str) -> Callable[[str], tuple[str, ...]]:
    """Return a reader of one or more of the known names."""

    def read(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        for word in words:
            if word not in known:
                rule = f"some of {','.join(known)}, as {example}{did_you_mean(word, known)}"
                raise argparse.ArgumentTypeError(f"{text}: must be {rule}")
        return words

    return read


def tunnel_port(text: str) -> tuple[TunnelKind | None, int]:
    """Return a kind of tunnel, None for ``none``, and a port of UDP."""
    kinds = ", ".join(kind.value for kind in TUNNELS_OVER_UDP)

    def read(text: str) -> tuple[TunnelKind | None, int]:
        kind, _, port = text.partition("=")
        return None if kind == "none" else TunnelKind(kind), int(port)

    return _value(
        text,
        read,
        lambda pair: (pair[0] is None or pair[0] in TUNNELS_OVER_UDP) and 1 <= pair[1] <= 65_535,
        f"KIND=PORT, as vxlan=8472, where KIND is {kinds} or none",
    )


def port_timeout(text: str) -> tuple[str, int, PortTimeout | None]:
    """Return a protocol, a port, and the timeout of both; None for ``none``."""
    where, _, seconds = text.partition("=")
    proto, _, port = where.partition("/")
    try:
        # The class checks the protocol, too.
        made = PortTimeout(
            cast("Any", proto), int(port), 1.0 if seconds == "none" else float(seconds)
        )
    except OptionError as error:
        name = {"timeout": "SECONDS", "proto": "PROTO", "port": "PORT"}[error.option]
        raise argparse.ArgumentTypeError(f"{text}: {name} must be {_rule(error)}") from None
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: must be {_FORM_OF_A_TIMEOUT}") from None
    return made.proto, made.port, None if seconds == "none" else made


def busy_poll(text: str) -> BusyPoll:
    """Return the microseconds of busy polling, and after a comma its budget."""
    try:
        return BusyPoll(*map(int, text.split(",", 1)))
    except OptionError as error:
        name = {"microseconds": "MICROSECONDS", "budget": "FRAMES"}[error.option]
        raise argparse.ArgumentTypeError(f"{text}: {name} must be {_rule(error)}") from None
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text}: must be MICROSECONDS or both, as 200,64"
        ) from None


# -- options --


class OptionReader(Generic[_T]):
    """Reads one option, whose class says what is in its range."""

    def __init__(self, options: Options, field: str, read: Callable[[str], _T]) -> None:
        self._options = options
        self._field = field
        self._read = read

    def __call__(self, text: str) -> _T:
        """Return the value. Raises ``ArgumentTypeError``."""
        try:
            given = self._read(text)
            self._options(**{self._field: given})
        except OptionError as error:
            raise argparse.ArgumentTypeError(f"{text}: must be {_rule(error)}") from None
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text}: must be a number, {self.rule}") from None
        return given

    @property
    def rule(self) -> str:
        """The range of an option that is a number, in words; ``""`` for others."""
        with contextlib.suppress(TypeError):
            try:
                self._options(**{self._field: -1})
            except OptionError as error:
                return _rule(error)
        return ""


class OrNever:
    """Reads what another reader reads, or ``never``."""

    def __init__(self, reader: OptionReader[float]) -> None:
        self._reader = reader

    def __call__(self, text: str) -> float:
        """Return the value, or ``NEVER``. Raises ``ArgumentTypeError``."""
        try:
            return NEVER if text == "never" else self._reader(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, or never") from None

    @property
    def rule(self) -> str:
        """The range, in words."""
        return f"{self._reader.rule}, or never"


def _rule(error: OptionError) -> str:
    """Return the rule that a value has broken: ``from 1 to 64``."""
    rule = str(error).partition(": must be ")[2]
    return rule.removesuffix(", or None").replace("ring_size", "--ring-size")


def _value(text: str, read: Callable[[str], _T], holds: Callable[[_T], bool], rule: str) -> _T:
    # A ValueError would make argparse show the name of the reader.
    with contextlib.suppress(ValueError):
        value = read(text)
        if holds(value):
            return value
    raise argparse.ArgumentTypeError(f"{text}: must be {rule}")
