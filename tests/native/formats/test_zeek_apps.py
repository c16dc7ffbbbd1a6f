"""The logs of Zeek for application protocols, line by line, from records made by hand."""

from __future__ import annotations

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netring_bpf._core import ffi, lib
from netring_bpf.events.app_record import PROTOCOLS
from netring_bpf.formats.base import FORMATS
from netring_bpf.formats.batch_text import TextEncoder
from tests.support.app_records import answer, batch_of, record

LOGS = ("ssl", "http", "dns", "quic", "dhcp", "ssh")
ASKED = ("ASKED_TS", struct.pack("=Q", 1_700_000_000_000_000_000))
FLOW = {
    "ts": 1_700_000_000_250_000_999,
    "flow_id": 7,
    "start_ts": 1_600_000_000_000_000_000,
    "orig_h": bytes([10, 0, 0, 1]),
    "resp_h": bytes([192, 0, 2, 9]),
    "orig_p": 40000,
    "resp_p": 443,
    "family": 4,
    "proto": 6,
    "vlan": [lib.NR_NO_VLAN, lib.NR_NO_VLAN],
}
HEAD = "10.0.0.1\t40000\t192.0.2.9\t"


def lines(log: str, *events: tuple[dict[str, object], bytes]) -> list[str]:
    text = TextEncoder(f"zeek-{log}").encode(batch_of(events)).decode()
    return text.splitlines()


def line(log: str, protocol: str, app: bytes, **native: object) -> dict[str, str]:
    """The columns of the one line that the event has in this log, with the uid left out."""
    number = getattr(lib, f"NR_APP_{protocol}")
    (text,) = lines(log, (FLOW | {"app_protocol": number} | native, app))
    values = text.split("\t")
    names = FORMATS[f"zeek-{log}"].header.decode().splitlines()[-2].split("\t")[1:]
    assert re.fullmatch("C[0-9A-Za-z]{17}", values.pop(1))
    names.pop(1)
    return dict(zip(names, values, strict=True))


def shown(columns: dict[str, str], *names: str) -> tuple[str, ...]:
    return tuple(columns[name] for name in names)


# -- ssl.log and quic.log --


def test_a_tls_handshake_is_a_line_of_ssl_log() -> None:
    app = record(
        ASKED, ("VERSION", 0x0304), ("SERVER_NAME", "example.org"), ("ALPN_OFFERED", "h2"),
        ("ALPN", "h2"), ("CIPHER", 0x1301), ("GROUP", 29), ("JA3", "0123"), ("JA4", "t13d"),
    )  # fmt: skip
    text = "\t".join(line("ssl", "TLS", app).values())
    assert text == (
        f"1700000000.000000\t{HEAD}443\tTLSv13\tTLS_AES_128_GCM_SHA256\tx25519\texample.org\tF\th2"
        "\t0123\tt13d"
    )


def test_a_hello_without_an_answer_has_no_version() -> None:
    app = record(ASKED, ("VERSION", 0x0303), ("SERVER_NAME", "example.org"), ("RESUMED", 1))
    columns = line("ssl", "TLS", app)
    names = ("version", "cipher", "curve", "server_name", "resumed", "next_protocol")
    assert shown(columns, *names) == ("-", "-", "-", "example.org", "T", "-")


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (0x0002, "SSLv2"), (0x0300, "SSLv3"), (0x0301, "TLSv10"), (0xFEFF, "DTLSv10"),
        (0xFEFD, "DTLSv12"), (0x7F17, "TLSv13-draft23"), (0x7E01, "unknown-32257"),
    ],
)  # fmt: skip
def test_versions_have_zeek_s_names(version: int, name: str) -> None:
    columns = line("ssl", "DTLS", record(("VERSION", version), ("CIPHER", 0x0034)))
    assert shown(columns, "version", "cipher") == (name, "TLS_DH_ANON_WITH_AES_128_CBC_SHA")


def test_numbers_without_a_name_are_shown() -> None:
    app = record(("VERSION", 0x0303), ("CIPHER", 0x0A0A), ("GROUP", 0x0A0A))
    assert shown(line("ssl", "TLS", app), "cipher", "curve") == ("unknown-2570", "unknown-2570")


def test_a_quic_handshake_is_a_line_of_both_logs() -> None:
    app = record(
        ("VERSION", 0x6B3343CF), ("SERVER_NAME", "example.org"), ("ALPN_OFFERED", "h3"),
        ("ALPN_OFFERED", "h3-29"), ("CIPHER", 0x1302),
    )  # fmt: skip
    columns = line("quic", "QUIC", app)
    names = ("version", "server_name", "client_protocol")
    assert shown(columns, *names) == ("quicv2", "example.org", "h3")
    columns = line("ssl", "QUIC", app)
    assert shown(columns, "version", "cipher") == ("TLSv13", "TLS_AES_256_GCM_SHA384")


@pytest.mark.parametrize(
    ("version", "name"), [(1, "1"), (0xFF00001D, "draft-29"), (0xFACEB002, "unknown-faceb002")]
)
def test_versions_of_quic_have_zeek_s_names(version: int, name: str) -> None:
    assert line("quic", "QUIC", record(("VERSION", version)))["version"] == name


# -- http.log --


def test_a_request_with_its_answer_is_a_line_of_http_log() -> None:
    app = record(
        ASKED, ("METHOD", "GET"), ("HOST", "example.org:8080"), ("PATH", "/a%20b?c=%41%"),
        ("USER_AGENT", "curl/8"), ("VERSION", 0x0101), ("STATUS", 404), ("REASON", "Not Found"),
    )  # fmt: skip
    text = "\t".join(line("http", "HTTP", app, app_count=3, resp_p=80).values())
    assert text == (
        f"1700000000.000000\t{HEAD}80\t3\tGET\texample.org:8080\t/a b?c=A%\t1.1\tcurl/8\t404"
        "\tNot Found"
    )


def test_a_request_without_an_answer_has_no_version() -> None:
    app = record(("METHOD", "GET"), ("PATH", "/"), ("VERSION", 0x0100))
    columns = line("http", "HTTP", app)
    assert shown(columns, "version", "status_code", "status_msg") == ("-", "-", "-")


def test_a_status_without_words_is_said_to_be_empty() -> None:
    for app in (record(("STATUS", 204)), record(("STATUS", 204), ("REASON", ""))):
        columns = line("http", "HTTP", app)
        assert shown(columns, "method", "status_code", "status_msg") == ("-", "204", "<empty>")


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("http://example.org/a", "/a"), ("http://example.org", "/"), ("*", "*"), ("", "(empty)"),
        ("-", r"\x2d"), ("/%fc\\", r"/\xfc\x5c"), ("/%zz%4", "/%zz%4"), ("/é,%09", r"/é,\x09"),
    ],
)  # fmt: skip
def test_targets_are_written_as_zeek_does(path: str, uri: str) -> None:
    assert line("http", "HTTP", record(("METHOD", "GET"), ("PATH", path)))["uri"] == uri


# -- dns.log --


def test_a_query_with_its_answer_is_a_line_of_dns_log() -> None:
    app = record(
        ASKED, ("QUERY", "WWW.Example.org"), ("QUERY_TYPE", 28), ("QUERY_CLASS", 1), ("ID", 513),
        ("RCODE", 0), ("DNS_FLAGS", 0x85A0),
        ("ANSWER", answer(5, b"Web.example.org", ttl=300)),
        ("ANSWER", answer(28, bytes.fromhex("20010db8") + bytes(11) + b"\1")),
        ("ANSWER", answer(16, b"TXT 5 A,B\\C", ttl=0, owner=b"Web.example.org")),
    )  # fmt: skip
    text = "\t".join(line("dns", "DNS", app, proto=17, resp_p=53).values())
    assert text == (
        f"1700000000.000000\t{HEAD}53\tudp\t513\t0.250000\twww.example.org\t1\tC_INTERNET\t28\tAAAA"
        "\t0\tNOERROR\tT\tF\tT\tT\t2"
        "\tweb.example.org,2001:db8::1,TXT 5 A\\x2cB\\x5cC\t300.000000,60.000000,0.000000\t0\tquery"
    )


def test_a_query_without_an_answer_has_no_code() -> None:
    app = record(
        ASKED, ("QUERY", "a.b"), ("QUERY_TYPE", 65), ("QUERY_CLASS", 1), ("DNS_FLAGS", 0x0100)
    )
    columns = line("dns", "DNS", app)
    names = ("rtt", "qtype_name", "rcode", "rcode_name", "RD", "RA", "answers", "TTLs")
    assert shown(columns, *names) == ("-", "HTTPS", "-", "-", "T", "F", "-", "-")


def test_names_of_dns_have_no_escapes_of_ours() -> None:
    app = record(("QUERY", r"a\.b\\c.D"), ("QUERY_TYPE", 300), ("QUERY_CLASS", 4096), ("RCODE", 15))
    columns = line("dns", "DNS", app + record(("DNS_FLAGS", 0x9000)))
    names = ("query", "qclass_name", "qtype_name", "rcode_name", "opcode_name")
    assert shown(columns, *names) == (
        r"a.b\x5cc.d", "qclass-4096", "query-300", "rcode-15", "server-status",
    )  # fmt: skip


def test_netbios_keeps_its_capitals_and_its_own_words() -> None:
    app = record(("QUERY", "WORKGROUP"), ("QUERY_TYPE", 33), ("DNS_FLAGS", 0x2910))
    columns = line("dns", "NETBIOS", app, proto=17, resp_p=137)
    names = ("query", "qtype_name", "opcode", "opcode_name")
    assert shown(columns, *names) == ("WORKGROUP", "NBSTAT", "5", "netbios-registration")


# -- dhcp.log --


def test_an_exchange_of_dhcp_is_a_line_of_dhcp_log() -> None:
    app = record(
        ASKED, ("MAC", bytes.fromhex("020000000001")), ("HOST_NAME", "lamp"),
        ("CLIENT_FQDN", "lamp.lan"), ("REQUESTED", bytes([192, 0, 2, 7])), ("MESSAGE_TYPE", 3),
        ("MESSAGE_TYPE", 5), ("ASSIGNED", bytes([192, 0, 2, 8])), ("DOMAIN", "lan"),
        ("LEASE", 3600), ("ID", 99),
    )  # fmt: skip
    native = {"proto": 17, "orig_p": 68, "resp_p": 67, "orig": {"packets": 1}}
    text = "\t".join(line("dhcp", "DHCP", app, **native).values())
    assert text == (
        "1700000000.000000\t10.0.0.1\t192.0.2.9\t02:00:00:00:00:01\tlamp\tlamp.lan\tlan\t192.0.2.7"
        "\t192.0.2.8\t3600.000000\tREQUEST,ACK\t0.250000\t99"
    )


def test_a_client_without_an_address_has_the_one_it_was_given() -> None:
    app = record(("ASSIGNED", bytes([192, 0, 2, 8])), ("MESSAGE_TYPE", 2), ("MESSAGE_TYPE", 99))
    native = {"orig_p": 67, "resp_p": 68, "orig": {"packets": 1}, "proto": 17}
    columns = line("dhcp", "DHCP", app, **native)
    names = ("client_addr", "server_addr", "msg_types", "duration")
    assert shown(columns, *names) == (
        "192.0.2.8", "10.0.0.1", "OFFER,Unknown DHCP message type 99", "0.000000",
    )  # fmt: skip


# -- ssh.log --


@pytest.mark.parametrize(
    ("client", "server", "version"),
    [
        ("SSH-2.0-a", "SSH-2.0-b", "2"), ("SSH-1.99-a", "SSH-2.0-b", "2"),
        ("SSH-1.99-a", "SSH-1.99-b", "2"), ("SSH-1.5-a", "SSH-1.99-b", "1"),
        ("SSH-2.0-a", "SSH-1.5-b", "0"), ("SSH-2.0-a", None, "-"), (None, "SSH-1.5-b", "-"),
    ],
)  # fmt: skip
def test_banners_are_a_line_of_ssh_log(
    client: str | None, server: str | None, version: str
) -> None:
    banners = (("CLIENT_SOFTWARE", client), ("SERVER_SOFTWARE", server))
    app = record(*((name, value) for name, value in banners if value is not None))
    columns = line("ssh", "SSH", app)
    assert shown(columns, "version", "client", "server") == (version, client or "-", server or "-")


# -- all logs --


def test_an_event_is_in_the_log_of_its_protocol_alone() -> None:
    app = record(("SERVER_NAME", "a"), ("METHOD", "GET"), ("QUERY", "b"))
    found = {
        PROTOCOLS[number]: [
            log for log in LOGS if lines(log, (FLOW | {"app_protocol": number}, app))
        ]
        for number in range(lib.NR_APP_COUNT)
    }
    assert {protocol: logs for protocol, logs in found.items() if logs} == {
        "tls": ["ssl"], "dtls": ["ssl"], "quic": ["ssl", "quic"], "http": ["http"],
        "dns": ["dns"], "mdns": ["dns"], "llmnr": ["dns"], "netbios": ["dns"], "dhcp": ["dhcp"],
        "ssh": ["ssh"],
    }  # fmt: skip


def test_an_event_without_a_record_has_no_line() -> None:
    for log in LOGS:
        for number in range(lib.NR_APP_COUNT):
            assert lines(log, (FLOW | {"app_protocol": number}, b"")) == []


def test_the_uid_is_that_of_conn_log() -> None:
    ended = FLOW | {"kind": lib.NR_EVENT_ENDED, "end_reason": lib.NR_END_FIN}
    exchange = FLOW | {"app_protocol": lib.NR_APP_SSH}
    batch = batch_of([(ended, b""), (exchange, record(("CLIENT_SOFTWARE", "SSH-2.0-a")))])
    salted = [
        TextEncoder(name, salt="s").encode(batch).split(b"\t") for name in ("zeek", "zeek-ssh")
    ]
    assert salted[0][1:6] == salted[1][1:6]


def test_a_record_that_lies_outside_of_the_batch_is_not_read() -> None:
    app = record(("CLIENT_SOFTWARE", "SSH-2.0-a"))
    native = FLOW | {"app_protocol": lib.NR_APP_SSH}
    for wrong in ({"app_at": 2**32 - 1}, {"app_size": len(app) + 1}, {"app_size": 2**32 - 1}):
        assert lines("ssh", (native | wrong, app)) == []


FIELDS = st.tuples(
    st.sampled_from([getattr(lib, name) for name in dir(lib) if name.startswith("NR_FIELD_")]),
    st.one_of(
        st.binary(max_size=40),
        st.integers(0, 2**32 - 1).map(lambda n: struct.pack("=I", n)),
        st.text(max_size=20).map(str.encode),
        st.builds(answer, st.integers(0, 65535), st.binary(max_size=20)),
    ),
)


@given(st.lists(FIELDS, max_size=30), st.integers(0, lib.NR_APP_COUNT), st.binary(max_size=20))
def test_any_record_gives_a_line_with_all_columns(
    fields: list[tuple[int, bytes]], protocol: int, rest: bytes
) -> None:
    app = b"".join(struct.pack("=BxH", n, len(value)) + value for n, value in fields) + rest
    for log in LOGS:
        columns = FORMATS[f"zeek-{log}"].header.splitlines()[-2].count(b"\t")
        for text in lines(log, (FLOW | {"app_protocol": protocol}, app[:2048])):
            assert len(text.split("\t")) == columns
            assert text.isprintable() or "\t" in text
            assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", text)


def test_the_room_for_a_record_is_enough() -> None:
    size = lib.NR_TEXT_MAX
    long = b"".join(
        struct.pack("=BxH", n, size) + b"\xff" * size for n in (10, 12, 16, 17, 22, 21, 24, 26)
    )[:2048]
    answers = b"".join(
        record(("ANSWER", answer(28, b"\xff" * 16, ttl=2**32 - 1))) for _ in range(73)
    )
    native = FLOW | {"family": 6, "orig_h": b"\xff" * 16, "resp_h": b"\xff" * 16, "proto": 17}
    for app in (long, answers):
        assert 2000 < len(app) <= 2048
        for log in LOGS:
            encoder = TextEncoder(f"zeek-{log}")
            room = lib.nr_text_room(encoder._options)
            for number in range(lib.NR_APP_COUNT):
                made = encoder.encode(batch_of([(native | {"app_protocol": number}, app)]))
                assert len(made) < room / 1.2


# -- words --


def test_each_table_of_words_is_found_whole() -> None:
    counts = {
        name: sum(getattr(lib, f"nr_{name}_name")(n) != ffi.NULL for n in range(65536))
        for name in (
            "cipher", "tls_group", "tls_version", "dns_type", "dns_rcode", "dns_class",
            "dns_opcode", "dhcp_message",
        )
    }  # fmt: skip
    assert counts == {
        "cipher": 362, "tls_group": 58, "tls_version": 9, "dns_type": 101, "dns_rcode": 19,
        "dns_class": 6, "dns_opcode": 6, "dhcp_message": 18,
    }  # fmt: skip


def test_suites_have_the_names_of_scapy() -> None:
    from scapy.layers.tls.crypto.suites import _tls_cipher_suites

    differing = {
        number: name
        for number, name in _tls_cipher_suites.items()
        if number < 65536 and ffi.string(lib.nr_cipher_name(number)).decode() != name
    }
    # IANA has DES_CBC_40 in two, and PSK_DHE in the others.
    assert set(differing) == {0x0026, 0x0029, 0xC0AA, 0xC0AB}
