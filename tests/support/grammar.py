"""Random filter expressions and random frames, from a seed: what the engines are compared on."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.support.frames import ethernet, icmp_echo, ip, tcp, udp

_PORTS = (0, 1, 22, 53, 80, 443, 1023, 1024, 5001, 65_535)
_V4 = ("10.0.0.1", "10.0.0.2", "10.1.2.3", "192.168.1.1", "172.16.9.9", "224.0.0.1", "8.8.8.8")
_V6 = ("2001:db8::1", "2001:db8::2", "fe80::1", "ff02::1", "2001:db8:1::53")
_MACS = ("02:00:00:00:00:0a", "02:00:00:00:00:0b", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff")
_NETS4 = ("10.0.0.0/8", "10.0.0.0/24", "192.168.0.0/16", "0.0.0.0/0", "10.0.0.2/31", "8.8.8.8/32")
_NETS6 = ("2001:db8::/32", "fe80::/10", "2001:db8::/64", "ff00::/8")
_VLANS = (0, 1, 7, 100, 200, 4095)
_LABELS = (0, 3, 16, 100_000, 1_048_575)


class Grammar:
    """Expressions of the filter language."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(repr(seed))

    def expression(self) -> str:
        if self._random.random() < 0.03:
            return self._list(50)
        return self._expression(self._random.choice((0, 1, 1, 2, 2, 3)))

    def _expression(self, depth: int) -> str:
        choose = self._random.random
        if depth == 0:
            return self._primitive()
        if choose() < 0.15:
            return f"not ({self._expression(depth - 1)})"
        parts = [self._expression(depth - 1) for _ in range(self._random.choice((2, 2, 3)))]
        words = [self._random.choice((" and ", " or ")) for _ in parts[1:]]
        text = parts[0] if choose() < 0.5 else f"({parts[0]})"
        for word, part in zip(words, parts[1:], strict=True):
            text += word + (part if choose() < 0.3 else f"({part})")
        return text

    def _list(self, count: int) -> str:
        one: Callable[[], str] = self._random.choice((self._host4, self._host6, self._port))
        return " or ".join(one() for _ in range(count))

    def _pick(self, *values: object) -> str:
        return str(self._random.choice(values))

    def _direction(self) -> str:
        return self._pick("", "src ", "dst ", "src or dst ", "src and dst ")

    def _host4(self) -> str:
        address = self._pick(*_V4, f"10.0.0.{self._random.randrange(256)}")
        return f"{self._direction()}host {address}"

    def _host6(self) -> str:
        address = self._pick(*_V6, f"2001:db8::{self._random.randrange(65_536):x}")
        return f"{self._direction()}host {address}"

    def _port(self) -> str:
        port = self._pick(*_PORTS, self._random.randrange(65_536))
        return f"{self._pick('', 'tcp ', 'udp ', 'sctp ')}{self._direction()}port {port}"

    def _range(self) -> str:
        first, last = sorted(self._random.choices((*_PORTS, self._random.randrange(65_536)), k=2))
        return f"{self._pick('', 'tcp ', 'udp ')}{self._direction()}portrange {first}-{last}"

    def _net(self) -> str:
        return f"{self._direction()}net {self._pick(*_NETS4, *_NETS6)}"

    def _protocol(self) -> str:
        number = self._random.randrange(256)
        return self._pick(
            "ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "pim",
            "ah", "esp", "vrrp", "ip proto 47", f"ip proto {number}", f"ip6 proto {number}",
            "ip multicast", "ip6 multicast", "ether broadcast",
            "ether multicast", "llc", "stp", "ether proto 0x88cc", "ether proto 0x0800",
            "atalk", "ipx", "iso", "decnet", "pppoed",
        )  # fmt: skip

    def _ether(self) -> str:
        return f"ether {self._pick('', 'src ', 'dst ')}host {self._pick(*_MACS)}"

    def _encapsulation(self) -> str:
        return self._pick(
            "vlan", "mpls", "pppoes", *(f"vlan {n}" for n in _VLANS),
            *(f"mpls {n}" for n in _LABELS), "vlan 100 and vlan 7", "geneve", "pppoes 7",
        )  # fmt: skip

    def _flags(self) -> str:
        names = ("tcp-fin", "tcp-syn", "tcp-rst", "tcp-push", "tcp-ack", "tcp-urg")
        flags = "|".join(self._random.sample(names, self._random.choice((1, 2, 3))))
        return f"tcp[tcpflags] & ({flags}) {self._pick('=', '!=', '>')} {self._pick(0, 2, 18)}"

    def _length(self) -> str:
        size = self._random.randrange(0, 200)
        return self._pick(
            f"greater {size}", f"less {size}", f"len = {size}", f"len - 14 > {size}",
            f"len & 7 = {size % 8}", f"ip[2:2] = len - {size % 40}",
        )  # fmt: skip

    def _bytes(self) -> str:
        return (
            f"{self._arithmetic(2)} {self._pick('=', '!=', '<', '>', '<=', '>=')} {self._value()}"
        )

    def _value(self) -> str:
        small, large = self._random.randrange(256), self._random.randrange(1 << 32)
        return self._pick(0, 1, 2, 5, 64, small, small, hex(large))

    def _load(self, depth: int) -> str:
        proto = self._pick("ether", "ip", "ip6", "tcp", "udp", "icmp", "arp", "ip6", "icmp6")
        offset = str(self._random.randrange(0, 60))
        if depth > 0 and self._random.random() < 0.25:
            offset = self._arithmetic(depth - 1)
        size = self._pick("", "", ":1", ":2", ":4")
        return f"{proto}[{offset}{size}]"

    def _arithmetic(self, depth: int) -> str:
        chosen = self._random.random()
        if depth == 0 or chosen < 0.35:
            return self._load(depth)
        left = self._load(depth)
        if chosen < 0.6:
            # A shift by a number of 32 or more is refused; one by a datum is not.
            sign = self._pick("+", "-", "*", "&", "|", "^")
            return f"({left} {sign} {self._value()})"
        if chosen < 0.7:
            return f"({left} {self._pick('<<', '>>')} {self._random.randrange(32)})"
        if chosen < 0.8:
            return f"({left} {self._pick('/', '%')} {self._random.randrange(1, 300)})"
        sign = self._pick("+", "-", "*", "&", "|", "^", "/", "%", "<<", ">>")
        return f"({left} {sign} {self._arithmetic(depth - 1)})"

    def _primitive(self) -> str:
        made: Callable[[], str] = self._random.choices(
            (self._host4, self._host6, self._port, self._range, self._net, self._protocol,
             self._ether, self._encapsulation, self._flags, self._length, self._bytes),
            weights=(2, 2, 4, 2, 3, 4, 1, 3, 2, 2, 4),
        )[0]  # fmt: skip
        return made()


class Frames:
    """Frames made from real ones: tagged, encapsulated, extended, cut, and damaged."""

    def __init__(self, seed: object, captured: list[bytes] | None = None) -> None:
        self._random = random.Random(repr(seed))
        self._captured = captured or []

    def batch(self, count: int) -> list[bytes]:
        return [self.frame() for _ in range(count)]

    def frame(self) -> bytes:
        """One of 14 bytes or more: the kernel runs XDP on no shorter one."""
        if self._captured and self._random.random() < 0.4:
            frame = self._random.choice(self._captured)
        else:
            frame = self._whole()
        for change, chance in (
            (self._encapsulated, 0.12), (self._tagged, 0.35), (self._tagged, 0.3),
            (self._damaged, 0.25), (self._cut, 0.3),
        ):  # fmt: skip
            if self._random.random() < chance:
                frame = change(frame)
        return frame[:3000].ljust(14, b"\0")

    def _whole(self) -> bytes:
        choice = self._random.choice
        payload = choice((b"", b"x" * 30, b"GET / HTTP/1.1\r\n\r\n", bytes(range(120))))
        dmac = choice(_MACS)
        addresses = _V4 if self._random.random() < 0.5 else _V6
        src, dst = choice(addresses), choice(addresses)
        kind = self._random.randrange(8)
        if kind <= 1:
            return udp(src, dst, choice(_PORTS), choice(_PORTS), payload, dmac=dmac)
        if kind <= 3:
            flags = choice(("S", "SA", "A", "PA", "FA", "R", "U", "SF"))
            made = tcp(src, dst, choice(_PORTS), choice(_PORTS), payload, flags=flags, dmac=dmac)
            return self._with_ip_options(made)
        if kind == 4:
            return icmp_echo(src, dst, 7, 1, payload, reply=bool(self._random.randrange(2)))
        if kind == 5:
            return self._extended(src, dst, payload)
        if kind == 6:
            proto = choice((2, 4, 41, 47, 50, 51, 103, 112, 132, 255))
            return ip(src, dst, proto, self._random.randbytes(choice((4, 12, 40))), dmac=dmac)
        types = (0x0806, 0x8035, 0x88CC, 0x809B, 0x8137, 0x6003, 0x8863, 0x0026, 0x05DC, 0x9100)
        front = choice((b"", b"\xaa\xaa\x03\0\0\0\x08\x00", b"\x42\x42\x03", b"\xfe\xfe\x03\x83"))
        return ethernet(choice(types), front + self._random.randbytes(40), dmac=dmac)

    def _with_ip_options(self, frame: bytes) -> bytes:
        if frame[12:14] != b"\x08\x00" or self._random.random() < 0.6:
            return frame
        words = self._random.randrange(1, 11)
        return frame[:14] + bytes([0x45 + words]) + frame[15:34] + bytes(4 * words) + frame[34:]

    def _extended(self, src: str, dst: str, payload: bytes) -> bytes:
        """IPv6 extension headers, IPv4 fragments."""
        choice = self._random.choice
        inner = udp(src, dst, choice(_PORTS), choice(_PORTS), payload)
        if inner[12:14] == b"\x08\x00":
            offset = choice((0x2000, 0x2001, 0x0001, 0x1FFF, 0x4000, 0x8000))
            return inner[:20] + offset.to_bytes(2, "big") + inner[22:]
        chain = [choice((0, 43, 44, 51, 60)) for _ in range(self._random.randrange(1, 5))]
        following, body = 17, inner[54:]
        for header in reversed(chain):
            size = 0 if header == 44 else self._random.randrange(3)
            length = 8 * (size + 1) if header != 51 else 4 * (size + 2)
            body = bytes([following, size]).ljust(length, b"\0") + body
            following = header
        return ip(src, dst, following, body)

    def _tagged(self, frame: bytes) -> bytes:
        tpid = self._random.choice((b"\x81\x00", b"\x81\x00", b"\x88\xa8", b"\x91\x00"))
        tci = self._random.choice(_VLANS) | self._random.choice((0, 0, 0xA000, 0x1000))
        return frame[:12] + tpid + tci.to_bytes(2, "big") + frame[12:]

    def _encapsulated(self, frame: bytes) -> bytes:
        if self._random.random() < 0.5:
            labels = b""
            depth = self._random.randrange(1, 4)
            for n in range(depth):
                label = self._random.choice(_LABELS) << 12 | (n == depth - 1) << 8 | 64
                labels += label.to_bytes(4, "big")
            return frame[:12] + b"\x88\x47" + labels + frame[14:]
        protocol = self._random.choice((b"\x00\x21", b"\x00\x57"))
        session = b"\x11\x00" + self._random.choice((b"\0\x07", b"\0\x3b")) + b"\0\x20"
        return frame[:12] + b"\x88\x64" + session + protocol + frame[14:]

    def _damaged(self, frame: bytes) -> bytes:
        made = bytearray(frame)
        for _ in range(self._random.choice((1, 1, 2, 8))):
            made[self._random.randrange(min(len(made), 80))] = self._random.choice(
                (0, 1, 0xFF, 0x45, 0x4F, 0x60, self._random.randrange(256))
            )
        return bytes(made)

    def _cut(self, frame: bytes) -> bytes:
        return frame[: self._random.randrange(14, max(15, min(len(frame), 120)))]
