"""A set of addresses and networks, for filters that name thousands of them.

libpcap has no such thing. ``set_program.py`` puts it into the programs that libpcap makes; a map of
the kernel holds it for live traffic, and sorted ranges for frames in memory.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
import sys
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from netring_bpf.errors import OptionError

__all__ = ["Address", "AddressSet", "Network"]

Address: TypeAlias = str | ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = Address | ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_ENTRIES: Final = 1 << 20
_MAX_FILE: Final = 1 << 26  # bytes
_COMMENT: Final = re.compile(r"\s*[#;].*")
_WIDTHS: Final = {4: 32, 6: 128}
_LOW: Final = (1 << 64) - 1
_Range: TypeAlias = tuple[int, int]


class AddressSet:
    """IPv4 and IPv6 addresses, as ranges that are sorted and do not touch. Immutable, hashable.

    Two sets are equal if they have the same addresses. ``size``: the number of addresses if it was
    made of addresses, else of the networks that it is.
    """

    __slots__ = ("_digest", "_is_hosts", "_keys", "ranges4", "ranges6", "size")

    def __init__(self, ranges4: bytes, ranges6: bytes, *, is_hosts: bool) -> None:
        self.ranges4: bytes = ranges4  #: ``nr_range4`` of api.h, one after the other
        self.ranges6: bytes = ranges6  #: ``nr_range6``
        self._is_hosts = is_hosts
        digest = hashlib.sha256(len(ranges4).to_bytes(8, "big") + ranges4 + ranges6)
        self._digest = digest.hexdigest()
        self._keys: dict[int, tuple[bytes, bytes]] = {}
        self.size: int = 0
        for version in (4, 6):
            hosts, networks = _split(self._ranges(version), _WIDTHS[version], is_hosts)
            self.size += len(hosts) + len(networks)
            self._keys[version] = _packed(hosts, version), _packed_networks(networks, version)
        if self.size > MAX_ENTRIES:
            raise OptionError(
                f"a set of {self.size} addresses or networks: must be at most {MAX_ENTRIES}",
                option="hosts" if is_hosts else "nets",
            )

    @classmethod
    def of_hosts(cls, addresses: Iterable[Address] | Path) -> Self:
        """Make one of addresses, or of a file with one in each line.

        In a file ``#`` and ``;`` begin a comment. Raises ``OptionError``.
        """
        return cls._made(addresses, "hosts", is_hosts=True)

    @classmethod
    def of_nets(cls, networks: Iterable[Network] | Path) -> Self:
        """Make one of networks, without host bits, and addresses, or of a file with these.

        In a file ``#`` and ``;`` begin a comment. Raises ``OptionError``.
        """
        return cls._made(networks, "nets", is_hosts=False)

    @classmethod
    def _made(cls, values: Iterable[object] | Path, option: str, *, is_hosts: bool) -> Self:
        found: dict[int, list[_Range]] = {4: [], 6: []}
        parse = _address if is_hosts else _network
        if isinstance(values, Path):
            for number, text in _lines(values, option):
                try:
                    version, span = parse(text)
                except ValueError as error:
                    raise OptionError(
                        f"{option} of {values}: line {number}: {error}", option=option
                    ) from None
                found[version].append(span)
        else:
            if isinstance(values, str | bytes):
                raise OptionError(f"{option}={values!r}: must be a list, or a Path", option=option)
            for value in values:
                try:
                    version, span = parse(value)
                except ValueError as error:
                    raise OptionError(f"{option}: {value!r}: {error}", option=option) from None
                found[version].append(span)
        return cls(
            array("I", [end for span in _merged(found[4]) for end in span]).tobytes(),
            array(
                "Q",
                [half for span in _merged(found[6]) for end in span for half in _halves(end)],
            ).tobytes(),
            is_hosts=is_hosts,
        )

    def __contains__(self, address: Address) -> bool:
        """Whether the set has the address; for people to ask, one at a time."""
        found = ipaddress.ip_address(address)
        return any(first <= int(found) <= last for first, last in self._ranges(found.version))

    def has(self, version: int) -> bool:
        """Whether it has addresses of this IP version."""
        return bool(self.ranges4 if version == 4 else self.ranges6)

    def _ranges(self, version: int) -> Iterator[_Range]:
        if version == 4:
            flat = iter(array("I", self.ranges4))
            yield from zip(flat, flat, strict=True)
        else:
            halves = iter(array("Q", self.ranges6))
            for a, b, c, d in zip(halves, halves, halves, halves, strict=True):
                yield a << 64 | b, c << 64 | d

    def keys(self, version: int) -> tuple[bytes, bytes]:
        """Return the keys of its two maps: a hash map of addresses, an LPM trie of networks.

        A set that was made of networks has as few of them as there can be.
        """
        return self._keys[version]

    # -- as a value --

    @property
    def name(self) -> str:
        """Text that stands for it in an expression: no two sets have the same."""
        kind = "hosts" if self._is_hosts else "nets"
        return f"{{{self.size} {kind} {self._digest[:16]}}}"

    def __len__(self) -> int:
        return self.size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AddressSet):
            return NotImplemented
        return self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"<AddressSet {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.ranges4, self.ranges6, self._is_hosts)


def _restore(cls: type[AddressSet], ranges4: bytes, ranges6: bytes, is_hosts: bool) -> AddressSet:
    return cls(ranges4, ranges6, is_hosts=is_hosts)


def _split(
    ranges: Iterable[_Range],
    width: int,
    is_hosts: bool,
) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the addresses, and the networks by prefix length and address."""
    hosts: list[int] = []
    networks: list[tuple[int, int]] = []
    for first, last in ranges:
        if is_hosts:
            hosts.extend(range(first, last + 1))
            continue
        at = first
        while at <= last:
            size = 1 << (last - at + 1).bit_length() - 1
            size = min(at & -at or size, size)
            if size == 1:
                hosts.append(at)
            else:
                networks.append((width + 1 - size.bit_length(), at))
            at += size
    return hosts, networks


def _packed(addresses: list[int], version: int) -> bytes:
    """Return the addresses in network byte order, one after the other."""
    if version == 6:
        return b"".join([address.to_bytes(16, "big") for address in addresses])
    words = array("I", addresses)
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()


def _packed_networks(networks: list[tuple[int, int]], version: int) -> bytes:
    """Return the networks as struct bpf_lpm_trie_key: prefix length, address."""
    addresses = array("I", _packed([address for _, address in networks], version))
    each = 1 + (1 if version == 4 else 4)
    words = array("I", bytes(4 * each * len(networks)))
    words[::each] = array("I", [length for length, _ in networks])
    for word in range(1, each):
        words[word::each] = addresses[word - 1 :: each - 1]
    return words.tobytes()


def _halves(address: int) -> tuple[int, int]:
    return address >> 64, address & _LOW


def _merged(ranges: list[_Range]) -> list[_Range]:
    ranges.sort()
    merged: list[_Range] = []
    for first, last in ranges:
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = merged[-1][0], last
        else:
            merged.append((first, last))
    return merged


# -- reading; ipaddress takes ten times as long, and has the words for what is wrong --


def _address(value: object) -> tuple[int, _Range]:
    if isinstance(value, str):
        version = 6 if ":" in value else 4
        try:
            packed = socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, value)
        except (OSError, ValueError):
            pass
        else:
            number = int.from_bytes(packed, "big")
            return version, (number, number)
    elif isinstance(value, int):
        raise ValueError("must be an address")
    found = ipaddress.ip_address(value)  # type: ignore[arg-type]
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None:
        raise ValueError("a frame has no scope")
    return found.version, (int(found), int(found))


def _network(value: object) -> tuple[int, _Range]:
    if isinstance(value, str):
        address, slash, length = value.partition("/")
        if not slash:
            return _address(value)
        if length.isdecimal() and length.isascii() and len(length) <= 3:
            version, (first, _) = _address(address)
            width = _WIDTHS[version]
            if int(length) <= width:
                hosts = (1 << width - int(length)) - 1
                if not first & hosts:
                    return version, (first, first | hosts)
    elif isinstance(value, int):
        raise ValueError("must be a network")
    found = ipaddress.ip_network(value)  # type: ignore[arg-type]
    return found.version, (int(found.network_address), int(found.broadcast_address))


def _lines(path: Path, option: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are no comment, with their numbers."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise OptionError(f"{option} of {path}: {error.strerror}", option=option) from error
    if len(data) > _MAX_FILE:
        raise OptionError(
            f"{option} of {path}: the file has over {_MAX_FILE >> 20} MiB", option=option
        )
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        if text := _COMMENT.sub("", line).strip():
            yield number, text
