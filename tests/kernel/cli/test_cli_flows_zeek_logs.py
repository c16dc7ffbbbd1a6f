"""``netring-bpf flows -i IFACE --zeek-logs DIR``: Zeek's logs of a conversation on a wire."""

from __future__ import annotations

import signal
import struct
from typing import TYPE_CHECKING

import pytest

from tests.kernel.cli.command import A, B, Flows, run, send
from tests.native.app.hellos import (
    alpn,
    client_hello,
    extension,
    key_share,
    record,
    server_hello,
    server_name,
)
from tests.native.app.test_dhcp import discover
from tests.native.app.test_quic import crypto, padded, seal
from tests.support.frames import tcp, udp
from tests.support.replay import START, Frame
from tests.support.savefiles import pcap

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns", "bcc")

# Two runs differ in these; Zeek counts no bytes where it sees no duration.
_OF_THE_RUN = {"ts", "uid", "uids", "duration", "rtt", "orig_bytes", "resp_bytes"}


def _connection(client: int, server: int, *said: tuple[bool, bytes]) -> list[bytes]:
    """The frames of a connection: each says by whom, and what."""
    at, frames = [1, 1], []

    def segment(by: bool, flags: str, data: bytes = b"", back: int = 0) -> bytes:
        (src, sport), (dst, dport) = [(A, client), (B, server)][:: -1 if by else 1]
        seq, ack = at[by] - back, at[not by] if "A" in flags else 0
        return tcp(src, dst, sport, dport, data, flags=flags, seq=seq, ack=ack)

    frames += [segment(False, "S", back=1), segment(True, "SA", back=1), segment(False, "A")]
    for by, data in said:
        frames.append(segment(by, "PA", data))
        at[by] += len(data)
    return frames


def _conversation() -> list[bytes]:
    name = b"\x03www\x07example\x00\x00\x01\x00\x01"
    ask = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + name
    tell = struct.pack("!6H", 7, 0x8180, 1, 1, 0, 0) + name
    tell += bytes.fromhex("c00c00010001000000 3c0004") + bytes([10, 0, 0, 2])
    hello = client_hello(server_name(b"www.example") + alpn(b"h2"))
    answer = server_hello(key_share(29) + extension(43, b"\x03\x04"))
    return [
        udp(A, B, 1001, 53, ask),
        udp(B, A, 53, 1001, tell),
        *_connection(1002, 443, (False, record(hello)), (True, record(answer))),
        *_connection(
            1003, 80,
            (False, b"GET /a?b HTTP/1.1\r\nHost: www.example\r\nUser-Agent: me\r\n\r\n"),
            (True, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        ),
        *_connection(1004, 22, (False, b"SSH-2.0-a_1\r\n"), (True, b"SSH-2.0-b_2\r\n")),
        udp(A, B, 1005, 443, seal(padded(crypto(0, hello)))),
        udp("0.0.0.0", "255.255.255.255", 68, 67, discover()),
    ]  # fmt: skip


def _logs(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of each log, without what two runs differ in, in an order of their own."""
    logs = {}
    for path in folder.glob("*.log"):
        lines = path.read_text().splitlines()
        names = next(line for line in lines if line.startswith("#fields")).split("\t")[1:]
        rows = [
            dict(zip(names, line.split("\t"), strict=True))
            for line in lines
            if not line.startswith("#")
        ]
        kept = [{k: v for k, v in row.items() if k not in _OF_THE_RUN} for row in rows]
        logs[path.stem] = sorted(kept, key=lambda row: sorted(row.items()))
        assert lines[-1].startswith("#close")
    return logs


@pytest.mark.parametrize("backend", ["af_xdp", "tpacket_v3"])
def test_the_logs_of_a_wire_are_those_of_its_file(
    namespace: Namespace, backend: str, tmp_path: Path
) -> None:
    frames = _conversation()
    live, read = tmp_path / "live", tmp_path / "read"
    with Flows(namespace, "--backend", backend, "--zeek-logs", str(live)) as command:
        command.capturing()
        send(namespace, *frames)
        done = command.finish(signal.SIGINT)
    assert (done.status, done.out) == (0, [])
    assert f"{len(frames)} frames received" in "\n".join(done.err)
    file = tmp_path / "wire.pcap"
    file.write_bytes(pcap([Frame(frame, START + n * 10_000) for n, frame in enumerate(frames)]))
    assert run(namespace, "flows", "-r", str(file), "--zeek-logs", str(read)).status == 0
    logs = _logs(live)
    assert logs == _logs(read)
    assert set(logs) == {"conn", "dns", "ssl", "http", "ssh", "quic", "dhcp"}
    assert sorted(row["service"] for row in logs["conn"]) == [
        "dhcp", "dns", "http", "quic", "ssh", "ssl",
    ]  # fmt: skip
    [dns], [http], [ssh] = logs["dns"], logs["http"], logs["ssh"]
    assert (dns["query"], dns["answers"], dns["rcode_name"]) == ("www.example", B, "NOERROR")
    assert (http["host"], http["uri"], http["status_code"]) == ("www.example", "/a?b", "404")
    assert (ssh["client"], ssh["server"]) == ("SSH-2.0-a_1", "SSH-2.0-b_2")
    assert {row["server_name"] for row in logs["ssl"] + logs["quic"]} == {"www.example"}
