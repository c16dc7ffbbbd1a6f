"""Filters with sets of addresses: their meaning is that of the same hosts joined by ``or``."""

from __future__ import annotations

import functools
import pickle
import random
from pathlib import Path

import pytest

from netring_bpf import Filter
from netring_bpf.errors import FilterError, OptionError
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.filter.host_lists import find_lists
from tests.support.frames import ethernet, tcp, udp
from tests.support.grammar import Frames
from tests.support.sizes import size

F = Filter
V4 = ["10.0.0.1", "10.1.2.3", "8.8.8.8", "224.0.0.1"]
V6 = ["2001:db8::1", "fe80::1", "2001:db8:1::53"]
NETS = ["10.0.0.0/31", "172.16.0.0/12", "2001:db8::/64", "192.168.1.1"]
ONE = udp("10.0.0.1", "10.9.9.9", 1, 2)
OTHER = udp("10.9.9.9", "10.9.9.8", 1, 2)


def words(direction: str, networks: list[str]) -> str:
    """The primitives joined by ``or``."""
    each = (f"{direction} {'net' if '/' in n else 'host'} {n}" for n in networks)
    return f"({' or '.join(each)})"


CASES: dict[str, tuple[Filter, str]] = {
    "hosts": (F.hosts(V4), words("", V4)),
    "hosts of both versions": (F.hosts(V4 + V6), words("", V4 + V6)),
    "hosts of IPv6": (F.hosts(V6), words("", V6)),
    "src_hosts": (F.src_hosts(V4 + V6), words("src", V4 + V6)),
    "dst_hosts": (F.dst_hosts(V4 + V6), words("dst", V4 + V6)),
    "nets": (F.nets(NETS), words("", NETS)),
    "src_nets": (F.src_nets(NETS), words("src", NETS)),
    "dst_nets": (F.dst_nets(NETS), words("dst", NETS)),
    "and": (F.hosts(V4 + V6) & F.tcp, f"{words('', V4 + V6)} and tcp"),
    "or": (F.hosts(V4) | F.port(53), f"{words('', V4)} or port 53"),
    "not": (~F.nets(NETS), f"not {words('', NETS)}"),
    "both": (
        F.src_hosts(V4) & ~F.dst_nets(NETS), f"{words('src', V4)} and not {words('dst', NETS)}"
    ),
    "less one": (F.hosts(V4) & ~F.host(V4[1]), f"{words('', V4)} and not host {V4[1]}"),
    "or less one": (
        (F.hosts(V4) | F.udp) & ~F.host(V4[1]),
        f"({words('', V4)} or udp) and not host {V4[1]}",
    ),
    "twice": (F.hosts(V4) & F.src_hosts(V4), f"{words('', V4)} and {words('src', V4)}"),
    "behind a tag": (F.vlan() & F.hosts(V4 + V6), f"vlan and {words('', V4 + V6)}"),
    "before a tag": (F.hosts(V4) | F.vlan(7), f"{words('', V4)} or vlan 7"),
    "behind labels": (F.mpls() & F.hosts(V4), f"mpls and {words('', V4)}"),
    "behind PPPoE": (F("pppoes") & F.hosts(V4 + V6), f"pppoes and {words('', V4 + V6)}"),
}  # fmt: skip


@functools.cache
def whole(seed: int, count: int) -> tuple[bytes, ...]:
    """Frames with all of their addresses, out of so many: of others see below."""
    return tuple(frame for frame in Frames(seed).batch(count) if len(frame) >= 120)


@pytest.mark.parametrize("name", CASES)
def test_a_set_means_what_its_hosts_joined_by_or_mean(name: str) -> None:
    made, expression = CASES[name]
    judge = F(expression)
    frames = [*whole(5, size(4000, 40_000))]
    frames += [ethernet(0x0806, bytes(14) + bytes(map(int, a.split("."))) + bytes(50)) for a in V4]
    said = [made.matches(frame) for frame in frames]
    assert said == [judge.matches(frame) for frame in frames]
    assert any(said)
    assert not all(said)


@pytest.mark.parametrize("name", ["and", "both", "not"])
def test_a_live_filter_means_the_same(name: str) -> None:
    made, expression = CASES[name]
    live, judge = made.for_interface("lo"), F(expression).for_interface("lo")
    frames = whole(6, 2000)
    assert [live.matches(frame) for frame in frames] == [judge.matches(frame) for frame in frames]


@pytest.mark.parametrize("linktype", [12, 113, 276, 127, 9, 0])
def test_a_set_is_asked_on_every_link_type(linktype: int) -> None:
    made, expression = CASES["hosts of both versions"]
    made, judge = made.for_linktype(linktype), F(expression, linktype=linktype)
    draw = random.Random(linktype)
    head = {113: bytes(14), 127: b"\0\0\x08\0" + bytes(4), 9: b"\xff\x03"}.get(linktype, b"")
    for frame in whole(linktype, 1000):
        at = 14 if draw.random() < 0.5 else 12
        shown = head + frame[at:]
        assert made.matches(shown) == judge.matches(shown)


def test_a_frame_that_ends_inside_an_address_is_rejected_as_by_any_load() -> None:
    made = F.src_hosts(V4)
    assert made.matches(ONE[:30])
    assert not made.matches(ONE[:29])
    assert not (~made).matches(ONE[:29])


def test_an_empty_set_matches_nothing() -> None:
    assert not F.hosts([]).matches(ONE)
    assert (~F.hosts([])).matches(ONE)
    assert (F.nets([]) | F.udp).matches(ONE)


def test_a_filter_with_a_set_is_a_value() -> None:
    made = F.hosts(V4) & F.udp
    assert made == F.hosts(reversed(V4)) & F.udp
    assert hash(made) == hash(F.nets(V4) & F.udp)
    assert made != F.hosts(V4[1:]) & F.udp
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert again.matches(ONE)
    assert not again.matches(OTHER)
    assert len(pickle.dumps(F.hosts(map(str, range(0))))) < 1000


def test_the_text_of_a_set_tells_its_size_and_no_address() -> None:
    text = (F.hosts(V4) & F.tcp).expression
    assert text.startswith("(host in {4 hosts ")
    assert text.endswith("}) and (tcp)")
    assert V4[0] not in text
    with pytest.raises(FilterError):
        F(text)


def test_the_listing_shows_where_a_set_is_asked() -> None:
    lines = F.hosts(V4 + V6).explain().splitlines()
    asked = [line for line in lines if "{7 hosts " in line]
    assert [line.split()[1] for line in asked] == ["in4", "in4", "in4", "in4", "in4", "in4",
                                                   "in6", "in6"]  # fmt: skip
    assert len(lines) == len(F.hosts(V4 + V6).instructions)


def test_what_is_wrong_beside_a_set_is_told_in_the_words_given() -> None:
    with pytest.raises(FilterError, match=r"host in \{4 hosts \w+\}\) and \(no such word"):
        (F.hosts(V4) & F.deferred("no such word")).compile()


def test_more_sets_than_there_are_numbers_for_are_refused() -> None:
    many = F.hosts([V4[0]])
    for n in range(64):
        many |= F.hosts([f"10.77.0.{n}"])
    with pytest.raises(FilterError, match="at most 64"):
        many.compile()


def test_named_filters_share_a_set() -> None:
    named = FilterSet.of({"a": F.hosts(V4) & F.tcp, "b": F.nets(V4), "c": F.nets(NETS)})
    assert len(named.sets) == 2
    assert named.needs_ebpf
    assert FilterSet.of({"a": "tcp"}).needs_ebpf
    assert FilterSet.of(F.hosts(V4)).needs_ebpf
    assert not FilterSet.of("tcp").needs_ebpf


def test_a_file_of_addresses_is_a_filter(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1\n")
    assert F.hosts(path) == F.hosts(["10.0.0.1"])
    with pytest.raises(OptionError):
        F.src_hosts(tmp_path)


# -- long lists in the text of a filter of a file --

LIST = [f"10.{n // 200}.{n % 200}.1" for n in range(40)]
LONG = " or ".join(f"host {a}" for a in LIST)


@pytest.mark.parametrize(
    "expression",
    [
        LONG,
        f"({LONG})",
        f"tcp and ({LONG})",
        f"({LONG}) and not port 53",
        f"not ({LONG})",
        f"! ( {LONG} ) || tcp",
        f"tcp or {LONG} and port 53",
        f"vlan and ({LONG})",
        f"{LONG} or vlan 7 or {LONG}",
        LONG.replace("host 10.0.3", "src host 10.0.3").replace("host 10.0.9", "dst host 10.0.9"),
        LONG.replace("or host", "or"),
        "src " + LONG.replace("or host", "||"),
        " or ".join(f"net 10.{n}.0.0/16" for n in range(0, 120, 3)),
        " or ".join(f"net 2001:db8:{n}::/48" for n in range(40)),
        "".join("(" for _ in LIST) + ") or ".join(f"(host {a})" for a in LIST) + ")",
        f"tcp[13] & 2 != 0 and ({LONG})",
        f"ip[0] & 0xf > 5 or {LONG} or (udp src port 53 and less 100)",
    ],
)  # fmt: skip
def test_a_long_list_becomes_a_set_and_the_verdict_stays(expression: str) -> None:
    judge, quick = F(expression), F.deferred(expression).with_lists_as_sets()
    assert quick is not None
    assert len(quick.instructions) < 150
    frames = [*whole(8, 1000)]
    frames += [tcp(a, "10.9.9.9", 1, 53) for a in [*LIST[:20], "10.99.0.1"]]
    frames += [udp("10.9.9.9", a, 53, 9, vlans=(7,)) for a in LIST[:20]]
    assert [quick.matches(f) for f in frames] == [judge.matches(f) for f in frames]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "tcp",
        " or ".join(f"host 10.0.0.{n}" for n in range(15)),  # too short
        " and ".join(f"host 10.0.0.{n}" for n in range(40)),
        " or ".join(f"port {n}" for n in range(40)),
        LONG + " or",
        LONG + " or host",
        LONG + ")",
        "(" + LONG,
        LONG + " or 80",
        LONG + " and 10.0.0.1",
        f"src or dst {LONG}",
        LONG.replace("10.0.3.1", "10.0.3.256"),
        LONG.replace("host 10.0.3.1", "host example.org or example.net"),
        "not host 10.0.0.1 " + "or 10.0.0.2 " * 40,
        "(tcp[12] & 0xf0) >> 2 > 20 or " + LONG,
        LONG.replace(" or ", " xor "),
    ],
)
def test_what_is_not_certain_is_left_to_libpcap(expression: str) -> None:
    assert find_lists(expression) is None


def test_ten_thousand_parentheses_are_no_matter() -> None:
    assert find_lists("(" * 10_000 + LONG + ")" * 10_000) is not None


def test_random_text_of_these_words_never_changes_its_meaning() -> None:
    draw = random.Random(11)
    pieces = [
        LONG, LONG.replace("host", "src host"), "tcp", "port 53", "vlan 7", "less 90", "10.0.0.1",
        "host 10.0.0.1", "net 10.0.0.0/8", "src", "not", "(", ")", "and", "or", "&&", "||", "!",
        "mpls",
    ]  # fmt: skip
    frames = [*whole(12, 200), *(tcp(a, "10.9.9.9", 1, 53) for a in LIST[:5])]
    found = 0
    for _ in range(size(1500, 20_000)):
        expression = " ".join(draw.choices(pieces, k=draw.randrange(1, 8)))
        quick = F.deferred(expression).with_lists_as_sets()
        if quick is None:
            continue
        try:
            judge = F(expression)
        except FilterError as error:
            # Only the optimizer sees that no frame can match.
            if "rejects all packets" not in str(error):
                with pytest.raises(FilterError):
                    quick.compile()
            continue
        found += 1
        assert [quick.matches(f) for f in frames] == [judge.matches(f) for f in frames], expression
    assert found > 30
