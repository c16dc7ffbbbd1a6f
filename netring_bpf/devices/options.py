"""The options of the table of devices: frozen, and validated here and nowhere else."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from netring_bpf.errors import OptionError

__all__ = ["MAX_DEVICES", "MAX_PREFIXES", "DeviceOptions", "Network", "networks_of"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_DEVICES: Final = 65_536
MAX_PREFIXES: Final = 256


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """Options of ``Netring(devices=…)``. Times are seconds of the events' own time.

    ``max_devices``: the table's cap, 1 to 65,536; a device that does not fit takes the place of the
    least recently seen one. ``gone_after``: a device that was silent for so long is forgotten; None
    for never. ``prefixes``: the networks whose addresses are on the link, as ``"192.168.1.0/24"``;
    empty: they are learned. ``new_per_second``: more new devices in a second are left out, and
    counted: a flood of made-up addresses. ``change_interval``: the shortest time between two
    ``DeviceChanged`` of one device. ``state``: a file from which the table is loaded as the capture
    opens, if it is there, and to which it is saved every ``save_interval`` seconds and at the end.
    ``networks``: the prefixes as ``ipaddress`` objects; it is not given but made.
    """

    max_devices: int = 4096
    gone_after: float | None = 7 * 86_400.0
    prefixes: Sequence[str] = ()
    new_per_second: int = 100
    change_interval: float = 10.0
    state: str | Path | None = None
    save_interval: float = 300.0
    networks: tuple[Network, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("max_devices", self.max_devices, 1 <= self.max_devices <= MAX_DEVICES, "1 to 65536")
        gone = self.gone_after
        _check("gone_after", gone, gone is None or 1 <= gone <= 1e9, "1 to 1e9 seconds, or None")
        _check("new_per_second", self.new_per_second, self.new_per_second >= 1, "at least 1")
        interval = self.change_interval
        _check("change_interval", interval, 0 <= interval <= 86_400, "0 to 86400 seconds")
        _check("save_interval", self.save_interval, self.save_interval >= 1, "at least 1 second")
        object.__setattr__(self, "networks", networks_of(self.prefixes))


def networks_of(prefixes: Sequence[str]) -> tuple[Network, ...]:
    """Return the networks of these texts. Raises ``OptionError``."""
    is_list = isinstance(prefixes, Sequence) and not isinstance(prefixes, str)
    _check("prefixes", prefixes, is_list and len(prefixes) <= MAX_PREFIXES, "a list of at most 256")
    try:
        return tuple(ipaddress.ip_network(prefix, strict=False) for prefix in prefixes)
    except ValueError as error:
        raise OptionError(
            f"prefixes={prefixes!r}: {error}; a network is written as 192.168.1.0/24",
            option="prefixes",
        ) from error


def _check(name: str, value: object, is_good: bool, wanted: str) -> None:
    if not is_good:
        raise OptionError(f"{name}={value!r}: must be {wanted}", option=name)
