"""JA4 and JA3 of TLS clients."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import pytest

from tests.native.app.hellos import (
    alpn,
    client_hello,
    extension,
    numbers,
    record,
    server_name,
    vector,
    versions,
)
from tests.native.app.tls_program import JA3, JA4, Program

# The example of FoxIO's description, with GREASE where browsers put it.
CIPHERS = [0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013]
CIPHERS += [0xC014, 0x009C, 0x009D, 0x002F, 0x0035]
SIGNATURES = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601]
BODIES = {
    0x0000: server_name(b"a.example")[4:],
    0x0010: alpn(b"h2", b"http/1.1")[4:],
    0x002B: versions(0x2A2A, 0x0304, 0x0303)[4:],
    0x000D: vector(numbers(SIGNATURES), 2),
    0x000A: vector(numbers([0x6A6A, 29, 23, 24]), 2),
    0x000B: b"\x01\0",
}
ORDER = [0x3A3A, 0x001B, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002D, 0x000D, 0x0005, 0x0023]
ORDER += [0x0012, 0x002B, 0xFF01, 0x000B, 0x000A, 0xFAFA, 0x0015]
EXTENSIONS = b"".join(extension(number, BODIES.get(number, b"")) for number in ORDER)
HELLO = client_hello(EXTENSIONS, ciphers=[0x0A0A, *CIPHERS])
NO_CIPHERS = NO_EXTENSIONS = "000000000000"


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program() as program:
        yield program


def test_the_example_of_the_description_has_its_fingerprint(program: Program) -> None:
    message = program.parse(record(HELLO))
    assert message.get(JA4) == b"t13d1516h2_8daaf6152771_e5627efa2ab1"
    text = (
        "771,4865-4866-4867-49195-49199-49196-49200-52393-52392-49171-49172-156-157-47-53,"
        "27-0-51-16-17513-23-45-13-5-35-18-43-65281-11-10-21,29-23-24,0"
    )
    assert message.get(JA3) == hashlib.md5(text.encode()).hexdigest().encode()
    assert program.raw(HELLO)[1] == text


def test_neither_order_nor_grease_changes_the_fingerprint(program: Program) -> None:
    rest = [number for number in ORDER if number & 0x0F0F != 0x0A0A]
    chance = random.Random(1)
    for _ in range(20):
        chance.shuffle(rest)
        ciphers = chance.sample(CIPHERS, len(CIPHERS))
        extensions = b"".join(extension(number, BODIES.get(number, b"")) for number in rest)
        hello = client_hello(extensions, ciphers=ciphers)
        assert program.parse(record(hello)).get(JA4) == b"t13d1516h2_8daaf6152771_e5627efa2ab1"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"h", "hh"),
        (b"\xab", "ab"),
        (b" ", "20"),
        (b"\xab\xcd", "ad"),
        (b" a", "21"),
        (b"0\xab", "3b"),
        (b"a ", "60"),
        (b"01\xab\xcd", "3d"),
        (b"0\xab\xcd1", "01"),
        (b"Z-9", "Z9"),
        (b"\xba\xad", "bd"),
        (b"", "00"),
    ],
)
def test_the_first_protocol_is_shown_by_its_ends(program: Program, name: bytes, shown: str) -> None:
    assert program.raw(client_hello(alpn(name, b"x")))[0][8:10] == shown


def test_a_hello_without_protocols_shows_zeros(program: Program) -> None:
    for extensions in (b"", alpn(), extension(16), extension(16, b"\0\x09\x02h2")):
        assert program.raw(client_hello(extensions))[0][8:10] == "00"


@pytest.mark.parametrize(
    ("version", "offered", "shown"),
    [
        (0x0300, None, "s3"),
        (0x0301, None, "10"),
        (0x0302, None, "11"),
        (0x0303, None, "12"),
        (0x0303, [0x0301, 0x0304, 0x8A8A], "13"),
        (0x0303, [0x0304, 0x7F1C], "00"),  # the highest number counts, and it has no name
        (0x0303, [0x8A8A], "00"),
    ],
)
def test_the_version_is_the_highest_of_the_list(
    program: Program, version: int, offered: list[int] | None, shown: str
) -> None:
    extensions = b"" if offered is None else versions(*offered)
    assert program.raw(client_hello(extensions, version=version))[0][1:3] == shown


@pytest.mark.parametrize(
    ("version", "offered", "shown"),
    [
        (0xFEFF, None, "d1"),
        (0xFEFD, None, "d2"),
        (0xFEFD, [0xFEFC, 0xFEFD], "d3"),
        (0xFEFD, [0xFEFF, 0xFEFD], "d2"),
    ],
)
def test_the_newest_version_of_dtls_has_the_lowest_number(
    program: Program, version: int, offered: list[int] | None, shown: str
) -> None:
    extensions = b"" if offered is None else versions(*offered)
    hello = client_hello(extensions, version=version, cookie=b"")
    assert program.raw(hello, "d")[0][:3] == "d" + shown


def test_an_empty_part_is_shown_as_zeros(program: Program) -> None:
    for extensions in (None, b"", server_name(b"a.example"), extension(0x1A1A)):
        ja4 = program.parse(record(client_hello(extensions, ciphers=[0x0A0A]))).get(JA4)
        assert isinstance(ja4, bytes)
        assert ja4.decode().split("_")[1:] == [NO_CIPHERS, NO_EXTENSIONS]
    assert program.raw(client_hello(server_name(b"a.example")))[0][3] == "d"
    assert program.raw(client_hello())[0][3] == "i"


def test_signatures_follow_the_extensions_in_their_own_order(program: Program) -> None:
    signatures = extension(13, vector(numbers([0x0804, 0x5A5A, 0x0403]), 2))
    raw = program.raw(client_hello(extension(0x0017) + signatures, ciphers=[0x1301]))
    assert raw == ["t12i010200_1301_000d,0017_0804,0403", "771,4865,23-13,,"]
    raw = program.raw(client_hello(extension(13, b"\0\0"), ciphers=[0x1301]))
    assert raw[0] == "t12i010100_1301_000d"


def test_the_transport_leads(program: Program) -> None:
    assert [program.raw(HELLO, t)[0][0] for t in "tq"] == ["t", "q"]
    ja4 = program.parse(HELLO, "q").get(JA4)
    assert ja4 == b"q13d1516h2_8daaf6152771_e5627efa2ab1"


def test_counts_end_at_99(program: Program) -> None:
    ciphers = [number for number in range(0x1000, 0x1100) if number & 0x0F0F != 0x0A0A]
    extensions = b"".join(extension(number) for number in range(0x100, 0x100 + 150))
    raw = program.raw(client_hello(extensions, ciphers=ciphers))[0]
    assert raw[4:8] == "9999"
    assert raw.split("_")[1] == ",".join(f"{number:04x}" for number in ciphers)


def test_a_hello_that_is_too_long_or_broken_has_no_fingerprint(program: Program) -> None:
    broken = client_hello(extension(0x17) + b"\0\x2b\0\x09\x02")
    flood = client_hello(ciphers=[0x1301] * 4000)
    for hello in (broken, flood):
        message = program.parse(record(hello))
        assert (message.verdict, message.get(JA4), message.get(JA3)) == ("message", None, None)
    cut = program.parse(record(HELLO)[:-10], is_all=True)
    assert (cut.verdict, cut.get(JA4), cut.get(JA3)) == ("message", None, None)


def test_a_hello_in_many_records_has_the_same_fingerprint(program: Program) -> None:
    pieces = b"".join(record(HELLO[at : at + 50]) for at in range(0, len(HELLO), 50))
    assert program.parse(pieces).record == program.parse(record(HELLO)).record


def _changed(chance: random.Random) -> bytes:
    """The hello of the example, with some of its parts changed."""
    ciphers, order, bodies = list(CIPHERS), list(ORDER), dict(BODIES)
    if chance.random() < 0.3:
        ciphers[chance.randrange(len(ciphers))] = chance.choice([0x1304, 0x0A0A])
    if chance.random() < 0.3:
        chance.shuffle(order)
    if chance.random() < 0.3:
        order[chance.randrange(len(order))] = chance.choice([0x0029, 0x4A4A, *BODIES])
    if chance.random() < 0.5:
        number = chance.choice(list(bodies))
        body = bytearray(bodies[number])
        body[chance.randrange(len(body))] = chance.choice([0, 1, 3, 4, 6, 0x0A, 0x68])
        bodies[number] = bytes(body)
    extensions = b"".join(extension(number, bodies.get(number, b"")) for number in order)
    return client_hello(extensions, version=chance.choice([0x0303, 0x0302]), ciphers=ciphers)


def _expected(raw: list[str]) -> tuple[bytes, bytes]:
    head, ciphers, extensions = raw[0].split("_", 2)
    parts = [
        hashlib.sha256(part.encode()).hexdigest()[:12] if part else NO_CIPHERS
        for part in (ciphers, extensions)
    ]
    return "_".join([head, *parts]).encode(), hashlib.md5(raw[1].encode()).hexdigest().encode()


def test_a_fingerprint_that_is_kept_goes_to_no_other_hello(program: Program) -> None:
    chance = random.Random(2)
    hellos = [_changed(chance) for _ in range(1000)]
    for hello in [*hellos, *hellos]:
        message = program.parse(record(hello))
        assert (message.get(JA4), message.get(JA3)) == _expected(program.raw(hello))


def test_a_byte_behind_the_numbers_of_a_list_hides_no_difference(program: Program) -> None:
    for low, high in ((0x001A, 0x1A01), (0x002A, 0x2A01), (0x001A, 0x2A01)):
        groups = vector(numbers([*range(1, 9), low, high, *range(11, 16)]) + b"\x0a", 2)
        hello = client_hello(extension(0x000A, groups), ciphers=CIPHERS)
        message = program.parse(record(hello))
        assert (message.get(JA4), message.get(JA3)) == _expected(program.raw(hello))


def test_long_lists_have_fingerprints_whether_they_are_kept_or_not(program: Program) -> None:
    for count in [*range(1, 200), 1000]:
        hello = client_hello(EXTENSIONS, ciphers=[0x1301, *range(0xC000, 0xC000 + count)])
        for _ in range(2):
            message = program.parse(record(hello))
            assert (message.get(JA4), message.get(JA3)) == _expected(program.raw(hello))
