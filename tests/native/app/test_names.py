"""The table of the names of addresses, taught by records made by hand."""

from __future__ import annotations

import ipaddress
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netring_bpf._core import ffi, lib
from netring_bpf.errors import OptionError
from netring_bpf.ring.names import AddressName, AddressNames
from tests.support.app_records import answer, record

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
MINUTE = 60 * SECOND
ALICE, BOB, SERVER = "10.0.0.1", "10.0.0.2", "192.0.2.9"
ASKED = ("ASKED_TS", struct.pack("=Q", NOW))


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def teach(
    names: AddressNames, protocol: str, app: bytes, *, asker: str = ALICE, resp: str = SERVER,
    ts: int = NOW,
) -> None:  # fmt: skip
    number = getattr(lib, f"NR_APP_{protocol}")
    family = ipaddress.ip_address(asker).version
    lib.nr_names_teach(names.native, family, packed(asker), packed(resp), number, app, len(app), ts)


def ask(names: AddressNames, asker: str | None, address: str, ts: int = NOW) -> str | None:
    found = ffi.new("nr_address_name *")
    who = ffi.NULL if asker is None else packed(asker)
    family = ipaddress.ip_address(address).version
    size = lib.nr_names_ask(names.native, family, who, packed(address), ts, found)
    return bytes(ffi.buffer(found.text, size)).decode() if size else None


def dns(query: str, *addresses: str, ttl: int = 60, chained: bool = True) -> bytes:
    types = {4: 1, 6: 28}
    answers = (
        ("ANSWER", answer(types[ipaddress.ip_address(a).version], packed(a), ttl=ttl,
                          chained=chained))
        for a in addresses
    )  # fmt: skip
    return record(ASKED, ("QUERY", query), *answers)


def test_an_answer_of_dns_names_its_addresses_by_what_was_asked() -> None:
    names = AddressNames()
    teach(names, "DNS", dns("WWW.Example.org.", SERVER, "2001:db8::1"))
    told = AddressName("www.example.org", "dns", NOW, NOW)
    assert names.of(SERVER) == names.of("2001:db8::1") == (told,)
    assert names.of(ipaddress.ip_address(SERVER)) == names.of(packed(SERVER)) == (told,)
    assert names.of(ALICE) == ()


def test_an_address_that_does_not_belong_to_the_question_has_no_name() -> None:
    names = AddressNames()
    teach(names, "DNS", dns("example.org", SERVER, chained=False))
    assert names.of(SERVER) == ()


def test_an_answer_to_no_question_is_not_believed() -> None:
    names = AddressNames()
    app = dns("example.org", SERVER)[len(record(ASKED)) :]
    teach(names, "DNS", app)
    assert names.of(SERVER) == ()


@pytest.mark.parametrize("protocol", ["MDNS", "LLMNR", "NETBIOS"])
def test_names_of_a_link_are_those_of_the_owners(protocol: str) -> None:
    names = AddressNames()
    told = answer(1, packed(SERVER), owner=b"Lamp.local")
    gone = answer(1, packed(BOB), owner=b"gone.local", ttl=0)
    teach(names, protocol, record(("ANSWER", told), ("ANSWER", gone)))
    assert names.of(SERVER) == (AddressName("lamp.local", protocol.lower(), NOW, NOW),)
    assert names.of(BOB) == ()


def test_netbios_answers_by_the_name_that_was_asked_for() -> None:
    names = AddressNames()
    teach(names, "NETBIOS", dns("PRINTER", SERVER))
    assert names.of(SERVER) == (AddressName("printer", "netbios", NOW, NOW),)


def test_a_lease_names_the_address_that_was_given() -> None:
    names = AddressNames()
    app = record(("HOST_NAME", "lamp"), ("ASSIGNED", packed(SERVER)), ("LEASE", 3600))
    teach(names, "DHCP", app)
    app = record(("CLIENT_FQDN", "tv.lan"), ("ASSIGNED", packed("2001:db8::7")))
    teach(names, "DHCPV6", app, asker="fe80::1", resp="ff02::1:2")
    assert names.of(SERVER) == (AddressName("lamp", "dhcp", NOW, NOW),)
    assert names.of("2001:db8::7") == (AddressName("tv.lan", "dhcpv6", NOW, NOW),)


@pytest.mark.parametrize("protocol", ["TLS", "DTLS", "QUIC"])
def test_a_server_that_answered_has_the_name_it_was_called_by(protocol: str) -> None:
    names = AddressNames()
    hello = (("SERVER_NAME", "example.org"),)
    teach(names, protocol, record(*hello))
    assert names.of(SERVER) == ()
    teach(names, protocol, record(*hello, ("CIPHER", 0x1301), ("ECH", 1)))
    assert names.of(SERVER) == ()
    teach(names, protocol, record(*hello, ("CIPHER", 0x1301)))
    assert names.of(SERVER) == (AddressName("example.org", protocol.lower(), NOW, NOW),)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Example.org", "example.org"), ("example.org:8080", "example.org"), (SERVER, None),
        (f"{SERVER}:80", None), ("[2001:db8::1]:80", None), ("", None), ("...", None),
        ("a:b", None),
    ],
)  # fmt: skip
def test_a_host_of_http_is_a_name_unless_it_is_an_address(host: str, name: str | None) -> None:
    names = AddressNames()
    teach(names, "HTTP", record(("HOST", host), ("STATUS", 200)))
    assert ask(names, ALICE, SERVER) == name


def test_a_proxy_has_not_the_name_of_the_server_behind_it() -> None:
    names = AddressNames()
    host = (("HOST", "example.org:443"), ("STATUS", 200))
    for target in ("example.org:443", "http://example.org/"):
        teach(names, "HTTP", record(*host, ("PATH", target)))
    hello = (("SERVER_NAME", "example.org"), ("CIPHER", 0x1301))
    teach(names, "TLS", record(("CARRIER", lib.NR_APP_HTTP), *hello))
    assert names.of(SERVER) == ()
    for target in ("/", "*"):
        teach(names, "HTTP", record(*host, ("PATH", target)))
    teach(names, "TLS", record(("CARRIER", lib.NR_APP_SMTP), *hello))
    assert {source for _, source, *_ in names.of(SERVER)} == {"tls", "http"}


def test_each_asker_gets_the_name_that_it_asked_for() -> None:
    names = AddressNames()
    teach(names, "DNS", dns("a.example", SERVER), asker=ALICE)
    teach(names, "DNS", dns("b.example", SERVER), asker=BOB, ts=NOW + SECOND)
    later = NOW + 2 * SECOND
    assert ask(names, ALICE, SERVER, later) == "a.example"
    assert ask(names, BOB, SERVER, later) == "b.example"
    for stranger in ("10.0.0.3", None):
        assert ask(names, stranger, SERVER, later) == "b.example"
    assert [name for name, *_ in names.of(SERVER)] == ["b.example", "a.example"]
    teach(names, "DNS", dns("c.example", SERVER), asker=ALICE, ts=later)
    assert ask(names, ALICE, SERVER, later) == "c.example"


def test_sources_are_kept_apart_and_times_go_on() -> None:
    names = AddressNames()
    teach(names, "DNS", dns("example.org", SERVER))
    hello = record(("SERVER_NAME", "example.org"), ("CIPHER", 1))
    teach(names, "TLS", hello, ts=NOW + 1)
    teach(names, "TLS", hello, ts=NOW + 5)
    assert names.of(SERVER) == (
        AddressName("example.org", "tls", NOW + 1, NOW + 5),
        AddressName("example.org", "dns", NOW, NOW),
    )


@pytest.mark.parametrize(
    ("ttl", "lasts"), [(0, 10 * MINUTE), (3600, 60 * MINUTE), (2**32 - 1, 24 * 60 * MINUTE)]
)
def test_a_name_ends_with_its_time(ttl: int, lasts: int) -> None:
    names = AddressNames()
    for n in range(3):
        teach(names, "DNS", dns("example.org", SERVER, ttl=ttl), ts=NOW - n)
    for asker in (ALICE, BOB):
        assert ask(names, asker, SERVER, NOW + lasts) == "example.org"
        assert ask(names, asker, SERVER, NOW + lasts + 1) is None
    for later in range(1, 4):
        teach(names, "DNS", dns("other.example", BOB), ts=NOW + lasts + later)
    assert names.of(SERVER) == ()


@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize("stray", [11 * MINUTE, 400 * 24 * 60 * MINUTE])
def test_a_stray_time_ends_no_name(before: int, stray: int) -> None:
    names = AddressNames()
    for n in range(before):
        teach(names, "DNS", dns("other.example", BOB), ts=NOW + n)
    teach(names, "DNS", dns("example.org", SERVER))
    for _ in range(5):  # all that one packet tells
        teach(names, "DNS", dns("other.example", BOB, ALICE), ts=NOW + stray)
    assert [name for name, *_ in names.of(SERVER)] == ["example.org"]
    for n in range(10):  # strays that are not in a row
        teach(names, "DNS", dns("other.example", BOB), ts=NOW + SECOND + n)
        if before:
            teach(names, "DNS", dns("other.example", BOB), ts=NOW + stray + n)
    assert [name for name, *_ in names.of(SERVER)] == ["example.org"]


def test_time_goes_on_to_the_earliest_of_three_packets_behind_a_silence() -> None:
    names = AddressNames()
    for n in range(3):
        teach(names, "DNS", dns("other.example", BOB), ts=NOW - n)
    teach(names, "DNS", dns("example.org", SERVER))
    for minutes in (30, 10, 20):  # the earliest of them is the end of the name
        teach(names, "DNS", dns("other.example", BOB), ts=NOW + minutes * MINUTE)
    assert [name for name, *_ in names.of(SERVER)] == ["example.org"]
    for n in range(3):
        teach(names, "DNS", dns("other.example", BOB), ts=NOW + 30 * MINUTE + n)
    assert names.of(SERVER) == ()


def test_the_table_is_bounded_and_the_least_recently_used_make_room() -> None:
    names = AddressNames(1 << 16)
    capacity = names.statistics().capacity
    for n in range(capacity * 4):
        address = str(ipaddress.ip_address(0x0B000000 + n))
        teach(names, "DNS", dns(f"{n}.example", address, ttl=0), ts=NOW + n)
        if n % 4 == 0:
            teach(names, "DNS", dns("kept.example", SERVER, ttl=3600), ts=NOW + n)
    books = names.statistics()
    assert (books.learned, books.names) == (capacity * 5, capacity)
    assert books.replaced >= capacity * 3
    assert books.missed == 0
    assert ask(names, ALICE, SERVER) == "kept.example"


def test_names_that_are_no_text_are_shown_escaped() -> None:
    names = AddressNames()
    teach(
        names, "DNS", record(ASKED, ("QUERY", b"\xff\n.x"), ("ANSWER", answer(1, packed(SERVER))))
    )
    assert [name for name, *_ in names.of(SERVER)] == [r"\xff\x0a.x"]


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(OptionError, match="example"):
        AddressNames().of("example")
    with pytest.raises(OptionError, match="at least 65536"):
        AddressNames(1)


RECORDS = st.lists(
    st.tuples(st.integers(0, 80), st.binary(max_size=30)).map(
        lambda f: struct.pack("=BxH", f[0], len(f[1])) + f[1]
    ),
    max_size=10,
).map(b"".join)
_SHARED = AddressNames(1 << 16)


@given(RECORDS, st.binary(max_size=8), st.integers(0, 255), st.integers(0, 2**64 - 1))
def test_any_record_is_taken(app: bytes, rest: bytes, protocol: int, ts: int) -> None:
    exact = ffi.new("uint8_t[]", app + rest)
    for family in (4, 6, 0):
        lib.nr_names_teach(
            _SHARED.native, family, bytes(16), bytes(16), protocol, exact, len(exact), ts
        )
    assert _SHARED.statistics().names <= _SHARED.statistics().capacity


def test_threads_share_the_table() -> None:
    names = AddressNames(1 << 16)

    def work(number: int) -> None:
        for n in range(2000):
            asker = f"10.0.{number}.1"
            teach(names, "DNS", dns(f"{number}.example", SERVER), asker=asker, ts=NOW + n)
            assert ask(names, asker, SERVER, NOW + n) is not None or names.statistics().missed
            names.of(SERVER)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    books = names.statistics()
    assert books.learned + books.missed >= 8000
    assert {name for name, *_ in names.of(SERVER)} <= {f"{n}.example" for n in range(4)}
