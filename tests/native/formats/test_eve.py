"""EVE beside Suricata's own: its fields and their types, its names, its states of TCP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from netring_bpf import AppEvent, FlowEnded, FlowKey, FlowOptions
from netring_bpf._core import lib
from netring_bpf.formats.batch_text import TextEncoder
from tests.support.apps import EXAMPLES, app_batch, record_of
from tests.support.frames import icmp_echo, ip, tcp, udp
from tests.support.replay import START, Frame, one_batch

A, B = "10.0.0.1", "10.0.0.2"
A6, B6 = "2001:db8::1", "::ffff:10.0.0.2"
NO_UPDATES = FlowOptions(update_interval=None)

# The fields of a flow event in the schema of Suricata 8, as far as a flow of ours has them. The
# schema takes no others.
FLOW = {
    "pkts_toserver": int, "pkts_toclient": int, "bytes_toserver": int, "bytes_toclient": int,
    "start": str, "end": str, "age": int, "state": str, "reason": str, "alerted": bool,
}  # fmt: skip
TCP = {
    "tcp_flags": str, "tcp_flags_ts": str, "tcp_flags_tc": str, "syn": bool, "fin": bool,
    "rst": bool, "psh": bool, "ack": bool, "urg": bool, "ecn": bool, "cwr": bool, "state": str,
    "tc_gap": bool, "ts_gap": bool,
}  # fmt: skip
EVENT: dict[str, object] = {
    "timestamp": str, "flow_id": int, "parent_id": int, "in_iface": str, "event_type": str,
    "vlan": list, "src_ip": str, "src_port": int, "dest_ip": str, "dest_port": int, "ip_v": int,
    "proto": str, "icmp_type": int, "icmp_code": int, "response_icmp_type": int,
    "response_icmp_code": int, "ether": {"src_mac": str, "dest_mac": str}, "app_proto": str,
    "app_proto_orig": str, "flow": FLOW,
    "metadata": {"flowbits": list}, "community_id": str, "tcp": TCP,
}  # fmt: skip
# The objects of exchanges, likewise; a list has the table of its items.
HASH = {"hash": str}
BANNER = {"proto_version": str, "software_version": str}
APPS: dict[str, dict[str, object]] = {
    "tls": {
        "sni": str, "version": str, "session_resumed": bool, "from_proto": str, "ja3": HASH,
        "ja4": str, "client_alpns": list, "server_alpns": list,
        "server_handshake": {"cipher": int},
    },
    "quic": {"version": str, "sni": str, "ja3": HASH, "ja4": str},
    "http": {
        "hostname": str, "url": str, "http_user_agent": str, "http_content_type": str,
        "http_method": str, "protocol": str, "status": int,
    },
    "dns": {
        "version": int, "type": str, "id": int, "flags": str, "qr": bool, "aa": bool, "tc": bool,
        "rd": bool, "ra": bool, "z": bool, "opcode": int, "rcode": str, "queries": list,
        "answers": list,
    },
    "ssh": {"client": BANNER, "server": BANNER},
    "dhcp": {
        "type": str, "id": int, "client_mac": str, "assigned_ip": str, "dhcp_type": str,
        "requested_ip": str, "subnet_mask": str, "routers": list, "hostname": str,
        "lease_time": int, "vendor_class_identifier": str,
    },
}  # fmt: skip
ALWAYS = ("timestamp", "flow_id", "event_type", "flow")


def complaints(record: dict[str, Any], table: dict[str, Any]) -> list[str]:
    """What Suricata's own tools would not know: a field, its type, or its place in the order."""
    found = [name for name in record if name not in table]
    known = [name for name in record if name in table]
    if known != [name for name in table if name in record]:
        found.append(f"order {known}")
    for name in known:
        if isinstance(table[name], dict):
            found += complaints(record[name], table[name])
        elif type(record[name]) is not table[name]:
            found.append(name)
    return found


def events(
    frames: Sequence[bytes], options: FlowOptions = NO_UPDATES, **text: Any
) -> list[dict[str, Any]]:
    batch = one_batch((Frame(f, START + n * 1_000_000) for n, f in enumerate(frames)), options)
    made = TextEncoder("eve", **text).encode_records(batch.of_kinds(FlowEnded)).records()
    records: list[dict[str, Any]] = [json.loads(text) for text in made]
    for record in records:
        assert complaints(record, EVENT) == []
        assert [name for name in ALWAYS if name not in record] == []
    return records


def event(
    frames: Sequence[bytes], options: FlowOptions = NO_UPDATES, **text: Any
) -> dict[str, Any]:
    [record] = events(frames, options, **text)
    return record


class Talk:
    """The segments of one connection, made in the order in which they are written down."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self._next = {"c": 100, "s": 500}

    def __call__(self, who: str, flags: str, payload: bytes = b"", *, acks: int = 0) -> Talk:
        """``acks``: how many of the other side's latest numbers are not acknowledged."""
        other = "s" if who == "c" else "c"
        ack = self._next[other] - acks if "A" in flags else 0
        ends = (A, B, 4000, 80) if who == "c" else (B, A, 80, 4000)
        self.frames.append(tcp(*ends, payload, flags=flags, seq=self._next[who], ack=ack))
        self._next[who] += len(payload) + ("S" in flags) + ("F" in flags)
        return self


def opened() -> Talk:
    return Talk()("c", "S")("s", "SA")("c", "A")


@pytest.mark.parametrize(
    ("talk", "flags", "state", "flow"),
    [
        (Talk()("c", "S"), ("02", "00"), "syn_sent", "new"),
        (Talk()("c", "S")("s", "SA"), ("02", "12"), "syn_recv", "new"),
        (opened(), ("12", "12"), "established", "established"),
        (opened()("c", "PA", b"x")("s", "A"), ("1a", "12"), "established", "established"),
        (opened()("c", "FA"), ("13", "12"), "close_wait", "established"),
        (opened()("c", "FA")("s", "A"), ("13", "12"), "close_wait", "established"),
        (opened()("c", "FA")("s", "FA"), ("13", "13"), "last_ack", "closed"),
        (opened()("c", "FA")("s", "FA")("c", "A"), ("13", "13"), "closed", "closed"),
        (opened()("s", "FA"), ("12", "13"), "fin_wait1", "established"),
        (opened()("s", "FA")("c", "A"), ("12", "13"), "fin_wait2", "established"),
        (opened()("s", "FA")("c", "FA"), ("13", "13"), "time_wait", "closed"),
        (opened()("s", "FA")("c", "A")("c", "FA"), ("13", "13"), "time_wait", "closed"),
        (opened()("s", "FA")("c", "FA", acks=1), ("13", "13"), "closing", "established"),
        (opened()("s", "FA")("c", "FA", acks=1)("c", "A"), ("13", "13"), "time_wait", "closed"),
        (opened()("s", "FA")("c", "FA")("s", "A"), ("13", "13"), "closed", "closed"),
        (opened()("s", "R"), ("12", "16"), "closed", "closed"),
        (opened()("c", "FA")("c", "R"), ("17", "12"), "closed", "closed"),
        (Talk()("c", "S")("s", "RA"), ("02", "14"), "closed", "closed"),
        (Talk()("c", "SEC")("s", "SAE")("c", "A"), ("d2", "52"), "established", "established"),
        (opened()("c", "PAU", b"x"), ("3a", "12"), "established", "established"),
        # What was under way before the capture began, as Suricata with stream.midstream.
        (Talk()("c", "PA", b"x")("s", "A"), ("18", "10"), "established", "established"),
        (Talk()("s", "SA"), ("00", "12"), "syn_recv", "new"),
    ],
)
def test_a_connection_is_in_the_state_that_suricata_says(
    talk: Talk, flags: tuple[str, str], state: str, flow: str
) -> None:
    record = event(talk.frames)
    told = record["tcp"]
    assert (told["tcp_flags_ts"], told["tcp_flags_tc"]) == flags
    assert told["tcp_flags"] == f"{int(flags[0], 16) | int(flags[1], 16):02x}"
    names = ("fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr")
    both = int(told["tcp_flags"], 16)
    assert {name for name in names if told.get(name)} == {
        name for bit, name in enumerate(names) if both >> bit & 1
    }
    assert (told["state"], record["flow"]["state"]) == (state, flow)
    assert (record["src_port"], record["dest_port"]) == (4000, 80)


def test_a_gap_is_told_for_its_side() -> None:
    talk = opened()("c", "PA", b"x" * 10)
    lost = Talk()
    lost._next = talk._next
    lost("s", "PA", b"y" * 10)
    talk("c", "A")("s", "PA", b"z")("c", "A")
    record = event(talk.frames)
    assert record["tcp"]["tc_gap"] is True
    assert "ts_gap" not in record["tcp"]


def test_the_active_timeout_divides_the_flags_too() -> None:
    options = FlowOptions(update_interval=None, active_timeout=0.002)
    talk = opened()("c", "PA", b"x")
    first, second = events(talk.frames, options)
    assert (first["tcp"]["tcp_flags_ts"], second["tcp"]["tcp_flags_ts"]) == ("02", "18")


@pytest.mark.parametrize(
    ("frame", "proto", "ports"),
    [
        (tcp(A, B, 1, 2), "TCP", (1, 2)),
        (udp(A, B, 1, 2), "UDP", (1, 2)),
        (ip(A, B, 132, b"\0\1\0\2" + bytes(12)), "SCTP", (1, 2)),
        (ip(A, B, 136, b"\0\1\0\2" + bytes(8)), "UDPLite", None),
        (ip(A, B, 33, b"\0\1\0\2" + bytes(12)), "DCCP", None),
        (ip(A, B, 2, bytes(8)), "IGMP", None),
        (ip(A, B, 50, bytes(16)), "ESP", None),
        (ip(A, B, 89, bytes(24)), "OSPF", None),
        (ip(A, B, 103, bytes(8)), "PIM", None),
        (ip(A, B, 143, bytes(8)), "Ethernet", None),
        (ip(A, B, 253, bytes(8)), "253", None),
        (icmp_echo(A, B, 1, 1), "ICMP", None),
        (icmp_echo(A6, B6, 1, 1), "IPv6-ICMP", None),
    ],
)
def test_protocols_have_suricata_s_names_and_three_of_them_ports(
    frame: bytes, proto: str, ports: tuple[int, int] | None
) -> None:
    record = event([frame], FlowOptions(update_interval=None, tunnel_depth=0))
    assert record["proto"] == proto
    assert (record.get("src_port"), record.get("dest_port")) == (ports or (None, None))
    assert record["ip_v"] == (6 if ":" in record["src_ip"] else 4)


def test_an_answered_ping_has_the_types_of_both_sides() -> None:
    record = event([icmp_echo(A, B, 7, 1), icmp_echo(B, A, 7, 1, reply=True)])
    names = ("icmp_type", "icmp_code", "response_icmp_type", "response_icmp_code")
    assert [record[name] for name in names] == [8, 0, 0, 0]
    alone = event([icmp_echo(A6, B6, 7, 1)])
    assert [alone.get(name) for name in names] == [128, 0, None, None]


def test_addresses_of_ipv6_are_spelled_as_suricata_does() -> None:
    frame = udp(A6, B6, 1, 2)
    long = event([frame])
    assert long["src_ip"] == "2001:0db8:0000:0000:0000:0000:0000:0001"
    assert long["dest_ip"] == "0000:0000:0000:0000:0000:ffff:0a00:0002"
    short = event([frame], compress_ipv6=True)
    assert (short["src_ip"], short["dest_ip"]) == (A6, B6)


def test_the_interface_is_named_where_there_is_one() -> None:
    assert event([udp(A, B, 1, 2)], interface='e"\x9b')["in_iface"] == 'e"\x9b'
    assert "in_iface" not in event([udp(A, B, 1, 2)])
    [line] = TextEncoder("eve", interface="\x9b").encode_records(
        one_batch([udp(A, B, 1, 2)]).of_kinds(FlowEnded)
    ).records()  # fmt: skip
    assert b"\\u009b" in line


def test_a_capture_of_one_direction_is_told_where_suricata_has_a_place_for_it() -> None:
    record = event([udp(A, B, 1, 2)], FlowOptions(update_interval=None, one_sided=True))
    assert record["metadata"] == {"flowbits": ["one_sided"]}


def test_a_pair_of_stations_has_their_addresses_and_no_others() -> None:
    options = FlowOptions(update_interval=None, key=FlowKey.MAC_PAIR)
    record = event([udp(A, B, 1, 2)], options)
    assert record["ether"] == {"src_mac": "02:00:00:00:00:0a", "dest_mac": "02:00:00:00:00:0b"}
    assert {"src_ip", "proto", "community_id", "ip_v"} & set(record) == set()


def test_a_flow_in_a_tunnel_names_the_tunnel_s_flow() -> None:
    inner = udp("10.9.0.1", "10.9.0.2", 1, 2)
    vxlan = udp(A, B, 5555, 4789, bytes.fromhex("0800000000004d00") + inner)
    told = {record["src_ip"]: record for record in events([vxlan])}
    assert told["10.9.0.1"]["parent_id"] == told[A]["flow_id"]
    assert "parent_id" not in told[A]


def exchange(name: str, record: bytes | None = None, **changed: Any) -> dict[str, Any]:
    native, example = EXAMPLES[name]
    event = native | {"kind": lib.NR_EVENT_APP} | changed
    batch = app_batch([(event, example if record is None else record)])
    made = json.loads(TextEncoder("eve").encode(batch))
    kind = made["event_type"]
    assert complaints(made, EVENT | {kind: APPS[kind]}) == []
    head = {key: made[key] for key in ("src_port", "dest_port", "proto", "ip_v")}
    assert head == {
        "src_port": 40_000, "dest_port": event["resp_p"],
        "proto": {6: "TCP", 17: "UDP"}[event["proto"]], "ip_v": 4,
    }  # fmt: skip
    assert made["community_id"] == batch[0].flow.key.community_id()
    told: dict[str, Any] = made[kind]
    return told


def test_an_exchange_has_the_fields_of_suricata_s_event() -> None:
    assert exchange("tls") == {
        "sni": "www.example.org", "version": "TLS 1.3", "session_resumed": True,
        "from_proto": "smtp", "ja3": {"hash": "773906b0efdefa24a7f2b8eb6985bf37"},
        "ja4": "t13d1516h2_8daaf6152771_02713d6af862", "client_alpns": ["h2", "http/1.1"],
        "server_alpns": ["h2"], "server_handshake": {"cipher": 0x1301},
    }  # fmt: skip
    assert exchange("quic") == {
        "version": "1", "sni": "quic.example.org",
        "ja3": {"hash": "773906b0efdefa24a7f2b8eb6985bf37"},
        "ja4": "q13d0310h3_55b375c5d22e_cd85d2d88918",
    }  # fmt: skip
    assert exchange("http") == {
        "hostname": "example.org", "url": '/a?b="c"\\d\\x1b[2J',
        "http_user_agent": "curl/8.1, \\xffé", "http_content_type": "text/html",
        "http_method": "GET", "protocol": "HTTP/1.1", "status": 404,
    }  # fmt: skip
    assert exchange("dns") == {
        "version": 3, "type": "response", "id": 0xBEEF, "flags": "8180", "qr": True, "rd": True,
        "ra": True, "opcode": 0, "rcode": "NOERROR",
        "queries": [{"rrname": "www.example.org", "rrtype": "A"}],
        "answers": [
            {"rrname": "www.example.org", "rrtype": "CNAME", "ttl": 300,
             "rdata": "web.example.org"},
            {"rrname": "web.example.org", "rrtype": "A", "ttl": 60, "rdata": "192.0.2.1"},
            {"rrname": "", "rrtype": "AAAA", "ttl": 0, "rdata": "::1"},
        ],
    }  # fmt: skip
    assert exchange("ssh") == {
        "client": {"proto_version": "2.0", "software_version": "OpenSSH_9.2p1 Debian-2"},
        "server": {"proto_version": "2.0", "software_version": "dropbear"},
    }
    assert exchange("dhcp") == {
        "type": "reply", "id": 0x12345678, "client_mac": "02:00:00:00:00:a1",
        "assigned_ip": "10.0.0.9", "dhcp_type": "ack", "requested_ip": "10.0.0.9",
        "subnet_mask": "255.255.255.0", "routers": ["10.0.0.1"], "hostname": "television",
        "lease_time": 3600, "vendor_class_identifier": "android-dhcp-13",
    }  # fmt: skip


def test_a_question_without_an_answer_is_a_request() -> None:
    record = record_of(
        (lib.NR_FIELD_QUERY, b"x"), (lib.NR_FIELD_QUERY_TYPE, 255), (lib.NR_FIELD_DNS_FLAGS, 0x100)
    )
    assert exchange("dns", record) == {
        "version": 3, "type": "request", "flags": "100", "rd": True, "opcode": 0,
        "queries": [{"rrname": "x", "rrtype": "ANY"}],
    }  # fmt: skip


def test_an_exchange_that_suricata_has_no_event_for_is_left_out() -> None:
    events = [(EXAMPLES[name][0] | {"kind": lib.NR_EVENT_APP}, EXAMPLES[name][1])
              for name in ("ssdp", "mqtt")]  # fmt: skip
    events.append((EXAMPLES["tls"][0] | {"kind": lib.NR_EVENT_APP}, b""))
    assert TextEncoder("eve").encode(app_batch(events)) == b""


def test_a_flow_has_suricata_s_name_of_its_protocol() -> None:
    native, record = EXAMPLES["tls"]
    batch = app_batch([(native | {"kind": lib.NR_EVENT_ENDED}, record)])
    made = json.loads(TextEncoder("eve", kinds=(FlowEnded, AppEvent)).encode(batch))
    assert complaints(made, EVENT) == []
    assert (made["app_proto"], made["app_proto_orig"]) == ("tls", "smtp")
