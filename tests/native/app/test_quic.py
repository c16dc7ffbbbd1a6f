"""The Initials of QUIC: the RFCs' packets, aioquic's connections, and hostile ones."""

from __future__ import annotations

import datetime as dt
import random
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pytest
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import (
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
)
from aioquic.tls import pull_client_hello, pull_server_hello
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sanitized import link
from tests.support.sizes import size

V1, V2, DRAFT = 1, 0x6B3343CF, 0xFF00001D
SALTS = {
    V1: "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
    V2: "0dede3def700a6db819381be6e269dcbf9bd2ed9",
    DRAFT: "afbfec289993d24c9e9786f19c6111e04390a899",
}
DCID = bytes.fromhex("8394c8f03e515708")
# RFC 9001, A.2; RFC 9369 has the same in its A.2.
CLIENT_CRYPTO = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c0000041301"
    "1302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007"
    "000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f5"
    "0f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00"
    "024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f0"
    "3e51570806048000ffff"
)
# A.3
SERVER_FRAMES = bytes.fromhex(
    "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a12"
    "00130100002e00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a00"
    "2b00020304"
)
SERVER_PACKETS = {
    V1: bytes.fromhex(
        "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c697975547"
        "80bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562"
        "bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee"
    ),
    V2: bytes.fromhex(
        "dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26b91eb761d9b89237bbf8"
        "7263017915358230035f7fd3945d88965cf17f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e4275750"
        "7698075b2c984c707f0a0812d8cd5a6881eaf21ceda98f4bd23f6fe1a3e2c43edd9ce7ca84bed8521e2e140"
    ),
}


# -- making packets --


def mac(key: bytes, data: bytes) -> bytes:
    context = hmac.HMAC(key, hashes.SHA256())
    context.update(data)
    return context.finalize()


def expand(secret: bytes, label: str, length: int) -> bytes:
    name = b"tls13 " + label.encode()
    return mac(secret, bytes((0, length, len(name))) + name + b"\0\1")[:length]


def number(value: int, size: int = 0) -> bytes:
    """A number as RFC 9000, 16 has it; in the smallest form or in one of `size` bytes."""
    size = size or next(n for n in (1, 2, 4, 8) if value < 1 << (8 * n - 2))
    return (value | {1: 0, 2: 1, 4: 2, 8: 3}[size] << (8 * size - 2)).to_bytes(size, "big")


def crypto(offset: int, data: bytes) -> bytes:
    return b"\x06" + number(offset) + number(len(data)) + data


def seal(
    frames: bytes,
    *,
    version: int = V1,
    key_id: bytes = DCID,
    dcid: bytes | None = None,
    scid: bytes = b"",
    token: bytes = b"",
    packet_number: int = 0,
    number_size: int = 4,
    server: bool = False,
    fixed_bit: bool = True,
) -> bytes:
    """One Initial."""
    prefix = "quicv2" if version == V2 else "quic"
    secret = expand(
        mac(bytes.fromhex(SALTS[version]), key_id), f"{'server' if server else 'client'} in", 32
    )
    key, iv, hp = (
        expand(secret, f"{prefix} {label}", n) for label, n in (("key", 16), ("iv", 12), ("hp", 16))
    )
    dcid = key_id if dcid is None else dcid
    first = (0x90 if version == V2 else 0x80) | fixed_bit << 6 | (number_size - 1)
    head = bytes((first,)) + version.to_bytes(4, "big") + bytes((len(dcid),)) + dcid
    head += bytes((len(scid),)) + scid + number(len(token)) + token
    head += number(number_size + len(frames) + 16, 2) + packet_number.to_bytes(number_size, "big")
    nonce = (int.from_bytes(iv, "big") ^ packet_number).to_bytes(12, "big")
    sealed = AESGCM(key).encrypt(nonce, frames, head)
    encryptor = Cipher(algorithms.AES(hp), modes.ECB()).encryptor()
    mask = encryptor.update(sealed[4 - number_size :][:16])
    masked = bytearray(head)
    masked[0] ^= mask[0] & 0x0F
    for i in range(number_size):
        masked[i - number_size] ^= mask[1 + i]
    return bytes(masked) + sealed


def padded(frames: bytes, length: int = 1162) -> bytes:
    return frames + bytes(length - len(frames))


# -- reading them --


@dataclass
class Read:
    """A line of the program."""

    verdict: str
    version: int
    dcid: bytes
    client: int
    words: set[str]
    pieces: list[tuple[int, bytes]] = field(default_factory=list)

    @classmethod
    def of(cls, line: str) -> Read:
        verdict, version, rest = line.split(" ", 2)
        dcid, client, *others = rest.split(" ")
        pieces = [text.split(":") for text in others if ":" in text]
        return cls(
            verdict,
            int(version, 16),
            bytes.fromhex(dcid),
            int(client.removeprefix("client=")),
            {text for text in others if ":" not in text},
            [(int(offset), bytes.fromhex(data)) for offset, data in pieces],
        )


@dataclass(frozen=True)
class Program:
    """The C program, which reads the datagrams of one flow."""

    path: Path

    def run(self, lines: Iterable[str]) -> list[str]:
        text = "".join(f"{line}\n" for line in lines)
        done = subprocess.run([self.path], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def read(self, *datagrams: tuple[int, bytes], before: Sequence[str] = ()) -> list[Read]:
        lines = [f"{side} {data.hex()}" for side, data in datagrams]
        return [Read.of(line) for line in self.run([*before, *lines])]

    def books(self, *lines: str) -> dict[str, int]:
        said = self.run([*lines, "books"])[-1]
        return {name: int(n) for name, n in (pair.split("=") for pair in said.split())}


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    path = tmp_path_factory.mktemp("quic") / "quic"
    return Program(link(path, Path(__file__).parent / "quic_parse.c"))


def together(pieces: Iterable[tuple[int, bytes]]) -> bytes:
    """The hello that the pieces make."""
    held = dict[int, int]()
    for offset, data in pieces:
        for i, byte in enumerate(data, offset):
            assert held.setdefault(i, byte) == byte
    assert sorted(held) == list(range(len(held)))
    return bytes(held[i] for i in range(len(held)))


# -- the packets of the RFCs --


@pytest.mark.parametrize(
    ("version", "head", "tag"),
    [
        (V1, "c000000001088394c8f03e5157080000449e7b9aec34", "e221af44860018ab0856972e194cd934"),
        (V2, "d76b3343cf088394c8f03e5157080000449ea0c95e82", "a18b2faa745b6fe189cf772a9f84cbfc"),
    ],
)
def test_the_packets_of_the_rfcs_open(program: Program, version: int, head: str, tag: str) -> None:
    client = seal(padded(CLIENT_CRYPTO), version=version, packet_number=2)
    # The tag is over the header and all frames, so this is the RFC's packet, byte by byte.
    assert (client[:22].hex(), client[-16:].hex()) == (head, tag)
    first, second = program.read((0, client), (1, SERVER_PACKETS[version]))
    assert first == Read("message", version, DCID, 0, {"begins"}, [(0, CLIENT_CRYPTO[4:])])
    assert second == Read("message", version, DCID, 0, set(), [(0, SERVER_FRAMES[9:])])


def test_a_draft_has_its_own_salt(program: Program) -> None:
    (read,) = program.read((1, seal(padded(CLIENT_CRYPTO), version=DRAFT)))
    assert (read.verdict, read.version, read.client) == ("message", DRAFT, 1)
    assert read.pieces == [(0, CLIENT_CRYPTO[4:])]


# -- frames, headers --


def test_other_frames_may_lie_between(program: Program) -> None:
    frames = b"".join(
        (
            b"\0\0\x01" + crypto(5, b"second"),
            b"\x02\x05\x00\x02\x01" + b"\x00\x01" * 2,  # an ACK of three ranges
            crypto(0, b"first"),
            b"\x03" + number(70_000) + b"\x00\x00\x01\x01\x02\x03",  # with ECN
            crypto(11, b""),
            crypto(11, b"x" * 100),
            b"\x1c" + number(0x12C) + b"\x06\x03bye",
            crypto(111, b"last"),
        )
    )
    (read,) = program.read((0, seal(padded(frames))))
    assert read.pieces == [(5, b"second"), (0, b"first"), (11, b"x" * 100), (111, b"last")]


@pytest.mark.parametrize(
    "bad",
    [
        b"\x08\x00" + bytes(20),  # STREAM, which an Initial cannot have
        b"\x06\x00\x50\x00" + bytes(20),  # longer than the packet
        b"\x06\x40",
        b"\x02\x00\x00\x7f\xff" + bytes(20),  # more ranges than bytes
        b"\x02\x00\x00" + number((1 << 62) - 1) + b"\x00" + bytes(20),
        b"\x1c\x00\x00\x7f\xff" + bytes(20),
    ],
)
def test_a_bad_frame_ends_the_packet(program: Program, bad: bytes) -> None:
    (read,) = program.read((0, seal(crypto(0, b"before") + bad + b"\xff")))
    assert (read.verdict, read.pieces) == ("message", [(0, b"before")])


def test_offsets_that_no_hello_has_are_left_out(program: Program) -> None:
    frames = crypto((1 << 32) - 2, b"ab") + crypto((1 << 32) - 2, b"a") + crypto(1 << 61, b"a")
    (read,) = program.read((0, seal(padded(frames))))
    assert read.pieces == [((1 << 32) - 2, b"a")]


def test_more_pieces_than_a_datagram_may_have_are_counted(program: Program) -> None:
    data = seal(padded(b"".join(crypto(i, b"a") for i in range(40))))
    (read,) = program.read((0, data))
    assert read.pieces == [(i, b"a") for i in range(32)]
    assert program.books(f"0 {data.hex()}")["pieces_left_out"] == 8


@pytest.mark.parametrize("number_size", [1, 2, 3, 4])
def test_packet_numbers_of_each_size_and_tokens(program: Program, number_size: int) -> None:
    data = seal(
        padded(CLIENT_CRYPTO),
        token=b"t" * 300,
        scid=b"s" * 20,
        packet_number=201,
        number_size=number_size,
    )
    (read,) = program.read((0, data))
    assert read.pieces == [(0, CLIENT_CRYPTO[4:])]


def test_the_fixed_bit_may_be_clear_if_the_packet_opens(program: Program) -> None:
    (read,) = program.read((0, seal(padded(CLIENT_CRYPTO), fixed_bit=False)))
    assert read.pieces == [(0, CLIENT_CRYPTO[4:])]


def test_initials_in_one_datagram_are_all_read(program: Program) -> None:
    first, second = CLIENT_CRYPTO[4:104], CLIENT_CRYPTO[104:]
    handshake = b"\xe0\0\0\0\x01\x08" + DCID + b"\0" + number(40) + bytes(40)
    datagram = seal(crypto(0, first)) + handshake
    datagram += seal(padded(crypto(100, second)), packet_number=1)
    (read,) = program.read((0, datagram + b"\0" * 30))
    assert read.pieces == [(0, first), (100, second)]


def test_only_what_scratch_holds_is_opened(program: Program) -> None:
    data = seal(padded(CLIENT_CRYPTO))
    for room, verdict in ((len(data), "message"), (len(data) - 1, "more"), (0, "more")):
        (read,) = program.read((0, data), before=[f"scratch {room}"])
        assert (read.verdict, read.version) == (verdict, V1)


# -- connections --


def test_without_libcrypto_quic_has_a_label(program: Program) -> None:
    client = seal(padded(CLIENT_CRYPTO))
    first, second, third = program.read(
        (0, client), (1, SERVER_PACKETS[V1]), (0, b"\x40" * 50), before=["plain"]
    )
    assert (first.verdict, first.version, first.pieces) == ("more", V1, [])
    assert (second.verdict, third.verdict) == ("more", "message")


def test_over_the_budget_quic_has_a_label_and_the_rest_is_counted(program: Program) -> None:
    client = seal(padded(CLIENT_CRYPTO))
    lines = ["limit 0", f"0 {client.hex()}", "limit 1", f"1 {SERVER_PACKETS[V1].hex()}"]
    first, second = (Read.of(line) for line in program.run(lines))
    assert (first.verdict, first.dcid) == ("more", DCID)
    assert (second.verdict, second.pieces) == ("message", [(0, SERVER_FRAMES[9:])])
    assert program.books(*lines) == {
        "opened": 1,
        "unopened": 1,
        "left_out": 1,
        "pieces_left_out": 0,
        "errors": 0,
    }


def test_a_damaged_initial_has_a_label(program: Program) -> None:
    data = bytearray(seal(padded(CLIENT_CRYPTO)))
    data[600] ^= 1
    damaged, whole = program.read((0, bytes(data)), (0, seal(padded(CLIENT_CRYPTO))))
    assert (damaged.verdict, damaged.pieces) == ("more", [])
    assert whole.pieces == [(0, CLIENT_CRYPTO[4:])]


def test_an_initial_that_is_cut_has_a_label(program: Program) -> None:
    data = seal(padded(CLIENT_CRYPTO))
    verdicts = {n: program.read((0, data[:n]))[0].verdict for n in (17, 18, 200, len(data) - 1)}
    assert verdicts == {17: "not", 18: "more", 200: "more", len(data) - 1: "more"}


def test_a_server_whose_client_was_not_seen_has_a_label_only_if_it_is_certain(
    program: Program,
) -> None:
    long = seal(padded(SERVER_FRAMES, 1180), dcid=b"", scid=b"server", server=True)
    (small,) = program.read((1, SERVER_PACKETS[V1]))
    assert small.verdict == "not"
    (whole,) = program.read((1, long))
    assert (whole.verdict, whole.version) == ("more", V1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        b"\x40" + bytes(1300),
        b"\xc0\xba\xba\xba\xba\x08" + bytes(1300),  # a version that is not known
        b"\xc0\0\0\0\x01\x15" + bytes(1300),  # an id that is too long
        b"\xc0\0\0\0\x01\x08" + DCID + b"\x00\x7f\xff" + bytes(1200),  # a token that is too long
        b"\xc0\0\0\0\x01\x08" + DCID + b"\x00\x00\x04" + bytes(1200),  # too short for a sample
        b"\xe0\0\0\0\x01\x08" + DCID + b"\x00\x44\xb0" + bytes(1200),  # a Handshake
        b"\xf0\0\0\0\x01\x08" + DCID + b"\x00" + bytes(40),  # a Retry
        b"\x80\0\0\0\0\0\0\0\0\0\x01",  # would be a Version Negotiation without ids
    ],
)
def test_other_bytes_are_not_quic(program: Program, data: bytes) -> None:
    (read,) = program.read((0, data))
    assert read == Read("not", 0, b"", 0, set())


def test_after_a_version_negotiation_the_client_begins_anew(program: Program) -> None:
    asked = b"\xc0\xba\xba\xba\xba\x08" + DCID + b"\x04scid" + bytes(1200)
    negotiation = encode_quic_version_negotiation(
        source_cid=DCID, destination_cid=b"scid", supported_versions=[V2, V1]
    )
    first, second, third = program.read(
        (0, asked), (1, negotiation), (0, seal(padded(CLIENT_CRYPTO), version=V2))
    )
    assert (first.verdict, second.verdict) == ("not", "message")
    assert second.words == {"negotiated"}
    assert (third.version, third.words, third.client) == (V2, {"begins"}, 0)


def test_another_version_with_the_same_id_begins_anew(program: Program) -> None:
    negotiation = encode_quic_version_negotiation(
        source_cid=DCID, destination_cid=b"", supported_versions=[V2]
    )
    by_client, by_server = (
        program.read(
            (0, seal(padded(CLIENT_CRYPTO))),
            (side, negotiation),
            (0, seal(padded(crypto(0, b"again")), version=V2)),
        )
        for side in (0, 1)
    )
    assert (by_server[2].words, by_server[2].version) == ({"begins"}, V2)
    assert by_server[2].pieces == [(0, b"again")]
    assert (by_client[2].words, by_client[2].version) == (set(), V1)


def test_a_server_may_choose_another_version(program: Program) -> None:
    first, second, third = program.read(
        (0, seal(padded(CLIENT_CRYPTO))),
        (1, SERVER_PACKETS[V2]),
        (0, seal(padded(b"\x02\0\0\0\0"), version=V2, dcid=b"server")),
    )
    assert (first.version, second.version, third.version) == (V1, V2, V2)
    assert second.pieces == [(0, SERVER_FRAMES[9:])]
    assert (third.verdict, third.pieces, third.words) == ("message", [], set())


def test_after_a_retry_the_client_goes_on_with_other_keys(program: Program) -> None:
    retry = encode_quic_retry(V1, b"new", b"", DCID, b"token")
    hello = padded(CLIENT_CRYPTO)
    reads = program.read(
        (0, seal(hello)),
        (1, retry),
        (0, seal(hello)),  # what was under way
        (0, seal(hello, key_id=b"new", token=b"token", packet_number=1)),
        (1, seal(SERVER_FRAMES, key_id=b"new", dcid=b"", scid=b"new", server=True)),
    )
    assert [sorted(read.words) for read in reads] == [
        ["begins"],
        ["retrying"],
        ["retrying"],
        ["retried"],
        ["retried"],
    ]
    assert [read.dcid for read in reads] == [DCID, DCID, DCID, b"new", b"new"]
    assert reads[3].pieces == [(0, CLIENT_CRYPTO[4:])]
    assert reads[4].pieces == [(0, SERVER_FRAMES[9:])]


def test_a_retry_that_was_not_seen_does_no_harm(program: Program) -> None:
    hello = padded(CLIENT_CRYPTO)
    _, again = program.read((0, seal(hello)), (0, seal(hello, key_id=b"new", token=b"token")))
    assert (again.dcid, again.words) == (b"new", {"begins"})
    assert again.pieces == [(0, CLIENT_CRYPTO[4:])]


def test_a_new_connection_of_the_same_ports_is_told(program: Program) -> None:
    reads = program.read(
        (0, seal(padded(CLIENT_CRYPTO))),
        (0, seal(padded(crypto(0, b"other")), key_id=b"01234567")),
        (1, seal(SERVER_FRAMES, key_id=b"01234567", dcid=b"", server=True)),
    )
    assert [read.words for read in reads] == [{"begins"}, {"begins"}, set()]
    assert reads[1].pieces == [(0, b"other")]
    assert reads[2].pieces == [(0, SERVER_FRAMES[9:])]


# -- aioquic's --


Identity: TypeAlias = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


@pytest.fixture(scope="module")
def identity() -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    begin = dt.datetime(2020, 1, 1)
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), 1, begin, begin + dt.timedelta(days=20_000)
    ).sign(key, hashes.SHA256())
    return certificate, key


def handshake(
    identity: Identity,
    name: str,
    protocols: list[str],
    version: QuicProtocolVersion,
) -> tuple[list[bytes], list[bytes], bytes]:
    """A connection's first flights, the client's and the server's, and the id of their keys."""
    client = QuicConnection(
        configuration=QuicConfiguration(
            is_client=True,
            server_name=name,
            alpn_protocols=protocols,
            supported_versions=[version],
            original_version=version,
        )
    )
    client.connect(("192.0.2.1", 443), now=0.0)
    asked = [data for data, _ in client.datagrams_to_send(now=0.0)]
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=protocols[-1:], supported_versions=[version]
    )
    configuration.certificate, configuration.private_key = identity
    server = QuicConnection(
        configuration=configuration,
        original_destination_connection_id=client.original_destination_connection_id,
    )
    answered = []
    for data in asked:
        server.receive_datagram(data, ("192.0.2.2", 4433), now=0.1)
        answered += [data for data, _ in server.datagrams_to_send(now=0.1)]
    return asked, answered, client.original_destination_connection_id


names = st.from_regex(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?(\.[a-z]{2,20}){1,3}", fullmatch=True)


@settings(max_examples=size(12, 300), deadline=None)
@given(
    name=names,
    protocols=st.lists(
        st.text("abcdefgh/0123456789", min_size=1, max_size=100), min_size=1, max_size=60
    ),
    version=st.sampled_from([QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]),
    seed=st.integers(0, 1 << 30),
)
def test_the_hellos_are_those_that_aioquic_sent(
    program: Program,
    identity: Identity,
    name: str,
    protocols: list[str],
    version: QuicProtocolVersion,
    seed: int,
) -> None:
    asked, answered, dcid = handshake(identity, name, protocols, version)
    order = random.Random(seed)
    flight = asked * order.randint(1, 2)  # retransmitted, in any order
    order.shuffle(flight)
    reply = list(answered)
    order.shuffle(reply)
    reads = program.read(*((0, data) for data in flight), *((1, data) for data in reply))
    assert all(read.verdict == "message" for read in reads)
    assert {(read.version, read.dcid, read.client) for read in reads} == {(version, dcid, 0)}
    assert [read.words for read in reads] == [{"begins"}] + [set()] * (len(reads) - 1)
    hello = together(piece for read in reads[: len(flight)] for piece in read.pieces)
    sent = Buffer(data=hello)
    client = pull_client_hello(sent)
    assert sent.eof()
    assert (client.server_name, client.alpn_protocols) == (name, protocols)
    came = Buffer(data=together(piece for read in reads[len(flight) :] for piece in read.pieces))
    assert pull_server_hello(came).cipher_suite in client.cipher_suites


# -- hostile --


@settings(max_examples=size(20, 500), deadline=None)
@given(
    frames=st.binary(max_size=300),
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
    server=st.booleans(),
)
def test_hostile_packets_do_no_harm(
    program: Program, frames: bytes, cut: int, flips: list[tuple[int, int]], server: bool
) -> None:
    made = bytearray(seal(frames.ljust(4, b"\0"), server=server))
    for at, byte in flips:
        made[at % len(made)] = byte
    data = bytes(made)
    first = (0, seal(padded(CLIENT_CRYPTO)))
    for read in program.read((0, data), first, (0, data), (1, data), (0, data[:cut]), first):
        assert len(read.pieces) <= 32
