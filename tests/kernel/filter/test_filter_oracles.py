"""libpcap's own filter tests: every case that an engine can run, on every engine that can."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from netring_bpf import Filter
from netring_bpf.bpf.engines import EngineName, open_engine
from netring_bpf.errors import FilterError
from netring_bpf.filter.libpcap import FileFrame, Interpreter, Savefile
from tests.support.paths import ORACLES
from tests.support.sizes import size

CASES = ORACLES / "filter"
# The answers are those of a development version of libpcap, from which this one differs here. A
# newer one may compile these; then they are compared like the rest: see docs/testing.md.
NOT_COMPILED = {
    "mstp_link_src_host", "mstp_link_dst_host", "mstp_link_src_and_dst_host", "wlan_dir_nods_PPI",
    "vxlan", "vxlan_100", "vxlan_101", "gateway_eth_ipv4_noipv6", "ip_gateway_eth_ipv4_ipv6",
    "broadcast_DSA_TAG_BRCM", "arp_DSA_TAG_BRCM", "ip_src_host_DSA_TAG_BRCM", "stp_DSA_TAG_BRCM",
    "vlan_8_DSA_TAG_BRCM", "vlan_8_and_llc_DSA_TAG_BRCM", "vlan_8_and_stp_DSA_TAG_BRCM",
    "vlan_5_DSA_TAG_BRCM", "link_dst_host_DSA_TAG_BRCM", "multicast_DSA_TAG_BRCM",
    "arp_DSA_TAG_DSA", "arp_src_DSA_TAG_DSA", "icmp_DSA_TAG_DSA",
}  # fmt: skip
OTHER_ANSWERS = {
    "dpc_ne_0", "opc_ne_0", "sls_ne_9", "link_host_c0_on_arcnet", "link_src_host_c0_on_arcnet",
    "link_dst_host_c0_on_arcnet", "link_host_not_c0_on_arcnet", "rfc1051_arp", "csnp_C_HDLC",
    "outbound_DSA_TAG_BRCM", "outbound_DSA_TAG_DSA",
}  # fmt: skip
DIRECTION = {"outbound_DSA_TAG_BRCM", "outbound_DSA_TAG_DSA", "inbound_DSA_TAG_DSA"}
MIN_XDP = 14  # bytes: the kernel runs no XDP program on a shorter frame


def cases() -> list[dict[str, Any]]:
    path = CASES / "cases.json"
    return json.loads(path.read_text()) if path.exists() else []


@cache
def frames_of(capture: str) -> tuple[int, int, list[FileFrame]]:
    with Savefile(CASES / capture) as savefile:
        return savefile.linktype, savefile.snaplen, list(savefile)


def compiled(case: dict[str, Any]) -> tuple[Filter, list[FileFrame], list[int]]:
    """The case's filter and frames with libpcap's answers: those given, or this libpcap's."""
    linktype, snaplen, frames = frames_of(case["capture"])
    try:
        program = Filter(
            case["expression"], linktype=linktype, snaplen=snaplen, netmask=case["netmask"]
        )
    except FilterError as error:
        if case["name"] not in NOT_COMPILED:
            raise
        pytest.skip(f"this libpcap does not compile it: {error}")
    interpreter = Interpreter(program.instructions)
    answers = [interpreter.run(*frame) for frame in frames]
    assert answers == case["results"] or case["name"] in OTHER_ANSWERS
    return program, frames, answers


@pytest.mark.requires("oracles")
@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_on_bytes_every_answer_is_libpcap_s(case: dict[str, Any]) -> None:
    program, frames, answers = compiled(case)
    assert [program.run(*frame) for frame in frames] == answers


@pytest.mark.requires("oracles", "root", "bcc")
@pytest.mark.parametrize("engine", ["tpacket", "xdp"])
@pytest.mark.parametrize("case", size(cases()[::16], cases()), ids=lambda case: case["name"])
def test_in_the_kernel_every_verdict_is_libpcap_s(case: dict[str, Any], engine: EngineName) -> None:
    program, frames, answers = compiled(case)
    if program.has_loop or (engine == "tpacket" and case["name"] in DIRECTION):
        with pytest.raises(FilterError, match=r"loop|jumps backwards"):
            open_engine(engine, program)
        return
    usable = [
        (frame, answer != 0)
        for frame, answer in zip(frames, answers, strict=True)
        if engine != "xdp" or len(frame.data) >= MIN_XDP
    ]
    assert usable
    with open_engine(engine, program) as runs:
        assert [runs.matches(*frame) for frame, _ in usable] == [answer for _, answer in usable]
