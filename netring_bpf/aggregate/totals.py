"""The Python owner of the sums by interval: ``nr_aggregate`` of ``api.h``."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from netring_bpf._core import ffi, lib
from netring_bpf.aggregate.options import MAX_LOCAL, Network, StatsOptions
from netring_bpf.errors import limits_explained
from netring_bpf.events.app import network_text
from netring_bpf.events.app_record import PROTOCOLS
from netring_bpf.events.key import Endpoint, protocol_name
from netring_bpf.events.stats import Sums, Top, TopRow, Traffic

__all__ = ["ALL", "INTERVAL", "NamedBy", "Totals"]

INTERVAL, ALL = int(lib.NR_OF_INTERVAL), int(lib.NR_OF_ALL)
#: Returns the name of a MAC address or an IP address, given as text, or None.
NamedBy = Callable[[str], str | None]
_NS: Final = 1_000_000_000
_SERVICE_OTHER: Final = int(lib.NR_SERVICE_OTHER)
_NUMBER: Final = struct.Struct("=Q")
_ROW: Final = struct.Struct("=2Q2QQQ264s")  # nr_top_row
_LENGTH: Final = struct.Struct("=H")
_FAMILY_AT: Final = 16
_CACHED: Final = 4096  # texts of addresses: much the same ones are on top in the next interval


class Totals:
    """The counts of all flows of a capture, in the present interval and since the start.

    All memory is taken here. One thread uses it; ``set_local()`` and ``set_interval()`` may be
    called from any. Raises ``ResourceLimitError``.
    """

    def __init__(self, options: StatsOptions) -> None:
        self._rows = options.top
        native = ffi.new(
            "nr_aggregate_options *",
            {
                "interval_ns": round(options.interval * _NS),
                "capacity": options.capacity,
                "network_count": len(options.networks),
                "networks": _networks(options.networks),
                "hash_key": os.urandom(16),
            },
        )
        with limits_explained(f"make tables of {options.capacity} keys"):
            made = lib.nr_aggregate_create(native)
            if made == ffi.NULL:
                raise MemoryError
        self._native = ffi.gc(made, lib.nr_aggregate_destroy)
        self._buffer = ffi.new("nr_top_row[]", self._rows)
        self._sums = ffi.new("nr_direction_sums[]", lib.NR_DIRECTION_COUNT)

    @property
    def native(self) -> Any:
        """The aggregate as C has it; a reader keeps this object alive."""
        return self._native

    def set_local(self, networks: Sequence[Network]) -> None:
        """Replace the local networks, from the next interval on."""
        rows = _networks(networks[:MAX_LOCAL])
        lib.nr_aggregate_set_local(self._native, ffi.new("nr_network[]", rows), len(rows))

    def set_interval(self, seconds: float) -> None:
        """Change the length of intervals, from the next one on."""
        lib.nr_aggregate_set_interval(self._native, round(seconds * _NS))

    def add_up(self) -> None:
        """Add the interval to all."""
        lib.nr_aggregate_add_up(self._native)

    def clear(self) -> None:
        """Begin another interval."""
        lib.nr_aggregate_clear(self._native)

    def traffic(self, of: int) -> Traffic:
        """Return the sums by direction. ``of``: ``INTERVAL`` or ``ALL``."""
        lib.nr_aggregate_sums(self._native, of, self._sums)
        each = [Sums(s.packets, s.bytes, s.flows) for s in self._sums]
        return Traffic(
            inbound=each[lib.NR_DIRECTION_IN],
            outbound=each[lib.NR_DIRECTION_OUT],
            internal=each[lib.NR_DIRECTION_INTERNAL],
            transit=each[lib.NR_DIRECTION_TRANSIT],
        )

    def top(self, of: int, device_name: NamedBy, host_name: NamedBy) -> Top:
        """Return the largest of each kind. ``of``: as of ``traffic()``."""
        return Top(
            devices=self._table(of, lib.NR_TOP_DEVICES, _mac_text, device_name),
            hosts=self._table(of, lib.NR_TOP_HOSTS, _host_text, host_name),
            names=self._table(of, lib.NR_TOP_NAMES, _name_text, _no_name),
            services=self._table(of, lib.NR_TOP_SERVICES, _service_text, _no_name),
            ports=self._table(of, lib.NR_TOP_PORTS, _port_text, _no_name),
            prefixes=self._table(of, lib.NR_TOP_PREFIXES, _prefix_text, _no_name),
        )

    def _table(
        self, of: int, kind: int, text_of: Callable[[bytes], str], name_of: NamedBy
    ) -> tuple[TopRow, ...]:
        count = lib.nr_aggregate_top(self._native, of, kind, self._buffer, self._rows)
        rows = ffi.buffer(self._buffer, count * _ROW.size)
        found = []
        for *sums, error, key in _ROW.iter_unpack(rows):
            packets_sent, packets_received, bytes_sent, bytes_received, flows = sums
            text = text_of(key)
            found.append(
                TopRow(
                    text, name_of(text), packets_sent, packets_received, bytes_sent,
                    bytes_received, flows, error,
                )
            )  # fmt: skip
        return tuple(found)


def _networks(networks: Sequence[Network]) -> list[dict[str, object]]:
    return [
        {
            "address": net.network_address.packed.ljust(16, b"\0"),
            "family": net.version,
            "bits": net.prefixlen,
        }
        for net in networks
    ]


# -- keys as text --


def _no_name(_: str) -> None:
    return None


def _mac_text(key: bytes) -> str:
    return key[:6].hex(":")


def _host_text(key: bytes) -> str:
    return _address_text(key[: _FAMILY_AT + 1])  # behind it may be what another row had there


@lru_cache(maxsize=_CACHED)
def _address_text(key: bytes) -> str:
    return Endpoint(key[: 4 if key[_FAMILY_AT] == 4 else 16], 0).text


def _prefix_text(key: bytes) -> str:
    return f"{_host_text(key)}/{24 if key[_FAMILY_AT] == 4 else 48}"


def _name_text(key: bytes) -> str:
    (length,) = _LENGTH.unpack_from(key)
    return network_text(key[_LENGTH.size : _LENGTH.size + length])


def _service_text(key: bytes) -> str:
    number = int(_NUMBER.unpack_from(key)[0])
    if number < _SERVICE_OTHER:
        return str(PROTOCOLS[number])
    proto = number - _SERVICE_OTHER
    return f"{protocol_name(proto)} other" if proto else "other"


def _port_text(key: bytes) -> str:
    (number,) = _NUMBER.unpack_from(key)
    return f"{protocol_name(number >> 16)}/{number & 0xFFFF}"
