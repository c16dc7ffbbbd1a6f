"""A bound for those who guess the token."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Tries"]

_AT_ONCE: Final = 10  # wrong tokens
_PAUSE: Final = 6.0  # seconds for each one more
_ADDRESSES: Final = 1024  # that are remembered


class Tries:
    """Counts wrong tokens by address; a network of IPv6 (/64) counts as one.

    An address may show ten wrong tokens at once, and then one each six seconds. The addresses
    whose last wrong token is the oldest are forgotten beyond a bound.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._forgiven: dict[str, float] = {}  # by address: when all of its tries are forgotten

    def __len__(self) -> int:
        return len(self._forgiven)

    def wait(self, address: str | None) -> float:
        """Return the seconds until the address may show another token; 0 if it may now."""
        ahead = self._forgiven.get(_network(address), 0.0) - self._clock()
        return max(0.0, ahead - (_AT_ONCE - 1) * _PAUSE)

    def wrong(self, address: str | None) -> None:
        """Count a wrong token."""
        key, now = _network(address), self._clock()
        # A key that is put in again goes to the end.
        self._forgiven[key] = max(now, self._forgiven.pop(key, now)) + _PAUSE
        if len(self._forgiven) > _ADDRESSES:
            del self._forgiven[next(iter(self._forgiven))]


def _network(address: str | None) -> str:
    try:
        made = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return ""
    if made.version == 6:
        return str(ipaddress.ip_network((made, 64), strict=False))
    return str(made)
