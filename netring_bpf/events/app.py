r"""The protocol inside a flow: what is read of it, as values.

The C core reads the first payload bytes of each side into a record, of which ``app_record.py``
makes an ``App``. Text is as it was sent, without what a reader may obey: control characters, ends
of lines, marks of direction and bytes that are no UTF-8 stand as ``\x1b``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

__all__ = [
    "App",
    "Details",
    "DhcpDetails",
    "DnsAnswer",
    "DnsDetails",
    "HttpDetails",
    "MqttDetails",
    "SsdpDetails",
    "SshDetails",
    "TlsDetails",
    "app_fields",
    "network_text",
]


class TlsDetails(NamedTuple):
    """The values in the hellos of TLS, DTLS and QUIC.

    ``client_version``: the highest that the client offered. ``cipher`` and ``group``: those that
    the server chose. ``resumed``: an earlier session goes on. ``ech``: the client hid the name that
    it wants (Encrypted ClientHello), and ``App.name`` is the outer one. ``alert``: the number of
    the alert that the server sent in place of its hello. ``ja3``: the client's fingerprint, an MD5
    in hexadecimal. ``alpn_offered``: the protocols that the client offered.
    """

    client_version: str | None = None
    cipher: str | None = None
    group: str | None = None
    resumed: bool = False
    ech: bool = False
    alert: int | None = None
    ja3: str | None = None
    alpn_offered: tuple[str, ...] = ()


class HttpDetails(NamedTuple):
    """A request of HTTP/1 and its answer.

    ``method``, ``host``, ``path``, ``user_agent``: of the request; of the path its first 256 bytes.
    ``status``, ``reason``, ``content_type``: of the answer; the status is its number, as 200.
    """

    method: str | None = None
    host: str | None = None
    path: str | None = None
    status: int | None = None
    reason: str | None = None
    user_agent: str | None = None
    content_type: str | None = None


class DnsAnswer(NamedTuple):
    """A record of an answer.

    ``owner``: the name that the record is of. ``type``: a word, as ``"AAAA"``. ``ttl``: its time to
    live, in seconds. ``data``: an address as text, a name, or a text.

    ``chained``: the owner is the name that was asked for, or an alias of it.
    """

    owner: str
    type: str
    ttl: int
    data: str
    chained: bool = False


class DnsDetails(NamedTuple):
    """A question of DNS, mDNS, LLMNR or NetBIOS, and its answer.

    ``query``: the name asked for. ``qclass``: the class, a number. ``id``: the number that pairs
    question and answer. ``answers``: the records of the answer. ``type`` and ``rcode`` are words
    (``"AAAA"``, ``"NXDOMAIN"``). ``flags``: the second word of the header, of the answer if one was
    seen. ``suffix``: the last byte of a NetBIOS name.
    """

    query: str | None = None
    type: str | None = None
    qclass: int | None = None
    rcode: str | None = None
    id: int | None = None
    flags: int | None = None
    suffix: int | None = None
    answers: tuple[DnsAnswer, ...] = ()


class DhcpDetails(NamedTuple):
    """An exchange of DHCP or DHCPv6. Addresses are text; ``lease`` is in seconds.

    ``mac``: of the client. ``host_name``, ``client_fqdn``: the client's name, short and full.
    ``vendor_class``: what the client says that it is. ``domain``: that the server gives.
    ``server``: its address. ``routers``: those of the network. ``prefix_length``: of the network,
    in bits. ``id``: the number of the transaction. ``message_types``: in the order in which they
    came. ``requested``: the address that the client asked for; ``assigned``: those that it was
    given.
    """

    mac: str | None = None
    host_name: str | None = None
    client_fqdn: str | None = None
    vendor_class: str | None = None
    domain: str | None = None
    message_types: tuple[str, ...] = ()
    assigned: tuple[str, ...] = ()
    requested: str | None = None
    server: str | None = None
    routers: tuple[str, ...] = ()
    prefix_length: int | None = None
    lease: int | None = None
    id: int | None = None


class SsdpDetails(NamedTuple):
    """A message of SSDP.

    ``method``: ``"NOTIFY"`` or ``"M-SEARCH"``; None of an answer. ``service``: its NT or ST.
    ``location``: where its description is. ``server``, ``user_agent``: what its sender says that
    it is.
    """

    method: str | None = None
    service: str | None = None
    location: str | None = None
    server: str | None = None
    user_agent: str | None = None


class SshDetails(NamedTuple):
    """The banners of SSH. ``client``: of the client. ``server``: of the server."""

    client: str | None = None
    server: str | None = None


class MqttDetails(NamedTuple):
    """A CONNECT of MQTT. ``client_id``: the name that the client gives itself."""

    client_id: str | None = None


Details: TypeAlias = (
    TlsDetails | HttpDetails | DnsDetails | DhcpDetails | SsdpDetails | SshDetails | MqttDetails
)

_Flat: TypeAlias = tuple[
    str, str | None, str | None, str | None, str | None, str | None, str | None, int, bool
]


class App:
    """The protocol inside a flow, and what its first exchange says; or another exchange.

    ``protocol``: ``"tls"``, ``"quic"``, ``"http"``, ``"dns"``, … ``name``: the name that the
    originator wanted: of the server (TLS, QUIC, HTTP), that it asked for (DNS), its own (DHCP).
    ``name_from``: ``"sni"`` of TLS and DTLS, else the protocol. ``alpn``: the protocol that TLS
    carries, as the server chose. ``version``: ``"TLSv1.3"``, ``"QUICv1"``, ``"HTTP/1.1"``.
    ``ja4``: the fingerprint of a TLS client. ``carrier``: the protocol that handed over to TLS, as
    ``"smtp"``. ``count``: the exchanges of the flow so far. ``is_cut``: not all that was sent
    found room. ``details``: what the protocol has besides; its class follows from the protocol.

    With ``FlowOptions(names="service")`` there is ``protocol`` alone. A value: those of a capture
    are read when somebody looks at them.
    """

    __slots__ = ("_details", "_flat")
    __match_args__ = FIELDS = (
        "protocol", "name", "name_from", "alpn", "version", "ja4", "carrier", "count", "is_cut",
        "details",
    )  # fmt: skip
    _flat: _Flat | None
    _details: Details | None

    def __init__(
        self,
        protocol: str,
        name: str | None = None,
        name_from: str | None = None,
        alpn: str | None = None,
        version: str | None = None,
        ja4: str | None = None,
        carrier: str | None = None,
        count: int = 0,
        is_cut: bool = False,
        details: Details | None = None,
    ) -> None:
        self._flat = (protocol, name, name_from, alpn, version, ja4, carrier, count, is_cut)
        self._details = details

    def _values(self) -> _Flat:
        assert self._flat is not None
        return self._flat

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return self._values()[0]

    @property
    def name(self) -> str | None:
        """The name that the originator wanted."""
        return self._values()[1]

    @property
    def name_from(self) -> str | None:
        """The protocol or field that gave the name."""
        return self._values()[2]

    @property
    def alpn(self) -> str | None:
        """The protocol that TLS carries."""
        return self._values()[3]

    @property
    def version(self) -> str | None:
        """The protocol's version, as people write it."""
        return self._values()[4]

    @property
    def ja4(self) -> str | None:
        """The fingerprint of the TLS client."""
        return self._values()[5]

    @property
    def carrier(self) -> str | None:
        """The protocol that handed over to TLS."""
        return self._values()[6]

    @property
    def count(self) -> int:
        """The exchanges of the flow so far."""
        return self._values()[7]

    @property
    def is_cut(self) -> bool:
        """Whether not all that was sent found room."""
        return self._values()[8]

    @property
    def details(self) -> Details | None:
        """What the protocol has besides."""
        return self._details

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, App):
            return NotImplemented
        return self._values() == other._values() and self.details == other.details

    def __hash__(self) -> int:
        return hash((self._values(), self.details))

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.FIELDS)
        return f"App({told})"


# -- text --

# Controls of ISO 6429, ends of lines, marks of direction, and the mark of byte order.
_OBEYED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def _hidden(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode())


def network_text(sent: bytes) -> str:
    r"""Return text that somebody sent, with what a reader may obey as ``\x1b``; as C writes it."""
    text = sent.decode(errors="backslashreplace")
    return text if text.isprintable() else _OBEYED.sub(_hidden, text)


# -- as plain values --


def app_fields(app: App) -> Iterator[tuple[str, object]]:
    """Yield the fields of ``fields.RECORD`` that an ``App`` has."""
    if not app.protocol:
        return
    for name in App.FIELDS[:7]:
        if (value := getattr(app, name)) is not None:
            yield f"app_{name}", value
    if app.count:
        yield "app_count", app.count
    if app.is_cut:
        yield "app_cut", True
    if app.details is not None and (details := _plain(app.details)):
        yield "app_details", details


def _plain(values: Details | DnsAnswer) -> dict[str, object]:
    """Return those of the values that are there."""
    made: dict[str, object] = {}
    for name, value in values._asdict().items():
        if isinstance(value, tuple):
            if value:
                made[name] = [_plain(v) if isinstance(v, DnsAnswer) else v for v in value]
        elif value is not None and value is not False:
            made[name] = value
    return made
