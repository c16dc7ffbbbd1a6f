"""Tries an installed netring_bpf: ``python -I scripts/smoke.py [FOLDER]``, outside of the tree.

It needs nothing but the package. It writes a capture file, reads it by the library and by the
command, and compares the flows with what they have to be. It prints a line for each thing that it
tried; FOLDER keeps the capture and the command's output in each format.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import netring_bpf
from netring_bpf import _core

FORMATS = ("json", "csv", "zeek", "zeek-json", "eve")
CLIENT, SERVER = "192.0.2.10", "198.51.100.20"
REQUEST = b"GET /index.html HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: smoke\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)
QUESTION = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\3www\7example\3org\0\0\1\0\1"
WANTED = [
    ("tcp", CLIENT, 40000, SERVER, 80, 5, 4, len(REQUEST), len(ANSWER), "SF", "ShADadFf"),
    ("udp", CLIENT, 5353, SERVER, 53, 1, 0, len(QUESTION), 0, "S0", "D"),
    ("udp", "2001:db8::1", 4000, "2001:db8::2", 9, 1, 0, 100, 0, "S0", "D"),
]


def main() -> None:
    """Try everything; exits with a status other than 0 at the first thing that is wrong."""
    if len(sys.argv) > 1:
        _try_all(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        _try_all(Path(folder))


def _try_all(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    version = importlib.metadata.version("netring-bpf")
    installed = Path(sysconfig.get_path("platlib"))
    _check("version", netring_bpf.__version__, version)
    _check("installed", Path(netring_bpf.__file__).parent.parent.resolve(), installed.resolve())
    libc = "-".join(filter(None, platform.libc_ver())) or "another C library"
    print(
        f"smoke: netring_bpf {version}, {Path(_core.__file__).name}, Python "
        f"{platform.python_version()}, {platform.machine()}, {libc}, Linux {platform.release()}"
    )
    path = folder / "smoke.pcap"
    path.write_bytes(_capture())
    told = _command("flows", "-r", str(path), "--events", "ended", "--format", "json")
    flows = [_flow(json.loads(line)) for line in told.splitlines()]
    _check("flows", sorted(flows), sorted(WANTED))
    filtered = _command("flows", "-r", str(path), "--events", "ended", "--format", "csv")
    _check("lines of csv", filtered.count(b"\n"), 1 + len(WANTED))
    print(f"smoke: {len(flows)} flows of a file are right")
    for name in FORMATS:
        text = _command("flows", "-r", str(path), "--format", name)
        (folder / f"smoke.{name}").write_bytes(text)
        print(f"smoke: {name:9} {len(text):6} bytes {hashlib.sha256(text).hexdigest()}")


def _command(*arguments: str) -> bytes:
    """Run the installed command, and return its output."""
    program = Path(sysconfig.get_path("scripts"), "netring-bpf")
    done = subprocess.run(
        [program, *arguments], capture_output=True, check=False, env={**os.environ, "TZ": "UTC"}
    )
    if done.returncode:
        sys.exit(f"smoke: netring-bpf {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout


def _check(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        sys.exit(f"smoke: {what}:\n  found  {found}\n  wanted {wanted}")


def _flow(record: dict[str, object]) -> tuple[object, ...]:
    names = (
        "proto", "orig_addr", "orig_port", "resp_addr", "resp_port", "orig_packets",
        "resp_packets", "orig_payload", "resp_payload", "conn_state", "history",
    )  # fmt: skip
    return tuple(record.get(name) for name in names)


def _capture() -> bytes:
    client, server = (CLIENT, 40000, 1000), (SERVER, 80, 5000)
    there, back = len(REQUEST), len(ANSWER)
    frames = [
        _tcp(client, server, 0, 0, "S"),
        _tcp(server, client, 0, 1, "SA"),
        _tcp(client, server, 1, 1, "A"),
        _tcp(client, server, 1, 1, "PA", REQUEST),
        _tcp(server, client, 1, 1 + there, "A"),
        _tcp(server, client, 1, 1 + there, "PA", ANSWER),
        _tcp(client, server, 1 + there, 1 + back, "FA"),
        _tcp(server, client, 1 + back, 2 + there, "FA"),
        _tcp(client, server, 2 + there, 2 + back, "A"),
        _udp(CLIENT, SERVER, 5353, 53, QUESTION),
        _udp("2001:db8::1", "2001:db8::2", 4000, 9, bytes(100)),
    ]
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)]
    for number, frame in enumerate(frames):
        head = (1_700_000_000, number * 1000, len(frame), len(frame))
        parts += [struct.pack("<IIII", *head), frame]
    return b"".join(parts)


def _tcp(
    sender: tuple[str, int, int],
    receiver: tuple[str, int, int],
    seq: int,
    ack: int,
    flags: str,
    payload: bytes = b"",
) -> bytes:
    bits = sum({"F": 1, "S": 2, "P": 8, "A": 16}[letter] for letter in flags)
    acked = (receiver[2] + ack) if bits & 16 else 0
    header = struct.pack(
        "!HHIIBBHHH", sender[1], receiver[1], sender[2] + seq, acked, 5 << 4, bits, 65_535, 0, 0
    )
    return _ip(sender[0], receiver[0], 6, header + payload, 16)


def _udp(source: str, target: str, sport: int, dport: int, payload: bytes) -> bytes:
    header = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)
    return _ip(source, target, 17, header + payload, 6)


def _ip(source: str, target: str, protocol: int, body: bytes, sum_at: int) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    pseudo = ends + struct.pack("!IBBBB", len(body), 0, 0, 0, protocol)
    body = body[:sum_at] + struct.pack("!H", _sum(pseudo + body)) + body[sum_at + 2 :]
    macs = bytes.fromhex("02000000000b02000000000a")
    if family == socket.AF_INET6:
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64)
        return macs + b"\x86\xdd" + head + ends + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
    head = head[:10] + struct.pack("!H", _sum(head + ends))
    return macs + b"\x08\x00" + head + ends + body


def _sum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


if __name__ == "__main__":
    main()
