"""One packet in every encapsulation that the dissector reads, as frames built by the book.

Each frame carries ``PACKET``, a TCP SYN with data between ``A`` and ``B``. The rows say under which
LINKTYPE_ the frame is, and which tunnel is around the packet.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from netring_bpf import TunnelKind
from tests.support.frames import ip, tcp, udp

__all__ = [
    "BOTTOM",
    "ETHERNET",
    "LINKS",
    "MACS",
    "OUT_A",
    "OUT_B",
    "PACKET",
    "SNAP",
    "TAGS",
    "TUNNELS",
    "VXLAN",
    "A",
    "B",
    "Tunneled",
    "authenticated",
]

A, B = "10.0.0.1", "10.0.0.2"
OUT_A, OUT_B = "192.0.2.1", "192.0.2.2"
ETHERNET = tcp(A, B, 40_000, 80, b"x" * 20, flags="S")
PACKET = ETHERNET[14:]
MACS = ETHERNET[:12]
SNAP = bytes.fromhex("aaaa03 000000 0800")
DATA_80211 = bytes.fromhex("0801 0000") + bytes(6) + MACS[6:] + MACS[:6] + b"\0\0"
SWAPPED_80211 = bytes.fromhex("0108") + DATA_80211[2:]
BOTTOM = bytes.fromhex("00064140")  # label 100, the last of the stack


def _ppi(linktype: int) -> bytes:
    return struct.pack("<BBHI", 0, 0, 8, linktype)


def _pktap(linktype: int) -> bytes:
    return struct.pack("<III", 108, 1, linktype) + bytes(96)


def _avs(packet: bytes) -> bytes:
    return struct.pack(">II", 0x80211001, 64) + bytes(56) + packet


#: Name: (LINKTYPE_, frame).
LINKS: dict[str, tuple[int, bytes]] = {
    "cisco hdlc": (104, b"\x0f\0\x08\0" + PACKET),
    "cisco hdlc, multicast": (104, b"\x8f\0\x08\0" + PACKET),
    "cisco hdlc as serial ppp": (50, b"\x0f\0\x08\0" + PACKET),
    "cisco hdlc with a direction": (205, b"\1\x0f\0\x08\0" + PACKET),
    "ppp": (9, b"\xff\x03\0\x21" + PACKET),
    "ppp, protocol of one byte": (9, b"\xff\x03\x21" + PACKET),
    "ppp, address compressed": (9, b"\0\x21" + PACKET),
    "ppp, both": (9, b"\x21" + PACKET),
    "ppp of pppd": (166, b"\0\x03\0\x21" + PACKET),
    "ppp with a direction": (204, b"\1\xff\x03\0\x21" + PACKET),
    "pppoe without ethernet": (
        51, struct.pack("!BBHH", 0x11, 0, 5, 2 + len(PACKET)) + b"\0\x21" + PACKET,
    ),
    "frame relay": (107, b"\x18\x41\x03\xcc" + PACKET),
    "frame relay, address of four": (107, b"\x18\x40\x40\x41\x03\xcc" + PACKET),
    "frame relay, padded, snap": (107, b"\x18\x41\x03\0\x80\0\0\0\x08\0" + PACKET),
    "frame relay of cisco": (107, b"\x18\x41\x08\0" + PACKET),
    "frame relay with a direction": (206, b"\0\x18\x41\x03\xcc" + PACKET),
    "mpls": (219, BOTTOM + PACKET),
    "802.11": (105, DATA_80211 + SNAP + PACKET),
    "radiotap": (127, b"\0\0\x08\0\0\0\0\0" + DATA_80211 + SNAP + PACKET),
    "prism": (
        119, struct.pack("<II", 0x44, 144) + bytes(136) + DATA_80211 + SNAP + PACKET,
    ),
    "prism that is avs": (119, _avs(DATA_80211 + SNAP + PACKET)),
    "avs": (163, _avs(DATA_80211 + SNAP + PACKET)),
    "ppi of ethernet": (192, _ppi(1) + ETHERNET),
    "ppi of 802.11": (192, _ppi(105) + DATA_80211 + SNAP + PACKET),
    "ppi with fields": (
        192, struct.pack("<BBHI", 0, 0, 20, 1) + struct.pack("<HH", 3, 8) + bytes(8) + ETHERNET,
    ),
    "pktap of ethernet": (258, _pktap(1) + ETHERNET),
    "pktap of loopback": (258, _pktap(0) + b"\x02\0\0\0" + PACKET),
    "pflog": (117, b"\x3d\x02" + bytes(62) + PACKET),
    "enc": (109, b"\x02\0\0\0" + bytes(8) + PACKET),
    "slip": (8, bytes(16) + PACKET),
    "ipnet": (226, b"\x01\x02" + bytes(22) + PACKET),
    "ip over infiniband": (242, bytes(40) + b"\x08\0\0\0" + PACKET),
    "fddi": (10, b"\x50" + MACS + SNAP + PACKET),
    "atm": (100, SNAP + PACKET),
    "ip over fibre channel": (122, bytes(16) + SNAP + PACKET),
    "ip over firewire": (138, bytes(16) + b"\x08\0" + PACKET),
    "netanalyzer": (240, bytes(4) + ETHERNET),
    "netanalyzer, transparent": (241, bytes(4) + b"\x55" * 7 + b"\xd5" + ETHERNET),
    "epon": (259, bytes(8) + ETHERNET),
    "a switch's tag, broadcom": (281, MACS + bytes(4) + b"\x08\0" + PACKET),
    "a switch's tag, broadcom, in front": (282, bytes(4) + ETHERNET),
    "a switch's tag, marvell": (284, MACS + bytes(4) + b"\x08\0" + PACKET),
    "a switch's tag, marvell, with a type": (
        285, MACS + b"\xda\xda\0\0" + bytes(4) + b"\x08\0" + PACKET,
    ),
}  # fmt: skip


def _nsh(protocol: int, words: int = 6) -> bytes:
    return struct.pack("!HBBI", 63 << 6 | words, 1, protocol, 0x01FF) + bytes(4 * words - 8)


def _pppoe(payload: bytes) -> bytes:
    return b"\x88\x64" + struct.pack("!BBHH", 0x11, 0, 5, len(payload)) + payload


def _station(first: int) -> bytes:
    """An Ethernet frame to a station whose address begins with this byte."""
    return bytes([first]) + b"\x16\x3e\x12\x34\x56" + ETHERNET[6:]


#: Name: what follows the two addresses of an Ethernet frame.
TAGS: dict[str, bytes] = {
    "e-tag": b"\x89\x3f" + bytes(6) + b"\x08\0" + PACKET,
    "vn-tag": b"\x89\x26" + bytes(4) + b"\x08\0" + PACKET,
    "security group tag": bytes.fromhex("8909 0101 0001 0005 0800") + PACKET,
    "security group tag in a vlan": bytes.fromhex("8100 000a 8909 0101 0001 0005 0800") + PACKET,
    "hsr": b"\x89\x2f" + bytes(4) + b"\x08\0" + PACKET,
    "backbone": b"\x88\xe7" + bytes(4) + ETHERNET,
    "macsec": b"\x88\xe5\0\0" + bytes(4) + b"\x08\0" + PACKET + bytes(16),
    "macsec with a channel": b"\x88\xe5\x20\0" + bytes(12) + b"\x08\0" + PACKET + bytes(16),
    "trill": b"\x22\xf3\0\x3f" + bytes(4) + ETHERNET,
    "trill with options": b"\x22\xf3\0\x7f" + bytes(8) + ETHERNET,
    "nsh": b"\x89\x4f" + _nsh(1) + PACKET,
    "nsh without metadata": b"\x89\x4f" + _nsh(1, 2) + PACKET,
    "nsh of ethernet": b"\x89\x4f" + _nsh(3) + ETHERNET,
    "nsh of mpls": b"\x89\x4f" + _nsh(5) + BOTTOM + PACKET,
    "nsh of nsh": b"\x89\x4f" + _nsh(4) + _nsh(1) + PACKET,
    "batman": bytes.fromhex("4305 400f 3200") + bytes(6) + ETHERNET,
    "batman, four addresses": bytes.fromhex("4305 420f 3200") + bytes(14) + ETHERNET,
    "batman to all": bytes.fromhex("4305 010f 3200") + bytes(10) + ETHERNET,
    "batman, version 14": bytes.fromhex("4305 030e 3200") + bytes(6) + ETHERNET,
    "ppp": b"\x88\x0b\0\x21" + PACKET,
    "pppoe": _pppoe(b"\0\x21" + PACKET),
    "pppoe, protocol of one byte": _pppoe(b"\x21" + PACKET),
    "label": b"\x88\x47" + BOTTOM + PACKET,
    "pseudowire": b"\x88\x47" + BOTTOM + bytes(4) + ETHERNET,
    "pseudowire without a control word": b"\x88\x47" + BOTTOM + ETHERNET,
    **{
        f"pseudowire without a control word, to {first:02x}:…": b"\x88\x47" + BOTTOM
        + _station(first)
        for first in (0x00, 0x0C, 0x40, 0x45, 0x4F, 0x60, 0x6C, 0x84, 0xFE)
    },
    "pseudowire with a control word, of a vlan": b"\x88\x47" + BOTTOM + b"\0\0\x12\x34" + MACS
    + b"\x81\0\0\x0a\x08\0" + PACKET,
    "pseudowire of a vlan": b"\x88\x47" + BOTTOM + MACS + b"\x81\0\0\x0a\x08\0" + PACKET,
}  # fmt: skip


@dataclass(frozen=True)
class Tunneled:
    """A frame, the tunnel in it, and whether the tunnel is over UDP and a flow by itself."""

    frame: bytes
    kind: TunnelKind
    id: int = 0
    over_udp: bool = False
    network: int | None = None


def _ip(proto: int, payload: bytes) -> bytes:
    return ip(OUT_A, OUT_B, proto, payload)


def _gre(protocol: int, payload: bytes) -> bytes:
    return _ip(47, struct.pack("!HH", 0, protocol) + payload)


def _pptp(payload: bytes) -> bytes:
    return _ip(47, struct.pack("!HHHHI", 0x3001, 0x880B, len(payload), 7, 1) + payload)


def _udp(port: int, payload: bytes) -> bytes:
    return udp(OUT_A, OUT_B, 55_555, port, payload)


def _l2tp3(payload: bytes) -> bytes:
    return struct.pack("!HHI", 3, 0, 0x11223344) + payload


def _capwap(payload: bytes, wireless: bool, words: int = 2) -> bytes:
    head = struct.pack("!BBBB", 0, words << 3, 0x02 | wireless, 0)
    return head + bytes(4 * words - 4) + payload


VXLAN = struct.pack("!II", 0x08000000, 100 << 8)
_L2TP_ID = 7 << 16 | 9

TUNNELS: dict[str, Tunneled] = {
    "pptp": Tunneled(_pptp(b"\xff\x03\0\x21" + PACKET), TunnelKind.GRE, 7),
    "pptp, protocol of one byte": Tunneled(_pptp(b"\x21" + PACKET), TunnelKind.GRE, 7),
    "wccp": Tunneled(_gre(0x883E, bytes(4) + PACKET), TunnelKind.GRE),
    "wccp, version 1": Tunneled(_gre(0x883E, PACKET), TunnelKind.GRE),
    "mpls in gre": Tunneled(_gre(0x8847, BOTTOM + PACKET), TunnelKind.GRE),
    "a pseudowire in gre": Tunneled(_gre(0x8847, BOTTOM + ETHERNET), TunnelKind.GRE),
    "nsh in gre": Tunneled(_gre(0x894F, _nsh(3) + ETHERNET), TunnelKind.GRE),
    "mpls in ip": Tunneled(_ip(137, BOTTOM + PACKET), TunnelKind.MPLS, 100),
    "etherip": Tunneled(_ip(97, b"\x30\0" + ETHERNET), TunnelKind.ETHERIP),
    "ethernet in ipv6": Tunneled(ip("fd01::1", "fd01::2", 143, ETHERNET), TunnelKind.ETHERIP),
    **{
        f"l2tpv3 in ip, {name}": Tunneled(
            _ip(115, struct.pack("!I", 0x11223344) + head + ETHERNET), TunnelKind.L2TP, 0x11223344
        )
        for name, head in (
            ("no cookie", b""), ("cookie", b"\xca\xfe\xba\xbe"), ("long cookie", b"\xca\xfe" * 4),
            ("long cookie and sublayer", b"\xca\xfe" * 4 + b"\x40\0\0\x01"),
        )
    },
    "vxlan": Tunneled(_udp(4789, VXLAN + ETHERNET), TunnelKind.VXLAN, 100, True, 100),
    "vxlan of linux": Tunneled(_udp(8472, VXLAN + ETHERNET), TunnelKind.VXLAN, 100, True, 100),
    "vxlan with a policy": Tunneled(
        _udp(4789, struct.pack("!II", 0x88000005, 100 << 8) + ETHERNET),
        TunnelKind.VXLAN, 100, True, 100,
    ),
    **{
        f"vxlan-gpe of {name}": Tunneled(
            _udp(4790, struct.pack("!II", 0x0C000000 | protocol, 100 << 8) + payload),
            TunnelKind.VXLAN_GPE, 100, True, 100,
        )
        for name, protocol, payload in (
            ("ipv4", 1, PACKET), ("ethernet", 3, ETHERNET), ("nsh", 4, _nsh(1) + PACKET),
            ("mpls", 5, BOTTOM + PACKET),
        )
    },
    "geneve": Tunneled(
        _udp(6081, struct.pack("!HHI", 0, 0x6558, 100 << 8) + ETHERNET),
        TunnelKind.GENEVE, 100, True, 100,
    ),
    "geneve of nsh": Tunneled(
        _udp(6081, struct.pack("!HHI", 0, 0x894F, 100 << 8) + _nsh(1) + PACKET),
        TunnelKind.GENEVE, 100, True, 100,
    ),
    "gtp-u": Tunneled(
        _udp(2152, struct.pack("!BBHI", 0x30, 255, len(PACKET), 9) + PACKET),
        TunnelKind.GTPU, 9, True,
    ),
    "gtp-u of ethernet": Tunneled(
        _udp(2152, struct.pack("!BBHI", 0x30, 255, len(ETHERNET), 9) + ETHERNET),
        TunnelKind.GTPU, 9, True,
    ),
    "mpls in udp": Tunneled(_udp(6635, BOTTOM + PACKET), TunnelKind.MPLS, 100, True),
    "a pseudowire in udp": Tunneled(_udp(6635, BOTTOM + ETHERNET), TunnelKind.MPLS, 100, True),
    "mpls in gre in udp": Tunneled(
        _udp(4754, struct.pack("!HH", 0, 0x8847) + BOTTOM + PACKET), TunnelKind.GRE, 0, True
    ),
    "l2tp": Tunneled(
        _udp(1701, struct.pack("!HHH", 2, 7, 9) + b"\xff\x03\0\x21" + PACKET),
        TunnelKind.L2TP, _L2TP_ID, True,
    ),
    "l2tp, protocol of one byte": Tunneled(
        _udp(1701, struct.pack("!HHH", 2, 7, 9) + b"\x21" + PACKET),
        TunnelKind.L2TP, _L2TP_ID, True,
    ),
    "l2tp with every field": Tunneled(
        _udp(1701, struct.pack("!HHHHHHH", 0x4A02, 20 + len(PACKET), 7, 9, 1, 2, 2) + b"\0\0"
             + b"\xff\x03\0\x21" + PACKET),
        TunnelKind.L2TP, _L2TP_ID, True,
    ),
    "l2tpv3": Tunneled(_udp(1701, _l2tp3(ETHERNET)), TunnelKind.L2TP, 0x11223344, True),
    "l2tpv3 with a cookie": Tunneled(
        _udp(1701, _l2tp3(b"\xca\xfe\xba\xbe" + ETHERNET)), TunnelKind.L2TP, 0x11223344, True
    ),
    "l2tpv3 of ppp": Tunneled(
        _udp(1701, _l2tp3(b"\xff\x03\0\x21" + PACKET)), TunnelKind.L2TP, 0x11223344, True
    ),
    "l2tpv3 of cisco hdlc": Tunneled(
        _udp(1701, _l2tp3(b"\x0f\0\x08\0" + PACKET)), TunnelKind.L2TP, 0x11223344, True
    ),
    "capwap": Tunneled(_udp(5247, _capwap(ETHERNET, False)), TunnelKind.CAPWAP, 0, True),
    "capwap of 802.11": Tunneled(
        _udp(5247, _capwap(DATA_80211 + SNAP + PACKET, True)), TunnelKind.CAPWAP, 0, True
    ),
    "capwap of 802.11 with wireless information": Tunneled(
        _udp(5247, _capwap(DATA_80211 + SNAP + PACKET, True, 4)), TunnelKind.CAPWAP, 0, True
    ),
    "capwap of 802.11, bytes exchanged": Tunneled(
        _udp(5247, _capwap(SWAPPED_80211 + SNAP + PACKET, True)), TunnelKind.CAPWAP, 0, True
    ),
    "lisp": Tunneled(_udp(4341, b"\x80" + bytes(7) + PACKET), TunnelKind.LISP, 0, True),
    "lisp with an instance": Tunneled(
        _udp(4341, b"\x88\0\0\0\0\0\x05\0" + PACKET), TunnelKind.LISP, 5, True
    ),
}  # fmt: skip


_AUTH = b"\x04\0\0" + b"\0\0\0\1" * 2 + bytes(12)  # what follows its first byte


def authenticated(frame: bytes, headers: int = 1) -> bytes:
    """The IPv4 frame with authentication headers in front of the transport."""
    (total,) = struct.unpack_from("!H", frame, 16)
    following = b"\x33" * (headers - 1) + frame[23:24]
    chain = b"".join(following[n : n + 1] + _AUTH for n in range(headers))
    return (
        frame[:16] + struct.pack("!H", total + len(chain)) + frame[18:23] + b"\x33" + frame[24:34]
        + chain + frame[34:]
    )  # fmt: skip
