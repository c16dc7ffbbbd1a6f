"""Filter expressions: libpcap's word on them, and what becomes of them on the way to XDP."""

from __future__ import annotations

import dataclasses
import re

import pytest

from netring_bpf import Filter
from netring_bpf.bpf.cbpf import to_c
from netring_bpf.errors import FilterError

C_WORDS = {
    "A", "X", "if", "else", "goto", "return", "v", "data", "body", "end", "u", "u16", "u32", "u64",
    "bpf_ntohs", "bpf_ntohl", "netring_load",
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


@pytest.mark.parametrize("expression", ["", " ", "\t\n"])
def test_the_empty_expression_matches_everything_and_needs_no_c(expression: str) -> None:
    everything = Filter(expression)
    assert everything.matches_all
    assert to_c(everything) == ""


@pytest.mark.parametrize("expression", ["vlan", "vlan 7 and ip", "not vlan", "(vlan)"])
def test_the_vlan_keyword_is_refused_in_words(expression: str) -> None:
    with pytest.raises(FilterError, match="'vlan' is not supported yet"):
        Filter(expression)


def test_more_instructions_than_the_kernel_takes_are_refused_with_the_figures() -> None:
    long = " and ".join(f"ip[{n}] != {n % 251}" for n in range(1, 1500))
    with pytest.raises(FilterError, match=r"compiles to \d+ instructions, the kernel takes 4096"):
        Filter(long)


def test_the_snaplen_is_what_a_matching_frame_returns() -> None:
    assert {i.k for i in Filter("ip", snaplen=96).instructions if i.code == 0x06} == {96, 0}


def test_a_filter_is_a_frozen_value() -> None:
    assert Filter("udp") == Filter("udp")
    assert hash(Filter("udp")) == hash(Filter("udp"))
    assert Filter("udp") != Filter("tcp")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Filter("udp").expression = "tcp"  # type: ignore[misc]


def test_nothing_of_the_user_s_text_reaches_the_c_source() -> None:
    hostile = "host 10.11.12.13 and (port 4711 or ether host 02:aa:bb:cc:dd:ee)"
    body = to_c(Filter(hostile)).partition("static __always_inline int netring_filter")[2]
    assert "10.11.12.13" not in body
    assert "aa:bb" not in body
    statements = body.partition("\n    }\n")[2]
    words = set(re.findall(r"\b[A-Za-z_]\w*", statements))
    assert words - C_WORDS - set(re.findall(r"[LM]\d+", statements)) == set()


@pytest.mark.parametrize("expression", ["ip6 protochain 6", "ip protochain 17"])
def test_what_xdp_cannot_run_is_refused_with_the_remedy(expression: str) -> None:
    on_tpacket = Filter(expression)
    assert len(on_tpacket.instructions) > 1
    with pytest.raises(FilterError, match=r"cannot run in XDP.*backend='tpacket_v3'"):
        to_c(on_tpacket)
