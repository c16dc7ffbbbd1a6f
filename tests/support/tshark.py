"""The fields of tshark beside ours: what each says of the exchanges in a capture file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from netring_bpf import App, AppEvent, FlowOptions
from netring_bpf._core import ffi, lib
from netring_bpf.events.app import (
    DhcpDetails,
    DnsDetails,
    HttpDetails,
    MqttDetails,
    SshDetails,
    TlsDetails,
)
from tests.support.replay import replay_file

__all__ = ["FIELDS", "Said", "ours", "theirs"]

#: The fields that both have, by the protocol inside.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "tls": ("name", "alpn_offered", "ja3", "version", "cipher", "alpn"),
    "quic": ("name", "alpn_offered", "ja3", "cipher"),
    "http": ("method", "host", "path", "user_agent", "status"),
    "dns": ("query", "type", "rcode", "address"),
    "ssh": ("client", "server"),
    "dhcp": ("host_name", "mac"),
    "mqtt": ("client_id",),
}
Tree: TypeAlias = Any  # of tshark's JSON
_TLS = ("tls", "dtls", "quic")
_DNS = ("dns", "mdns", "llmnr")
_ADDRESSES = ("A", "AAAA")
_SHOWN = (  # not what an ICMP error quotes
    "not icmp and not icmpv6 and "
    "(tls.handshake.type in {1, 2} or dtls.handshake.type in {1, 2} or http.request or "
    "http.response or dns or mdns or llmnr or ssh.protocol or dhcp or mqtt.clientid)"
)
_LAYERS = "frame ip ipv6 tcp udp tls dtls quic http dns mdns llmnr ssh dhcp mqtt"
_NOWHERE: frozenset[tuple[str, int]] = frozenset()
_VERSIONS = {
    "0x0300": "SSLv3", "0x0301": "TLSv1.0", "0x0302": "TLSv1.1", "0x0303": "TLSv1.2",
    "0x0304": "TLSv1.3", "0xfeff": "DTLSv1.0", "0xfefd": "DTLSv1.2", "0xfefc": "DTLSv1.3",
}  # fmt: skip


class Said(NamedTuple):
    """A value of a field: between which ends, and of which protocol.

    DHCP has no ends, as a client without an address has none either.
    """

    protocol: str
    field: str
    ends: frozenset[tuple[str, int]]
    value: str


# -- tshark --


def theirs(path: Path) -> set[Said]:
    """Everything that tshark says of the file."""
    command = ["tshark", "-n", "-r", str(path), "-T", "json", "--no-duplicate-keys"]
    command += ["-o", "http.desegment_body:FALSE"]  # else an answer without its end is not shown
    done = subprocess.run(
        [*command, "-J", _LAYERS, "-Y", _SHOWN], check=False, capture_output=True
    )  # a file that ends in a frame makes it fail behind the last whole one
    packets = json.loads(done.stdout.decode(errors="replace") or "[]")
    return {said for packet in packets for said in _of_packet(packet["_source"]["layers"])}


def _of_packet(layers: Tree) -> Iterator[Said]:
    ends = _ends(layers)
    for protocol, field, value in _values(layers):
        yield Said(protocol, field, _NOWHERE if protocol == "dhcp" else ends, value)


def _ends(layers: Tree) -> frozenset[tuple[str, int]]:
    """The innermost addresses and ports."""
    named = layers["frame"]["frame.protocols"].split(":")
    transport = max(i for i, name in enumerate(named) if name in {"tcp", "udp"})
    network = max(i for i, name in enumerate(named[:transport]) if name in {"ip", "ipv6"})
    sides = []
    for which in ("src", "dst"):
        [address] = set(_texts(_last(layers[named[network]]), f"{named[network]}.{which}"))
        [port] = set(_texts(_last(layers[named[transport]]), f"{named[transport]}.{which}port"))
        sides.append((address, int(port)))
    return frozenset(sides)


def _last(tree: Tree) -> Tree:
    return tree[-1] if isinstance(tree, list) else tree


def _found(tree: Tree, name: str) -> Iterator[Tree]:
    """What has this name, wherever it stands."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == name:
                yield value
            yield from _found(value, name)
    elif isinstance(tree, list):
        for item in tree:
            yield from _found(item, name)


def _texts(tree: Tree, *names: str) -> Iterator[str]:
    for name in names:
        for value in _found(tree, name):
            yield from value if isinstance(value, list) else [value]


def _with(tree: Tree, name: str) -> Iterator[Tree]:
    """The branches that have this name themselves."""
    if isinstance(tree, dict):
        if name in tree:
            yield tree
        for value in tree.values():
            yield from _with(value, name)
    elif isinstance(tree, list):
        for item in tree:
            yield from _with(item, name)


def _values(layers: Tree) -> Iterator[tuple[str, str, str]]:
    for prefix in ("tls", "dtls"):
        for message in _with(layers, f"{prefix}.handshake.type"):
            yield from _of_hello(message, prefix, "quic" if "quic" in layers else "tls")
    yield from _of_http(layers)
    for message in _with(layers, "dns.id"):
        yield from _of_dns(message, "mdns" in layers)
    for message in _with(layers, "ssh.protocol"):
        side = "client" if message["ssh.direction"] == "0" else "server"
        yield from (("ssh", side, banner) for banner in _texts(message, "ssh.protocol"))
    for message in _with(layers, "dhcp.type"):
        yield from (("dhcp", "host_name", v) for v in _texts(message, "dhcp.option.hostname"))
        yield from (("dhcp", "mac", v) for v in _texts(message, "dhcp.hw.mac_addr"))
    yield from (("mqtt", "client_id", v) for v in _texts(layers, "mqtt.clientid"))


def _of_hello(message: Tree, prefix: str, of: str) -> Iterator[tuple[str, str, str]]:
    def texts(*names: str) -> Iterator[str]:
        return _texts(message, *(f"{p}.handshake.{name}" for name in names for p in _TLS))

    if message[f"{prefix}.handshake.type"] == "1":
        yield from ((of, "name", v) for v in texts("extensions_server_name"))
        yield from ((of, "alpn_offered", v) for v in texts("extensions_alpn_str"))
        yield from ((of, "ja3", v) for v in texts("ja3"))
    elif message[f"{prefix}.handshake.type"] == "2":
        newer = list(texts("extensions.supported_version"))
        for version in newer or [message[f"{prefix}.handshake.version"]]:
            if of != "quic":  # there ``version`` is QUIC's own
                yield of, "version", _VERSIONS.get(version, f"unknown-{version}")
        yield from ((of, "cipher", _word(lib.NR_WORD_CIPHER, v)) for v in texts("ciphersuite"))
        yield from ((of, "alpn", v) for v in texts("extensions_alpn_str"))


def _word(of: int, number: str) -> str:
    """Our word for a number of tshark's."""
    room = ffi.new("char[]", lib.NR_WORD_SIZE)
    return bytes(ffi.buffer(room, lib.nr_app_word(of, int(number, 0), room))).decode()


def _of_http(layers: Tree) -> Iterator[tuple[str, str, str]]:
    for field, name in (
        ("method", "http.request.method"),
        ("host", "http.host"),
        ("path", "http.request.uri"),
        ("user_agent", "http.user_agent"),
        ("status", "http.response.code"),
    ):
        yield from (("http", field, v[:256]) for v in _texts(layers, name))


def _of_dns(message: Tree, is_multicast: bool) -> Iterator[tuple[str, str, str]]:
    for field, name in (
        ("query", "dns.qry.name"),
        ("type", "dns.qry.type"),
        ("rcode", "dns.flags.rcode"),
    ):
        yield from (("dns", field, _dns_word(field, v)) for v in _texts(message, name))
    for part in ("Answers", *(("Additional records",) if is_multicast else ())):
        found = _texts(message.get(part, {}), "dns.a", "dns.aaaa")
        yield from (("dns", "address", v) for v in found)


def _dns_word(field: str, value: str) -> str:
    match field:
        case "type":
            return _word(lib.NR_WORD_DNS_TYPE, value)
        case "rcode":
            return _word(lib.NR_WORD_DNS_RCODE, value)
        case _:
            return "" if value == "<Root>" else value


# -- ours --


def ours(path: Path, options: FlowOptions | None = None) -> set[Said]:
    """Everything that the package says of the file."""
    story = replay_file(path, options or FlowOptions(update_interval=None))
    found = set()
    for event in story.events:
        if isinstance(event, AppEvent) and event.app is not None:
            key = event.flow.key
            ends = frozenset((str(end.addr), end.port) for end in (key.orig, key.resp))
            ends = _NOWHERE if event.app.protocol == "dhcp" else ends
            found |= {Said(*said, ends, value) for *said, value in _of_app(event.app)}
    return found


def _of_app(app: App) -> Iterator[tuple[str, str, str]]:
    details = app.details
    match details:
        case TlsDetails():
            of = "quic" if app.protocol == "quic" else "tls"
            values = {
                "name": app.name, "ja3": details.ja3, "cipher": details.cipher, "alpn": app.alpn,
                "version": None if of == "quic" else app.version,
            }  # fmt: skip
            yield from ((of, "alpn_offered", v) for v in details.alpn_offered)
        case HttpDetails():
            of, values = "http", details._asdict()
        case DnsDetails() if app.protocol in _DNS:
            of, values = "dns", details._asdict()
            if details.type is None:  # the owner of an answer without a question
                del values["query"]
            yield from ((of, "address", a.data) for a in details.answers if a.type in _ADDRESSES)
        case SshDetails():
            of, values = "ssh", details._asdict()
        case DhcpDetails() if app.protocol == "dhcp":
            of, values = "dhcp", details._asdict()
        case MqttDetails():
            of, values = "mqtt", details._asdict()
        case _:
            return
    for field in FIELDS[of]:
        if (value := values.get(field)) not in (None, ()):
            yield of, field, str(value)
