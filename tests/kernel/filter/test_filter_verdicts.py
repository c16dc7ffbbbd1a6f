"""The filter in XDP and libpcap's own interpreter agree, frame by frame."""

from __future__ import annotations

import functools
import random

import pytest

from netring_bpf import Filter
from netring_bpf.bpf import program as program_module
from netring_bpf.bpf.engines import open_engine
from netring_bpf.filter.libpcap import Interpreter
from tests.support.engines import without_tag
from tests.support.frames import ethernet, icmp_echo, ip, tcp, udp
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "bcc")

# CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF: without CAP_PERFMON the C is another one.
THREE_CAPABILITIES = 1 << 12 | 1 << 13 | 1 << 39
SEED = 20_261_124
EXPRESSIONS = [
    "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "ip proto 47", "not ip",
    "host 10.0.0.1", "src host 10.0.0.1", "dst host 10.0.0.2", "host 2001:db8::1",
    "net 10.0.0.0/8", "src net 192.168.0.0/16", "net 2001:db8::/32",
    "port 53", "src port 53", "dst port 443", "portrange 50-500", "tcp portrange 1-1023",
    "tcp and not port 80", "udp port 53 or tcp dst port 443",
    "(src net 10.0.0.0/8 and dst port 53) or icmp",
    "tcp[tcpflags] & tcp-syn != 0", "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420", "ip[2:2] > 100", "ip[ip[0] & 15] % 3 = 1",
    "greater 100", "less 64", "len - 4 > 60", "ether host 02:00:00:00:00:0a",
    "ether multicast", "ether proto 0x88cc", "ether[11:4] != 0",
    "ether[(ether[0] & 15) + 8:4] & 0xffff = 0x0800",
    "udp[6:2] / udp[4:2] > 100",
    " or ".join(f"host 10.0.0.{n}" for n in range(1, 21)),
]  # fmt: skip


@functools.cache
def frames() -> list[bytes]:
    get = b"GET / HTTP/1.1\r\n\r\n"
    whole = [
        udp("10.0.0.1", "10.0.0.2", 4000, 53, b"x" * 30),
        udp("192.168.1.1", "10.0.0.1", 53, 4000),
        udp("10.0.0.9", "224.0.0.1", 52, 5353, dmac="01:00:5e:00:00:01"),
        udp("2001:db8::1", "2001:db8::2", 53, 60, b"y" * 90),
        tcp("10.0.0.1", "10.0.0.2", 40000, 443, flags="S"),
        tcp("10.0.0.2", "10.0.0.1", 443, 40000, flags="SA"),
        tcp("10.0.0.20", "10.0.0.1", 80, 40000, get, flags="PA"),
        tcp("2001:db8::1", "2001:dead::2", 400, 443, get, flags="PA"),
        icmp_echo("10.0.0.1", "172.16.0.1", 7, 1, b"z" * 40),
        icmp_echo("2001:db8::1", "2001:db8::2", 7, 1),
        ip("10.0.0.1", "10.0.0.2", 47, b"\0" * 20),
        ethernet(0x0806, bytes(range(28))),
        ethernet(0x88CC, b"lldp"),
    ]
    fragment = bytearray(whole[0])
    fragment[20:22] = b"\x20\x10"
    options = bytearray(whole[6])
    options[14] = 0x4F
    zero_length = bytearray(whole[0])
    zero_length[38:40] = b"\0\0"
    whole += [bytes(fragment), bytes(options), bytes(zero_length)]
    tagged = [f[:12] + b"\x81\x00\x00\x64" + f[12:] for f in whole]
    double = [f[:12] + b"\x88\xa8\x00\xc8" + f[12:] for f in tagged]
    cut = [f[:length] for f in (whole[0], tagged[6], double[7]) for length in range(14, 80)]
    generator = random.Random(SEED)
    noise = [
        bytes(12) + generator.choice([b"\x08\x00E", b"\x86\xdd`", b"\x81\x00", b""])
        + generator.randbytes(generator.randrange(2, 80))
        for _ in range(80)
    ]  # fmt: skip
    return whole + tagged + double + cut + noise


@pytest.mark.parametrize("expression", size(EXPRESSIONS[::12], EXPRESSIONS))
@pytest.mark.parametrize("held", [-1, THREE_CAPABILITIES], ids=["root", "capabilities"])
@pytest.mark.parametrize("shown", ["live", "file"])
def test_xdp_and_libpcap_agree_on_every_frame(
    expression: str, held: int, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_module, "effective", lambda: held)
    wanted = Filter(expression)
    judge = Interpreter(wanted.instructions)
    if shown == "live":
        wanted = wanted.for_interface("lo")
    wrong: list[tuple[bytes, bool]] = []
    verdicts = set()
    with open_engine("xdp", wanted) as engine:
        for frame in frames():
            verdict = engine.matches(frame, len(frame))
            verdicts.add(verdict)
            shown_frame = without_tag(frame) if shown == "live" else frame
            if verdict != bool(
                judge.run(shown_frame, len(shown_frame))
            ) or verdict != wanted.matches(frame):
                wrong.append((frame, verdict))
    assert wrong == []
    assert verdicts == {True, False}
