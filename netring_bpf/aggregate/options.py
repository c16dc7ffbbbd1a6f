"""The options of aggregates: frozen, and validated here and nowhere else."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from netring_bpf.errors import OptionError

__all__ = ["MAX_LOCAL", "PRIVATE", "PRIVATE_NETWORKS", "Network", "StatsOptions"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_LOCAL: Final = 64
#: The prefixes that are local where nobody says otherwise (RFC 1918, 3927, 4193, 4291, 6598).
PRIVATE: Final = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)
PRIVATE_NETWORKS: Final = tuple(map(ipaddress.ip_network, PRIVATE))


@dataclass(frozen=True, slots=True)
class StatsOptions:
    """Options of ``Netring(stats=…)``.

    ``interval``: seconds between two ``StatsUpdated``, by the time of the flows. ``top``: the rows
    of each table of ``Top``. ``capacity``: the keys of each kind that are counted at one time;
    sums are exact as long as no more come. ``local``: the prefixes whose addresses are local, for
    the directions of ``Traffic``; empty: the private ones, and those that the table of devices
    learns. ``networks``: those prefixes as ``ipaddress`` objects; it is not given but made.

    Raises ``OptionError``.
    """

    interval: float = 10.0
    top: int = 10
    capacity: int = 1024
    local: Sequence[str] = ()
    networks: tuple[Network, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("interval", self.interval, 0.1 <= self.interval <= 86_400, "0.1 to 86400 seconds")
        _check("top", self.top, 1 <= self.top <= 1000, "1 to 1000")
        good = self.top <= self.capacity <= 65_536
        _check("capacity", self.capacity, good, "from top to 65536")
        object.__setattr__(self, "networks", _networks(self.local or PRIVATE))


def _networks(local: Sequence[str]) -> tuple[Network, ...]:
    is_list = isinstance(local, Sequence) and not isinstance(local, str)
    _check("local", local, is_list and len(local) <= MAX_LOCAL, f"a list of at most {MAX_LOCAL}")
    try:
        return tuple(ipaddress.ip_network(prefix, strict=False) for prefix in local)
    except ValueError as error:
        raise OptionError(
            f"local={local!r}: {error}; a network is written as 192.168.1.0/24", option="local"
        ) from error


def _check(name: str, value: object, is_good: bool, wanted: str) -> None:
    if not is_good:
        raise OptionError(f"{name}={value!r}: must be {wanted}", option=name)
