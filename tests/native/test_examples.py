"""The examples about names and devices, on a capture file, as a user would run them."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.l2 import ARP, Ether

from tests.native.app.hellos import alpn, client_hello, record, server_name, versions
from tests.support.frames import SMAC, tcp, udp
from tests.support.paths import ROOT
from tests.support.replay import START, Frame
from tests.support.savefiles import pcap

ASKER, RESOLVER, SERVER = "10.0.0.1", "10.0.0.53", "192.0.2.9"
NAME = "www.example.org"


def run(example: str, *arguments: Path) -> list[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / example), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"reading .+ by file\n", done.stderr)
    return done.stdout.splitlines()


def saved(path: Path, frames: Iterable[bytes]) -> Path:
    path.write_bytes(pcap(Frame(data, START + n * 1000) for n, data in enumerate(frames)))
    return path


def lookup(name: str, *addresses: str) -> list[bytes]:
    question = DNSQR(qname=name)
    answers = [DNSRR(rrname=name, type="A", ttl=60, rdata=address) for address in addresses]
    reply = DNS(id=7, qr=1, qd=question, an=answers, rcode=0 if addresses else 3)
    return [
        udp(ASKER, RESOLVER, 4000, 53, bytes(DNS(id=7, qd=question))),
        udp(RESOLVER, ASKER, 53, 4000, bytes(reply)),
    ]


def arp(mac: str, address: str) -> bytes:
    asks = ARP(hwsrc=mac, psrc=address, pdst=RESOLVER)
    return bytes(Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / asks)


def connection(hello: bytes, port: int) -> list[bytes]:
    return [
        tcp(ASKER, SERVER, port, 443, flags="S", seq=1),
        tcp(SERVER, ASKER, 443, port, flags="SA", seq=1, ack=2),
        tcp(ASKER, SERVER, port, 443, record(hello), flags="PA", seq=2, ack=2),
    ]


HELLO = client_hello(server_name(NAME.encode()) + alpn(b"h2") + versions(0x0304))


def fingerprint() -> str:
    def part(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    return f"t13d0203h2_{part('1301,c02f')}_{part('002b')}"


def test_names_tells_who_asked_for_what(tmp_path: Path) -> None:
    frames = [*lookup(NAME, SERVER, "192.0.2.10"), *lookup("none.example.org")]
    file = saved(tmp_path / "names.pcap", [*frames, *connection(HELLO, 4001)])
    assert run("names.py", file) == [
        f"{ASKER}\tdns\t{NAME}\t{SERVER}, 192.0.2.10",
        f"{ASKER}\tdns\tnone.example.org\tNXDOMAIN",
        f"{ASKER}\ttls\t{NAME}\t{SERVER}",
    ]


def test_ja4_alert_prints_the_flows_of_the_list_and_no_others(tmp_path: Path) -> None:
    fingerprints = tmp_path / "list.txt"
    fingerprints.write_text(f"# what to look for\n\n{fingerprint()}\tan old  client\n")
    other = client_hello(versions(0x0304))
    file = saved(tmp_path / "hellos.pcap", [*connection(other, 4001), *connection(HELLO, 4002)])
    assert run("ja4_alert.py", fingerprints, file) == [
        f"{fingerprint()}\ttcp {ASKER}:4002 > {SERVER}:443\t{NAME}\tan old client"
    ]


def test_new_device_greets_each_device_once(tmp_path: Path) -> None:
    state, other = tmp_path / "devices.json", "02:00:00:00:00:0c"
    first = saved(tmp_path / "first.pcap", [arp(SMAC, ASKER)])
    second = saved(tmp_path / "second.pcap", [arp(SMAC, ASKER), arp(other, "10.0.0.7")])
    assert run("new_device.py", first, state) == [f"{SMAC}\tunknown\t{ASKER}"]
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert run("new_device.py", second, state) == [f"{other}\tunknown\t10.0.0.7"]
