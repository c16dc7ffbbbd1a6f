"""Filter expressions: libpcap's word on them, and what becomes of them on the way to XDP."""

from __future__ import annotations

import ipaddress
import pickle
import re
from typing import Any

import pytest

from netring_bpf import Filter
from netring_bpf.bpf.cbpf import Hook, to_c
from netring_bpf.errors import FilterError, OptionError
from netring_bpf.filter.filter import _restore
from netring_bpf.filter.filter_set import FilterSet
from tests.support.frames import udp

UDP = udp("10.0.0.1", "10.0.0.2", 4000, 53)

C_WORDS = {
    "A", "X", "if", "else", "goto", "return", "v", "data", "body", "end", "u", "u16", "u32", "u64",
    "bpf_ntohs", "bpf_ntohl", "netring_load", "NETRING_LEN",
}  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("tcp prot 80", "can't parse filter expression"),
        ("port", "can't parse filter expression"),
        ("host 300.1.1.1", "300.1.1.1"),
        ("net 10.0.0.0/99", "99"),
        ("portrange 1-", ""),
        ("host \udcff", "no UTF-8"),
        ("ip\0", "NUL"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_reason(expression: str, reason: str) -> None:
    with pytest.raises(FilterError) as caught:
        Filter(expression)
    assert reason in str(caught.value)
    assert caught.value.expression == expression


def test_the_position_of_what_is_wrong_is_told_where_libpcap_names_it() -> None:
    expression = "tcp and host 300.1.1.1 and port 80"
    with pytest.raises(FilterError, match=r"\(at character 14\)") as caught:
        Filter(expression)
    assert caught.value.position == expression.index("300")
    with pytest.raises(FilterError) as caught:
        Filter("tcp prot 80")
    assert caught.value.position is None


@pytest.mark.parametrize("expression", ["", " ", "\t\n"])
def test_the_empty_expression_matches_everything_and_needs_no_c(expression: str) -> None:
    everything = FilterSet.of(expression)
    assert everything.matches_all
    assert to_c(everything) == ""
    assert Filter(expression).matches(b"")


def test_more_instructions_than_the_kernel_takes_are_refused_with_the_figures() -> None:
    long = " and ".join(f"ip[{n}] != {n % 251}" for n in range(1, 1500))
    with pytest.raises(FilterError, match=r"compiles to \d+ instructions, the kernel takes 4096"):
        Filter(long)


def test_the_snaplen_is_what_a_matching_frame_returns() -> None:
    assert {i.k for i in Filter("ip", snaplen=96).instructions if i.code == 0x06} == {96, 0}
    assert Filter("ip", snaplen=96).run(UDP) == 96
    assert Filter("arp", snaplen=96).run(UDP) == 0


@pytest.mark.parametrize("snaplen", [0, -1, 262_145])
def test_a_snaplen_out_of_range_is_refused(snaplen: int) -> None:
    with pytest.raises(OptionError, match="snaplen"):
        Filter("ip", snaplen=snaplen)
    with pytest.raises(OptionError, match="snaplen"):
        Filter("ip").with_snaplen(snaplen)


def test_a_filter_with_another_snaplen_is_else_the_same() -> None:
    for made in (Filter("ip"), Filter("ip and ip", linktype=12), Filter.deferred("ip")):
        other = made.with_snaplen(96)
        assert (other.snaplen, made.snaplen) == (96, 65_535)
        assert (other.expression, other.linktype) == (made.expression, made.linktype)
        assert other == Filter(made.expression, linktype=made.linktype, snaplen=96)
    hosts = Filter.tcp & Filter.net("10.0.0.0/8")
    assert hosts.with_snaplen(96).sets == hosts.sets


def test_equal_programs_are_equal_filters_however_they_are_written() -> None:
    assert Filter("udp port 53") == Filter("udp  port domain")
    assert hash(Filter("udp port 53")) == hash(Filter("udp  port domain"))
    assert Filter("udp") != Filter("tcp")
    assert Filter("udp") != Filter("udp", snaplen=96)
    assert Filter("udp") != Filter("udp").for_interface("lo")
    assert Filter("udp") != "udp"


def test_a_filter_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Filter("udp").expression = "tcp"  # type: ignore[misc]


def test_a_filter_is_pickled_with_its_program() -> None:
    for one in (Filter("tcp port 80", snaplen=96), Filter("udp").for_interface("lo")):
        again = pickle.loads(pickle.dumps(one))
        assert again == one
        assert (again.expression, again.snaplen, again.is_live) == (
            one.expression, one.snaplen, one.is_live,
        )  # fmt: skip
        assert again.matches(UDP) == one.matches(UDP)


def test_the_listing_has_a_line_for_each_instruction() -> None:
    lines = Filter("ip").explain().splitlines()
    assert [line[:5] for line in lines] == ["(000)", "(001)", "(002)", "(003)"]
    assert lines[0].split(maxsplit=1)[1].split() == ["ldh", "[12]"]


def test_a_frame_that_was_cut_has_the_length_of_the_wire() -> None:
    longer = Filter("greater 100")
    assert not longer.matches(UDP)
    assert longer.matches(UDP, wire_length=100)
    assert not longer.matches(UDP, wire_length=99)
    with pytest.raises(OptionError, match="wire_length"):
        longer.matches(UDP, wire_length=len(UDP) - 1)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_can_be_asked_about(kind: type) -> None:
    assert Filter("udp port 53").matches(kind(UDP))
    assert not Filter("tcp").matches(kind(UDP))


def test_other_link_types_are_compiled_for_what_they_are() -> None:
    raw_ip = Filter("udp port 53", linktype=12)
    assert raw_ip.matches(UDP[14:])
    assert not raw_ip.matches(UDP)
    with pytest.raises(FilterError, match="link type 12"):
        raw_ip.for_interface("lo")


def test_the_netmask_is_asked_for_by_ip_broadcast_alone() -> None:
    broadcast = Filter("ip broadcast", netmask="255.255.255.0")
    assert broadcast.matches(udp("10.0.0.1", "10.0.0.255", 1, 2))
    assert not broadcast.matches(udp("10.0.0.1", "10.0.1.2", 1, 2))
    with pytest.raises(FilterError, match="netmask"):
        Filter("ip broadcast")
    with pytest.raises(OptionError, match="netmask"):
        Filter("ip", netmask="300.0.0.0")


@pytest.mark.parametrize(
    "expression", ["geneve or tcp", "(geneve and rarp) or udp port 22", "geneve or vlan 1"]
)
def test_a_program_whose_verdict_would_be_chance_is_refused(expression: str) -> None:
    """libpcap's interpreter does not clear the memory that it reads there."""
    with pytest.raises(FilterError, match="reads memory it has not set"):
        Filter(expression)


@pytest.mark.parametrize("expression", ["geneve and tcp", "tcp or geneve", "geneve 7", "vlan 7"])
def test_a_program_that_sets_its_memory_first_is_not(expression: str) -> None:
    assert Filter(expression).instructions
    assert Filter("vlan 7 and tcp").for_interface("lo").instructions


# -- filters made from values --


def test_values_render_to_an_expression_and_mean_what_it_means() -> None:
    made = Filter.tcp & Filter.dst_port(443) | ~Filter.net("10.0.0.0/8")
    assert made.expression == "((tcp) and (dst port 443)) or (not (net 10.0.0.0/8))"
    assert made == Filter("tcp and dst port 443 or not net 10.0.0.0/8")


@pytest.mark.parametrize(
    ("made", "expression"),
    [
        (Filter.host("10.0.0.1"), "host 10.0.0.1"),
        (Filter.src_host(ipaddress.ip_address("2001:db8::1")), "src host 2001:db8::1"),
        (Filter.dst_host("10.0.0.1"), "dst host 10.0.0.1"),
        (Filter.src_net("10.0.0.0/8"), "src net 10.0.0.0/8"),
        (Filter.dst_net(ipaddress.ip_network("2001:db8::/32")), "dst net 2001:db8::/32"),
        (Filter.port(53), "port 53"),
        (Filter.src_port(53), "src port 53"),
        (Filter.port_range(1, 1023), "portrange 1-1023"),
        (Filter.ether_host("02:00:00:00:00:0A"), "ether host 02:00:00:00:00:0a"),
        (Filter.ether_type(0x88CC), "ether proto 0x88cc"),
        (Filter.ip_protocol(47), "ip proto 47 or ip6 proto 47"),
        (Filter.tcp_flags("syn", "ack"), "tcp[tcpflags] & (tcp-syn|tcp-ack) = (tcp-syn|tcp-ack)"),
        (Filter.vlan(100) & Filter.tcp, "vlan 100 and tcp"),
        (Filter.vlan(), "vlan"),
        (Filter.mpls(7), "mpls 7"),
        (Filter.at_least(100), "greater 100"),
        (Filter.at_most(100), "less 100"),
        (Filter.ip | Filter.ip6 | Filter.arp, "ip or ip6 or arp"),
        (Filter.udp & Filter(""), "udp"),
        (Filter.udp | Filter(""), ""),
        (Filter.icmp | Filter.icmp6, "icmp or icmp6"),
        (Filter.sctp, "sctp"),
        (Filter.broadcast, "ether broadcast"),
        (Filter.multicast, "ether multicast"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_word_is_that_of_the_language(made: Filter, expression: str) -> None:
    assert made == Filter(expression)


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (Filter.host, "10.0.0.1 or 1=1"),
        (Filter.host, "fe80::1%eth0"),
        (Filter.host, "example.org"),
        (Filter.net, "10.0.0.1/8"),
        (Filter.port, 65_536),
        (Filter.port, -1),
        (Filter.port, "80"),
        (Filter.port, True),
        (Filter.ether_host, "02:00:00:00:00"),
        (Filter.ether_type, 5),
        (Filter.tcp_flags, "fun"),
        (Filter.vlan, 4096),
        (Filter.mpls, 1 << 20),
        (Filter.at_least, -1),
    ],
)
def test_a_value_the_protocol_does_not_have_is_refused(make: Any, value: object) -> None:
    with pytest.raises(OptionError):
        make(value)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(OptionError, match="last"):
        Filter.port_range(90, 80)


def test_filters_that_do_not_fit_together_are_not_combined() -> None:
    with pytest.raises(OptionError, match="link types"):
        Filter("ip", linktype=12) & Filter("tcp")
    with pytest.raises(OptionError):
        ~Filter("")
    with pytest.raises(TypeError):
        Filter("ip") & "tcp"  # type: ignore[operator]
    assert (Filter("ip", snaplen=64) & Filter("tcp", snaplen=96)).snaplen == 96


# -- several at once --


def test_named_filters_are_a_set_with_the_largest_snaplen() -> None:
    named = FilterSet.of({"web": Filter("tcp port 80", snaplen=96), "dns": "port 53"})
    assert named.names == ("web", "dns")
    assert named.snaplen == 65_535
    assert named.expression == "(tcp port 80) or (port 53)"
    assert not named.matches_all


@pytest.mark.parametrize(
    "wanted", [{}, {"": "ip"}, {"a\n": "ip"}, {7: "ip"}, {"a": 7}, ["ip"],
               {str(n): "ip" for n in range(65)}]
)  # fmt: skip
def test_a_set_that_is_none_is_refused(wanted: Any) -> None:
    with pytest.raises(OptionError):
        FilterSet.of(wanted)


def test_together_named_filters_keep_within_what_the_kernel_takes() -> None:
    many = " or ".join(f"ip[{n}] = {n % 251}" for n in range(1, 700))
    with pytest.raises(FilterError, match="instructions together"):
        FilterSet.of({"a": many, "b": many, "c": many})


# -- on the way to the kernel --


def test_nothing_of_the_user_s_text_reaches_the_c_source() -> None:
    hostile = "host 10.11.12.13 and (port 4711 or ether host 02:aa:bb:cc:dd:ee)"
    c = to_c(FilterSet.of({"4711; drop": hostile}), Hook.XDP, [0])
    assert "10.11.12.13" not in c
    assert "aa:bb" not in c
    assert "4711;" not in c
    function = c.partition("int netring_filter_0(")[2].partition("\n}\n")[0]
    statements = function[function.index("v.body = v.data;") + 16 :]
    words = set(re.findall(r"\b[A-Za-z_]\w*", statements))
    assert words - C_WORDS - set(re.findall(r"[LM]\d+", statements)) == set()


@pytest.mark.parametrize("expression", ["ip6 protochain 6", "ip protochain 17"])
def test_what_the_kernel_cannot_run_is_refused_with_the_remedy(expression: str) -> None:
    chain = Filter(expression)
    assert chain.has_loop
    with pytest.raises(FilterError, match=r"cannot run in the kernel.*Filter.matches\(\)"):
        to_c(FilterSet.of(chain))


def auxiliary(offset: int) -> Filter:
    """A live filter that matches where the kernel's own datum is not 0."""
    program = ((0x20, 0, 0, 0xFFFF_F000 + offset), (0x16, 0, 0, 0))
    return _restore(Filter, ("made", 1, 65_535, 0xFFFF_FFFF, (), True, program))


@pytest.mark.parametrize(("offset", "name"), [(12, "NLATTR"), (24, "QUEUE"), (32, "RXHASH"),
                                              (52, "PAY_OFFSET"), (64, "offset 0x")])  # fmt: skip
def test_a_datum_that_xdp_does_not_have_is_an_error(offset: int, name: str) -> None:
    with pytest.raises(FilterError, match=name):
        to_c(FilterSet.of(auxiliary(offset)))


@pytest.mark.parametrize("offset", [0, 4, 8, 20, 28, 36, 40, 44, 48, 56, 60])
def test_a_datum_that_xdp_has_is_translated_and_in_a_file_is_not_there(offset: int) -> None:
    assert "A = " in to_c(FilterSet.of(auxiliary(offset)))
    assert not _restore(
        Filter, ("made", 1, 65_535, 0xFFFF_FFFF, (), False, tuple(auxiliary(offset).instructions))
    ).matches(UDP)
