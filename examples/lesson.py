"""Make the traffic of the tutorials: lesson.py lesson.pcap, or lesson.py --play lesson0 mirror0.

A network of three devices, for ten seconds. They ask for names, fetch pages by HTTP and TLS, and
one of them speaks an old TLS. From outside, somebody tries the ports of one of them. ``--play``
waits until somebody captures on mirror0, the other end of the cable, and sends the same frames out
of lesson0. A further argument is the time from one to the next, in seconds.
"""

import ipaddress
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PACE = 0.08  # seconds between two frames
START = 1_775_034_000  # 2026-04-01 09:00:00 UTC
ROUTER, SCANNER, RESOLVER = "192.168.7.1", "203.0.113.66", "192.168.7.1"
LAPTOP, PHONE, CAMERA = "192.168.7.20", "192.168.7.21", "192.168.7.22"
STATIONS = {
    ROUTER: "02:00:00:00:07:01",
    LAPTOP: "02:00:00:00:07:20",
    PHONE: "02:00:00:00:07:21",
    CAMERA: "02:00:00:00:07:22",
}
EVERYBODY = "ff:ff:ff:ff:ff:ff"


def sized(data: bytes, width: int = 2) -> bytes:
    return len(data).to_bytes(width, "big") + data


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ethernet(source: str, target: str, kind: int, body: bytes) -> bytes:
    macs = bytes.fromhex((target + source).replace(":", ""))
    return (macs + struct.pack("!H", kind) + body).ljust(60, b"\0")


def packet(source: str, target: str, protocol: int, head: bytes, at: int, data: bytes) -> bytes:
    """Put IPv4 and Ethernet around a transport whose checksum is at this place of its header."""
    ends = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
    length = len(head) + len(data)
    sum_ = checksum(ends + struct.pack("!HH", protocol, length) + head + data) or 0xFFFF
    head = head[:at] + struct.pack("!H", sum_) + head[at + 2 :]
    front = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, protocol, 0) + ends
    front = front[:10] + struct.pack("!H", checksum(front)) + front[12:]
    mac, other = (STATIONS.get(end, STATIONS[ROUTER]) for end in (source, target))
    return ethernet(mac, other, 0x0800, front + head + data)


def arp(address: str) -> bytes:
    mac, asked = STATIONS[address], ipaddress.IPv4Address(ROUTER).packed
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes.fromhex(mac.replace(":", ""))
    body += ipaddress.IPv4Address(address).packed + bytes(6) + asked
    return ethernet(mac, EVERYBODY, 0x0806, body)


def udp(source: str, target: str, ports: tuple[int, int], data: bytes) -> bytes:
    return packet(source, target, 17, struct.pack("!HHHH", *ports, 8 + len(data), 0), 6, data)


def lookup(client: str, number: int, name: str, address: str | None) -> Iterator[bytes]:
    """A question of DNS and its answer; without an address, there is no such name."""
    labels = b"".join(sized(label.encode(), 1) for label in name.split(".")) + b"\0"
    question = labels + struct.pack("!HH", 1, 1)
    yield udp(
        client, RESOLVER, (number, 53), struct.pack("!6H", number, 0x100, 1, 0, 0, 0) + question
    )
    answer = struct.pack("!HHHI", 0xC00C, 1, 1, 300)
    answer += sized(ipaddress.IPv4Address(address).packed) if address else b""
    flags, answers = (0x8180, 1) if address else (0x8183, 0)
    head = struct.pack("!6H", number, flags, 1, answers, 0, 0)
    yield udp(RESOLVER, client, (53, number), head + question + answer * answers)


def tcp(client: str, port: int, server: str, to: int, *talk: bytes) -> Iterator[bytes]:
    """A connection in which the two sides take turns, and its close. Long data is cut."""
    ends = [(client, server, port, to), (server, client, to, port)]
    at = [1000, 5000]  # the next byte of each side

    def segment(side: int, flags: int, data: bytes = b"") -> bytes:
        source, target, *ports = ends[side]
        ack = at[1 - side] if flags & 16 else 0
        head = struct.pack("!HHIIBBHHH", *ports, at[side], ack, 0x50, flags, 65_535, 0, 0)
        at[side] += len(data) + bool(flags & 3)
        return packet(source, target, 6, head, 16, data)

    yield from (segment(0, 2), segment(1, 18), segment(0, 16))
    for side, data in enumerate(talk):
        for cut in range(0, len(data), 1400):
            yield segment(side % 2, 24, data[cut : cut + 1400])
    yield from (segment(0, 17), segment(1, 17), segment(0, 16))


def attempt(client: str, port: int, server: str, to: int) -> Iterator[bytes]:
    """An attempt to connect, which is refused."""
    syn = struct.pack("!HHIIBBHHH", port, to, 9, 0, 0x50, 2, 1024, 0, 0)
    yield packet(client, server, 6, syn, 16, b"")
    refusal = struct.pack("!HHIIBBHHH", to, port, 0, 10, 0x50, 20, 0, 0, 0)
    yield packet(server, client, 6, refusal, 16, b"")


def hellos(name: str, *, old: bool = False) -> tuple[bytes, bytes]:
    """The hellos of TLS 1.3, or of TLS 1.0 with 3DES."""

    def handshake(kind: int, body: bytes) -> bytes:
        return b"\x16\x03\x01" + sized(bytes([kind]) + sized(body, 3))

    version, chosen = (b"\x03\x01", 0x000A) if old else (b"\x03\x03", 0x1301)
    ciphers = struct.pack("!H", chosen) if old else struct.pack("!HHH", 0x1301, 0x1302, 0xC02F)
    asked = struct.pack("!H", 0) + sized(sized(b"\0" + sized(name.encode())))
    asked += b"" if old else struct.pack("!HHBHH", 43, 5, 4, 0x0304, 0x0303)
    client = version + bytes(32) + b"\0" + sized(ciphers) + b"\x01\0" + sized(asked)
    told = b"" if old else struct.pack("!HHH", 43, 2, 0x0304)
    server = version + bytes(range(32)) + b"\0" + struct.pack("!HB", chosen, 0)
    return handshake(1, client), handshake(2, server + (sized(told) if told else b""))


def frames() -> Iterator[bytes]:
    """Yield all frames, in order."""
    yield from map(arp, (LAPTOP, PHONE, CAMERA))
    yield from lookup(LAPTOP, 4001, "www.example.org", "198.51.100.7")
    hello, answer = hellos("www.example.org")
    yield from tcp(LAPTOP, 41001, "198.51.100.7", 443, hello, answer, b"", bytes(24_000))
    yield from lookup(PHONE, 4002, "updates.example.org", "198.51.100.8")
    request = b"GET /list HTTP/1.1\r\nHost: updates.example.org\r\nUser-Agent: phone/1\r\n\r\n"
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + bytes(3000)
    yield from tcp(PHONE, 41002, "198.51.100.8", 80, request, reply)
    yield from lookup(CAMERA, 4003, "cloud.camera.example", "198.51.100.9")
    hello, answer = hellos("cloud.camera.example", old=True)
    yield from tcp(CAMERA, 41003, "198.51.100.9", 443, hello, answer, bytes(5000), bytes(200))
    for number in (4004, 4005):
        yield from lookup(CAMERA, number, "time.camera.example", None)
    for to in range(20, 52):
        yield from attempt(SCANNER, 50_000 + to, CAMERA, to)
    yield from lookup(LAPTOP, 4006, "www.example.org", "198.51.100.7")


def write(path: str) -> None:
    """Write the frames as a pcap file with times in nanoseconds."""
    made = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)]
    for number, frame in enumerate(frames()):
        seconds, rest = divmod(number * int(PACE * 1e9), 10**9)
        made.append(struct.pack("<IIII", START + seconds, rest, len(frame), len(frame)) + frame)
    Path(path).write_bytes(b"".join(made))


def is_captured(interface: str) -> bool:
    """Return whether the interface is promiscuous, as one is while somebody captures on it."""
    command = ["ip", "-json", "-details", "link", "show", "dev", interface]
    shown = subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603
    return bool(json.loads(shown)[0]["promiscuity"])


def play(interface: str, other_end: str, pace: float) -> None:
    """Send the frames out of an interface once they are awaited at the other end."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind((interface, 0))
        for _ in range(300):
            if is_captured(other_end):
                break
            time.sleep(0.1)
        time.sleep(0.5)
        for frame in frames():
            wire.send(frame)
            time.sleep(pace)


if __name__ == "__main__":
    if sys.argv[1] == "--play":
        play(sys.argv[2], sys.argv[3], float(sys.argv[4]) if len(sys.argv) > 4 else PACE)
    else:
        write(sys.argv[1])
