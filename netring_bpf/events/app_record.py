"""Application records, as the C core writes them behind the events of a batch, made into values.

``ring/api.h`` says what their fields are (``NR_FIELD_*``). Words for numbers are those of C.
"""

from __future__ import annotations

import enum
import ipaddress
import re
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from netring_bpf._core import ffi, lib
from netring_bpf.events.app import (
    App,
    Details,
    DhcpDetails,
    DnsAnswer,
    DnsDetails,
    HttpDetails,
    MqttDetails,
    SsdpDetails,
    SshDetails,
    TlsDetails,
    network_text,
)

__all__ = ["LONGEST", "PROTOCOLS", "TextColumn", "read_app", "text_column"]

# -- words --


@lru_cache(maxsize=4096)
def _word(of: int, number: int) -> str:
    room = ffi.new("char[]", lib.NR_WORD_SIZE)
    return _text(room, lib.nr_app_word(of, number, room))


@lru_cache(maxsize=1024)
def _version(protocol: int, number: int) -> str:
    room = ffi.new("char[]", lib.NR_WORD_SIZE)
    return _text(room, lib.nr_app_version(protocol, number, room))


def _text(room: Any, size: int) -> str:
    return bytes(ffi.buffer(room, size)).decode("ascii")


def _name(value: Any) -> str:
    return bytes(ffi.string(value)).decode("ascii")


#: The names of ``NR_APP_*``; the first one stands for none.
PROTOCOLS: Final = tuple(_name(lib.nr_app_protocol_name(n)) for n in range(lib.NR_APP_COUNT))
_SOURCES: Final = tuple(_name(lib.nr_app_name_source(n)) for n in range(lib.NR_APP_COUNT))

# -- the fields of a record --

_HEAD: Final = struct.Struct("=BxH")
_NUMBER: Final = struct.Struct("=I")
_ANSWER: Final = struct.Struct("=IHBB")
#: Bytes of a record that are read: NR_RECORD_SIZE of app/record.h.
LONGEST: Final = 2048

_Values: TypeAlias = Mapping[int, list[bytes]]
_Form: TypeAlias = Callable[[bytes], Any]


def _values(record: bytes) -> dict[int, list[bytes]]:
    """Return the values of each field, in their order."""
    found: dict[int, list[bytes]] = {}
    at, end = 0, len(record)
    while end - at >= 4:
        field, length = _HEAD.unpack_from(record, at)
        at += 4
        if length > end - at:
            break
        value = record[at : at + length]
        at += length
        if field in found:
            found[field].append(value)
        else:
            found[field] = [value]
    return found


def _number(value: bytes) -> int | None:
    return _NUMBER.unpack(value)[0] if len(value) == 4 else None


def _flag(value: bytes) -> bool:
    return bool(_number(value))


def _word_for(of: int) -> _Form:
    def read(value: bytes) -> str | None:
        number = _number(value)
        return None if number is None else _word(of, number)

    return read


def _address(value: bytes) -> str | None:
    if len(value) == 4:
        return str(ipaddress.IPv4Address(value))
    if len(value) != 16:
        return None
    mapped = ipaddress.IPv6Address(value).ipv4_mapped
    return f"::ffff:{mapped}" if mapped else str(ipaddress.IPv6Address(value))


def _mac(value: bytes) -> str | None:
    return value.hex(":") if len(value) == 6 else None


def _answer(value: bytes) -> DnsAnswer | None:
    if len(value) < 8:
        return None
    ttl, kind, chained, length = _ANSWER.unpack_from(value)
    if length > len(value) - 8:
        return None
    owner, data = value[8 : 8 + length], value[8 + length :]
    is_address = (kind, len(data)) in {(1, 4), (28, 16)}
    shown = _address(data) if is_address else network_text(data)
    return DnsAnswer(
        network_text(owner), _word(lib.NR_WORD_DNS_TYPE, kind), ttl, shown or "", chained != 0
    )


# The fields of each class of details, in its order: the field of the record, and how it is read.
_Fields: TypeAlias = tuple[tuple[int, _Form], ...]
_TLS: Final[_Fields] = (
    (lib.NR_FIELD_CLIENT_VERSION, _word_for(lib.NR_WORD_TLS_VERSION)),
    (lib.NR_FIELD_CIPHER, _word_for(lib.NR_WORD_CIPHER)),
    (lib.NR_FIELD_GROUP, _word_for(lib.NR_WORD_GROUP)),
    (lib.NR_FIELD_RESUMED, _flag),
    (lib.NR_FIELD_ECH, _flag),
    (lib.NR_FIELD_ALERT, _number),
    (lib.NR_FIELD_JA3, network_text),
    (lib.NR_FIELD_ALPN_OFFERED, network_text),
)
_HTTP: Final[_Fields] = (
    (lib.NR_FIELD_METHOD, network_text),
    (lib.NR_FIELD_HOST, network_text),
    (lib.NR_FIELD_PATH, network_text),
    (lib.NR_FIELD_STATUS, _number),
    (lib.NR_FIELD_REASON, network_text),
    (lib.NR_FIELD_USER_AGENT, network_text),
    (lib.NR_FIELD_CONTENT_TYPE, network_text),
)
_DNS: Final[_Fields] = (
    (lib.NR_FIELD_QUERY, network_text),
    (lib.NR_FIELD_QUERY_TYPE, _word_for(lib.NR_WORD_DNS_TYPE)),
    (lib.NR_FIELD_QUERY_CLASS, _number),
    (lib.NR_FIELD_RCODE, _word_for(lib.NR_WORD_DNS_RCODE)),
    (lib.NR_FIELD_ID, _number),
    (lib.NR_FIELD_DNS_FLAGS, _number),
    (lib.NR_FIELD_SUFFIX, _number),
    (lib.NR_FIELD_ANSWER, _answer),
)


def _dhcp(words: int) -> _Fields:
    return (
        (lib.NR_FIELD_MAC, _mac),
        (lib.NR_FIELD_HOST_NAME, network_text),
        (lib.NR_FIELD_CLIENT_FQDN, network_text),
        (lib.NR_FIELD_VENDOR_CLASS, network_text),
        (lib.NR_FIELD_DOMAIN, network_text),
        (lib.NR_FIELD_MESSAGE_TYPE, _word_for(words)),
        (lib.NR_FIELD_ASSIGNED, _address),
        (lib.NR_FIELD_REQUESTED, _address),
        (lib.NR_FIELD_SERVER, _address),
        (lib.NR_FIELD_ROUTER, _address),
        (lib.NR_FIELD_PREFIX_LENGTH, _number),
        (lib.NR_FIELD_LEASE, _number),
        (lib.NR_FIELD_ID, _number),
    )


_SSDP: Final[_Fields] = (
    (lib.NR_FIELD_METHOD, network_text),
    (lib.NR_FIELD_SERVICE, network_text),
    (lib.NR_FIELD_LOCATION, network_text),
    (lib.NR_FIELD_SERVER_SOFTWARE, network_text),
    (lib.NR_FIELD_USER_AGENT, network_text),
)
_SSH: Final[_Fields] = (
    (lib.NR_FIELD_CLIENT_SOFTWARE, network_text),
    (lib.NR_FIELD_SERVER_SOFTWARE, network_text),
)
_MQTT: Final[_Fields] = ((lib.NR_FIELD_CLIENT_ID, network_text),)

# What a protocol's record holds besides the fields of App.
_DETAILS: Final[Mapping[int, tuple[type[Any], _Fields]]] = {
    **dict.fromkeys((lib.NR_APP_TLS, lib.NR_APP_DTLS, lib.NR_APP_QUIC), (TlsDetails, _TLS)),
    **dict.fromkeys((lib.NR_APP_HTTP, lib.NR_APP_HTTP2), (HttpDetails, _HTTP)),
    **dict.fromkeys(
        (lib.NR_APP_DNS, lib.NR_APP_MDNS, lib.NR_APP_LLMNR, lib.NR_APP_NETBIOS), (DnsDetails, _DNS)
    ),
    lib.NR_APP_DHCP: (DhcpDetails, _dhcp(lib.NR_WORD_DHCP_MESSAGE)),
    lib.NR_APP_DHCPV6: (DhcpDetails, _dhcp(lib.NR_WORD_DHCPV6_MESSAGE)),
    lib.NR_APP_SSDP: (SsdpDetails, _SSDP),
    lib.NR_APP_SSH: (SshDetails, _SSH),
    lib.NR_APP_MQTT: (MqttDetails, _MQTT),
}
_NAMES: Final[Mapping[type[Any], tuple[int, ...]]] = {
    TlsDetails: (lib.NR_FIELD_SERVER_NAME,),
    HttpDetails: (lib.NR_FIELD_HOST,),
    DnsDetails: (lib.NR_FIELD_QUERY,),
    DhcpDetails: (lib.NR_FIELD_HOST_NAME, lib.NR_FIELD_CLIENT_FQDN),
}
_PORT: Final = re.compile(rb"(?<=.):[0-9]*\Z", re.DOTALL)
_ALPN: Final = int(lib.NR_FIELD_ALPN)
_VERSION: Final = int(lib.NR_FIELD_VERSION)
_JA4: Final = int(lib.NR_FIELD_JA4)
_CARRIER: Final = int(lib.NR_FIELD_CARRIER)
_CUT: Final = int(lib.NR_FIELD_CUT)
_RESP_NAME: Final = int(lib.NR_FIELD_RESP_NAME)
_RESP_NAME_HEAD: Final = bytes([_RESP_NAME])  # a record without this byte has no such field


def _details(kind: type[Any], fields: _Fields, values: _Values) -> Details:
    """Return the details; a field that is missing, or is no value of its form, has its default."""
    made: list[Any] = []
    for (field, read), default in zip(fields, kind._field_defaults.values(), strict=True):
        sent = values.get(field)
        if sent is None:
            made.append(default)
        elif default == ():
            made.append(tuple(value for value in map(read, sent) if value is not None))
        else:
            made.append(read(sent[0]))
    details: Details = kind(*made)
    return details


def _first(values: _Values, field: int) -> bytes:
    sent = values.get(field)
    return b"" if sent is None else sent[0]


def _first_text(values: _Values, field: int) -> str | None:
    sent = values.get(field)
    return None if sent is None else network_text(sent[0])


class RecordedApp(App):
    """An ``App`` that reads its record when somebody looks at it."""

    __slots__ = ("_count", "_number", "_record")

    def __init__(self, number: int, count: int, record: bytes) -> None:
        self._number, self._count, self._record = number, count, record
        self._flat = self._details = None

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return PROTOCOLS[self._number]

    @property
    def details(self) -> Details | None:
        """What the protocol has besides."""
        if self._details is None and self._record and self._number in _DETAILS:
            self._details = _details(*_DETAILS[self._number], _values(self._record))
        return self._details

    def _values(self) -> Any:
        if self._flat is None:
            self._flat = _flat(self._number, self._count, _values(self._record))
        return self._flat

    def __reduce__(self) -> tuple[type[App], tuple[object, ...]]:
        return App, (*self._values(), self.details)


def _flat(protocol: int, count: int, values: _Values) -> Any:
    """Return the fields of ``App`` but its details."""
    kind, _ = _DETAILS.get(protocol, (None, ()))
    sent = None
    if kind is not None:
        sent = next((values[n][0] for n in _NAMES.get(kind, ()) if n in values), None)
        if sent is not None and kind is HttpDetails:
            sent = _PORT.sub(b"", sent)
    version = _number(_first(values, _VERSION))
    carrier = _number(_first(values, _CARRIER)) or 0
    return (
        PROTOCOLS[protocol],
        None if sent is None else network_text(sent),
        None if sent is None else _SOURCES[protocol],
        _first_text(values, _ALPN),
        None if version is None else _version(protocol, version),
        _first_text(values, _JA4),
        PROTOCOLS[carrier] if 0 < carrier < len(PROTOCOLS) else None,
        count,
        _flag(_first(values, _CUT)),
    )


def _resp_name(record: bytes) -> str | None:
    at, end = 0, len(record)
    while end - at >= 4:
        field, length = _HEAD.unpack_from(record, at)
        at += 4
        if length > end - at:
            break
        if field == _RESP_NAME:
            return network_text(record[at : at + length])
        at += length
    return None


def read_app(protocol: int, count: int, record: bytes) -> tuple[App | None, str | None]:
    """Return the protocol inside a flow, and the responder's name; of ``nr_event`` and its record.

    Neither is there if the core has recognised and learned nothing.
    """
    record = record[:LONGEST]
    resp_name = _resp_name(record) if _RESP_NAME_HEAD in record else None
    if not 0 < protocol < len(PROTOCOLS):
        return None, resp_name
    return RecordedApp(protocol, count, record), resp_name


# -- as columns --


class TextColumn(enum.IntEnum):
    """The texts of records that are columns: ``NR_APP_COLUMN_*``, in the order of the record."""

    NAME = lib.NR_APP_COLUMN_NAME
    NAME_FROM = lib.NR_APP_COLUMN_NAME_FROM
    ALPN = lib.NR_APP_COLUMN_ALPN
    VERSION = lib.NR_APP_COLUMN_VERSION
    JA4 = lib.NR_APP_COLUMN_JA4
    CARRIER = lib.NR_APP_COLUMN_CARRIER
    RESP_NAME = lib.NR_APP_COLUMN_RESP_NAME
    CUT = lib.NR_APP_COLUMN_CUT  #: empty, there if the record was cut


def text_column(
    column: TextColumn, events: Any, size: int, count: int, raw: bytes, room: int
) -> tuple[bytes, bytes, bytes]:
    """Return one text of each of these ``nr_event``s.

    The texts lie one behind the other, with the end of each as a ``uint64_t``, and a byte that
    says whether it is there. ``raw``: the bytes of the batch. ``room``: those of all the events'
    records, of at most ``LONGEST`` bytes each.
    """
    out = ffi.new("char[]", max(1, 4 * room + lib.NR_WORD_SIZE * count))
    ends = ffi.new("uint64_t[]", max(1, count))
    there = ffi.new("uint8_t[]", max(1, count))
    made = lib.nr_app_column(
        int(column), events, size, count, ffi.from_buffer(raw), len(raw), out, ends, there
    )
    return (
        bytes(ffi.buffer(out, made)),
        bytes(ffi.buffer(ends, 8 * count)),
        bytes(ffi.buffer(there, count)),
    )
