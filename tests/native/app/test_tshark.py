"""What tshark reads of the same exchanges, beside what is read here."""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.dhcp import BOOTP, DHCP

from tests.support.certificates import Certificates
from tests.support.exchanges import Said, TlsOptions, connection, datagrams, dns, http, quic, tls
from tests.support.frames import udp
from tests.support.paths import ORACLES, ROOT
from tests.support.replay import START, Frame
from tests.support.savefiles import pcap
from tests.support.tshark import FIELDS, ours, theirs

pytestmark = pytest.mark.requires("tshark")

DOCUMENT = ROOT / "docs" / "names.md"
CLIENT, SERVER = "10.0.0.1", "10.0.0.2"


def mqtt(client_id: str) -> list[Said]:
    named = len(client_id).to_bytes(2, "big") + client_id.encode()
    body = b"\0\4MQTT\4\2\0\x3c" + named
    return [(True, bytes([0x10, len(body)]) + body), (False, b"\x20\2\0\0")]


def ssh(client: str, server: str) -> list[Said]:
    return [(False, f"{server}\r\n".encode()), (True, f"{client}\r\n".encode())]


def dhcp(kind: str, name: str, mac: bytes, id: int) -> bytes:
    options = [("message-type", kind), ("hostname", name), "end"]
    message = BOOTP(op=1, chaddr=mac + bytes(10), xid=id) / DHCP(options=options)
    return udp("0.0.0.0", "255.255.255.255", 68, 67, bytes(message))


def exchanges(made: Certificates, dice: random.Random) -> Iterator[tuple[bool, int, list[Said]]]:
    """Each with whether it is TCP, and its server's port."""

    def name() -> str:
        letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
        label = "".join(dice.choices(letters, k=dice.randint(1, 40))).strip("-") or "x"
        return f"{label}.example.{dice.choice(['org', 'co.uk', 'museum'])}"

    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for alpn in ((), ("http/1.1",), ("h2", "http/1.1"), tuple(f"{n}" * 90 for n in range(8))):
            said = tls(made, name(), [(300, 5_000)], TlsOptions(alpn, newest))
            yield True, dice.choice([443, 8443, 4443]), said
    yield True, 443, tls(made, None, [(300, 500)])
    for version in (1, 0x6B3343CF):
        yield False, 443, quic(made, name(), [(200, 9_000)], version=version)
    paths = [(f"/{name()}?q={n}", dice.randrange(9_000)) for n in range(4)]
    yield True, 80, http(name(), paths, f"agent {name()}")
    yield True, 8080, http(name(), paths[:1])
    for number, (kind, answers) in enumerate(
        {
            "A": ["192.0.2.7", "192.0.2.8"], "AAAA": ["2001:db8::7"], "TXT": ["a text"],
            "CNAME": ["other.example"], "PTR": ["host.example"],
        }.items()
    ):  # fmt: skip
        yield False, 53, dns(name(), kind, answers, id=dice.randrange(1 << 16))
        yield True, 53, [(is_client, len(data).to_bytes(2, "big") + data)
                         for is_client, data in dns(name(), kind, answers, id=number)]  # fmt: skip
    yield False, 53, dns(name(), "A", [], rcode=3)
    yield True, 22, ssh("SSH-2.0-OpenSSH_9.2p1 Debian-2", f"SSH-2.0-{name()}")
    yield True, 1883, mqtt(name()[:60])


def written(path: Path, seed: int, made: Certificates) -> Path:
    dice = random.Random(seed)
    frames: list[bytes] = []
    for n, (is_tcp, port, said) in enumerate(exchanges(made, dice)):
        lay = connection if is_tcp else datagrams
        frames += lay((CLIENT, 40_000 + n), (SERVER, port), said)
    for n, kind in enumerate(("discover", "request")):
        frames.append(dhcp(kind, f"host{seed}", dice.randbytes(6), n))
    path.write_bytes(pcap(Frame(frame, START + n * 100_000) for n, frame in enumerate(frames)))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("seed", range(3))
def test_the_fields_are_those_of_tshark(tmp_path: Path, made: Certificates, seed: int) -> None:
    file = written(tmp_path / "web.pcap", seed, made)
    here, there = ours(file), theirs(file)
    assert sorted(here - there, key=str) == []
    assert sorted(there - here, key=str) == []
    read = {(said.protocol, said.field) for said in here}
    assert read == {(protocol, name) for protocol, names in FIELDS.items() for name in names}


# -- captures that others made --


def captures() -> list[Path]:
    """Each once; several tests have the same."""
    found = (p for p in ORACLES.rglob("*") if p.suffix in {".pcap", ".pcapng"})
    return sorted({path.name: path for path in sorted(found)}.values())


def explained() -> dict[str, tuple[int, int]]:
    """The document's table: values of tshark alone, and ours alone, by capture."""
    _, _, behind = DOCUMENT.read_text(encoding="utf-8").partition("| tshark alone |")
    rows = (line.split("|") for line in behind.splitlines() if line.startswith("| `"))
    return {row[1].strip(" `"): (int(row[2]), int(row[3])) for row in rows}


@pytest.mark.long
@pytest.mark.requires("oracles")
@pytest.mark.parametrize("capture", captures(), ids=lambda capture: str(capture.name))
def test_the_captures_of_others_say_the_same(capture: Path) -> None:
    here, there = ours(capture), theirs(capture)
    alone = len(there - here), len(here - there)
    assert alone == explained().get(capture.name, (0, 0)), sorted(here ^ there, key=str)


@pytest.mark.requires("oracles")
def test_each_capture_that_differs_is_there() -> None:
    assert explained().keys() <= {capture.name for capture in captures()}
