"""Batches with application records, made by hand as the C core makes them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from netring_bpf import EventBatch
from netring_bpf._core import ffi, lib
from netring_bpf.events.layout import Layout

__all__ = ["EXAMPLES", "answer", "app_batch", "record_of"]

Value = bytes | int


def record_of(*fields: tuple[int, Value]) -> bytes:
    """The record of these fields: a number is a u32."""
    made = b""
    for field, value in fields:
        sent = struct.pack("=I", value) if isinstance(value, int) else value
        made += struct.pack("=BBH", field, 0, len(sent)) + sent
    return made


def answer(owner: bytes, kind: int, ttl: int, data: bytes, *, chained: bool = True) -> bytes:
    """The value of an ``NR_FIELD_ANSWER``."""
    return struct.pack("=IHBB", ttl, kind, chained, len(owner)) + owner + data


def app_batch(events: Iterable[tuple[Mapping[str, Any], bytes]]) -> EventBatch:
    """A batch of these events, each with its record behind the last of them."""
    pairs = list(events)
    size = ffi.sizeof("nr_event")
    natives, records, at = [], b"", len(pairs) * size
    for native, record in pairs:
        natives.append({"app_at": at, "app_size": len(record)} | dict(native))
        records += record
        at += len(record)
    made = ffi.new("nr_event[]", natives)
    return EventBatch(bytes(ffi.buffer(made)) + records, Layout(size, False, 0), len(pairs))


_FLOW = {
    "ts": 1_700_000_000_123_456_789, "start_ts": 1_700_000_000_000_000_000, "flow_id": 7,
    "orig_h": bytes([10, 0, 0, 1]), "resp_h": bytes([10, 0, 0, 2]), "orig_p": 40_000,
    "family": 4, "vlan": [lib.NR_NO_VLAN, lib.NR_NO_VLAN], "end_reason": lib.NR_END_FIN,
    "has_macs": 1, "orig_mac": bytes.fromhex("0200000000a1"),
    "resp_mac": bytes.fromhex("0200000000b2"), "app_count": 1,
}  # fmt: skip
_TCP = _FLOW | {"proto": 6, "orig": {"packets": 3}, "resp": {"packets": 2}}
_UDP = _FLOW | {"proto": 17, "orig": {"packets": 1}, "resp": {"packets": 1}}

#: A flow of each protocol that has details, by its name: the event, and its record.
EXAMPLES: Mapping[str, tuple[dict[str, Any], bytes]] = {
    "tls": (
        _TCP | {"app_protocol": lib.NR_APP_TLS, "resp_p": 443, "mac_changes": 2},
        record_of(
            (lib.NR_FIELD_CUT, 1),
            (lib.NR_FIELD_CARRIER, lib.NR_APP_SMTP),
            (lib.NR_FIELD_VERSION, 0x0304),
            (lib.NR_FIELD_SERVER_NAME, b"www.example.org"),
            (lib.NR_FIELD_ALPN_OFFERED, b"h2"),
            (lib.NR_FIELD_ALPN_OFFERED, b"http/1.1"),
            (lib.NR_FIELD_ALPN, b"h2"),
            (lib.NR_FIELD_CIPHER, 0x1301),
            (lib.NR_FIELD_RESUMED, 1),
            (lib.NR_FIELD_ECH, 1),
            (lib.NR_FIELD_JA4, b"t13d1516h2_8daaf6152771_02713d6af862"),
            (lib.NR_FIELD_JA3, b"773906b0efdefa24a7f2b8eb6985bf37"),
            (lib.NR_FIELD_GROUP, 4588),
            (lib.NR_FIELD_CLIENT_VERSION, 0x0304),
            (lib.NR_FIELD_RESP_NAME, b"web.example.org"),
        ),
    ),
    "quic": (
        _UDP | {"app_protocol": lib.NR_APP_QUIC, "resp_p": 443},
        record_of(
            (lib.NR_FIELD_VERSION, 1),
            (lib.NR_FIELD_SERVER_NAME, b"quic.example.org"),
            (lib.NR_FIELD_ALPN, b"h3"),
            (lib.NR_FIELD_JA4, b"q13d0310h3_55b375c5d22e_cd85d2d88918"),
            (lib.NR_FIELD_JA3, b"773906b0efdefa24a7f2b8eb6985bf37"),
        ),
    ),
    "http": (
        _TCP | {"app_protocol": lib.NR_APP_HTTP, "resp_p": 8080, "app_count": 3},
        record_of(
            (lib.NR_FIELD_VERSION, 0x0101),
            (lib.NR_FIELD_METHOD, b"GET"),
            (lib.NR_FIELD_HOST, b"example.org"),
            (lib.NR_FIELD_PATH, b'/a?b="c"\\d\x1b[2J'),
            (lib.NR_FIELD_STATUS, 404),
            (lib.NR_FIELD_USER_AGENT, b"curl/8.1, \xff\xc3\xa9"),
            (lib.NR_FIELD_CONTENT_TYPE, b"text/html"),
            (lib.NR_FIELD_REASON, b"Not Found"),
        ),
    ),
    "dns": (
        _UDP | {"app_protocol": lib.NR_APP_DNS, "resp_p": 53},
        record_of(
            (lib.NR_FIELD_QUERY, b"www.example.org"),
            (lib.NR_FIELD_QUERY_TYPE, 1),
            (lib.NR_FIELD_QUERY_CLASS, 1),
            (lib.NR_FIELD_RCODE, 0),
            (lib.NR_FIELD_ID, 0xBEEF),
            (lib.NR_FIELD_DNS_FLAGS, 0x8180),
            (lib.NR_FIELD_ANSWER, answer(b"www.example.org", 5, 300, b"web.example.org")),
            (lib.NR_FIELD_ANSWER, answer(b"web.example.org", 1, 60, bytes([192, 0, 2, 1]))),
            (lib.NR_FIELD_ANSWER, answer(b"", 28, 0, bytes(15) + b"\1", chained=False)),
        ),
    ),
    "dhcp": (
        _UDP | {"app_protocol": lib.NR_APP_DHCP, "resp_p": 67},
        record_of(
            (lib.NR_FIELD_MAC, bytes.fromhex("0200000000a1")),
            (lib.NR_FIELD_HOST_NAME, b"television"),
            (lib.NR_FIELD_CLIENT_FQDN, b"television.example.org"),
            (lib.NR_FIELD_VENDOR_CLASS, b"android-dhcp-13"),
            (lib.NR_FIELD_DOMAIN, b"example.org"),
            (lib.NR_FIELD_MESSAGE_TYPE, 3),
            (lib.NR_FIELD_MESSAGE_TYPE, 5),
            (lib.NR_FIELD_ASSIGNED, bytes([10, 0, 0, 9])),
            (lib.NR_FIELD_REQUESTED, bytes([10, 0, 0, 9])),
            (lib.NR_FIELD_SERVER, bytes([10, 0, 0, 1])),
            (lib.NR_FIELD_ROUTER, bytes([10, 0, 0, 1])),
            (lib.NR_FIELD_PREFIX_LENGTH, 24),
            (lib.NR_FIELD_LEASE, 3600),
            (lib.NR_FIELD_ID, 0x12345678),
        ),
    ),
    "ssdp": (
        _UDP | {"app_protocol": lib.NR_APP_SSDP, "resp_p": 1900},
        record_of(
            (lib.NR_FIELD_METHOD, b"NOTIFY"),
            (lib.NR_FIELD_SERVICE, b"upnp:rootdevice"),
            (lib.NR_FIELD_LOCATION, b"http://10.0.0.9/d.xml"),
            (lib.NR_FIELD_SERVER_SOFTWARE, b"Linux UPnP/1.0"),
        ),
    ),
    "ssh": (
        _TCP | {"app_protocol": lib.NR_APP_SSH, "resp_p": 22},
        record_of(
            (lib.NR_FIELD_VERSION, 0x0200),
            (lib.NR_FIELD_CLIENT_SOFTWARE, b"SSH-2.0-OpenSSH_9.2p1 Debian-2"),
            (lib.NR_FIELD_SERVER_SOFTWARE, b"SSH-2.0-dropbear"),
        ),
    ),
    "mqtt": (
        _TCP | {"app_protocol": lib.NR_APP_MQTT, "resp_p": 1883},
        record_of((lib.NR_FIELD_VERSION, 4), (lib.NR_FIELD_CLIENT_ID, b"meter-1")),
    ),
}
