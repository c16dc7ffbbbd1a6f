"""The names of addresses, as the packets of a capture tell them."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from netring_bpf._core import ffi, lib
from netring_bpf.errors import OptionError, limits_explained
from netring_bpf.events.app import network_text
from netring_bpf.events.app_record import PROTOCOLS

__all__ = ["Address", "AddressName", "AddressNames", "NamesStatistics"]

Address: TypeAlias = str | bytes | ipaddress.IPv4Address | ipaddress.IPv6Address

_SIZE: Final = 4 << 20
_SMALLEST: Final = 1 << 16
_MOST: Final = 8  # names of an address that the table keeps


class AddressName(NamedTuple):
    """A name of an address, as one protocol told it.

    ``name``: as it was told, in small letters. ``source``: ``"dns"``, ``"mdns"``, ``"llmnr"``,
    ``"netbios"``, ``"dhcp"``, ``"dhcpv6"``, ``"tls"``, ``"dtls"``, ``"quic"`` or ``"http"``.
    ``first`` and ``last``: when it was told first and last, in nanoseconds since the Unix epoch.
    """

    name: str
    source: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class NamesStatistics:
    """The books of a table of names.

    ``learned``: names told, those that were known included; ``replaced``: names that made room
    before their time was over; ``missed``: names and look-ups given up because other threads were
    at the same place; ``capacity``: names that there is room for; ``names``: names that are there,
    old ones included.
    """

    learned: int
    replaced: int
    missed: int
    capacity: int
    names: int


class AddressNames:
    """A table of the names of addresses, which all readers of a capture share.

    It has room for some thousand names in ``size`` bytes, at least 65,536; the least recently used
    make room for others. Its methods may be called from any thread, also after the capture. Raises
    ``OptionError`` and ``ResourceLimitError``.
    """

    def __init__(self, size: int = _SIZE) -> None:
        if size < _SMALLEST:
            raise OptionError(f"size={size!r}: must be at least {_SMALLEST}", option="size")
        with limits_explained(f"make a table of names of {size} bytes"):
            made = lib.nr_names_create(size, os.urandom(16))
            if made == ffi.NULL:
                raise MemoryError
        self._native = ffi.gc(made, lib.nr_names_destroy)

    @property
    def native(self) -> Any:
        """The table as C has it; a reader keeps it alive."""
        return self._native

    def of(self, address: Address) -> tuple[AddressName, ...]:
        """Return the names of an address, the latest first.

        A name counts for the time that its teller gave it, but for ten minutes at least and a day
        at most. Raises ``OptionError`` for what is no address.
        """
        packed = _packed(address)
        found = ffi.new("nr_address_name[]", _MOST)
        family = 4 if len(packed) == 4 else 6
        count = lib.nr_names_of(self._native, family, packed, found, _MOST)
        return tuple(map(_name_of, found[0:count]))

    def statistics(self) -> NamesStatistics:
        """Return the books."""
        books = ffi.new("nr_names_statistics *")
        lib.nr_names_account(self._native, books)
        return NamesStatistics(
            books.learned, books.replaced, books.missed, books.capacity, books.names
        )


def _packed(address: Address) -> bytes:
    try:
        return ipaddress.ip_address(address).packed
    except ValueError as error:
        raise OptionError(f"address={address!r}: {error}", option="address") from error


def _name_of(found: Any) -> AddressName:
    sent = bytes(ffi.buffer(found.text, found.size))
    return AddressName(network_text(sent), PROTOCOLS[found.source], found.first_ts, found.last_ts)
