"""Protocols that change to TLS: their dialogues, whole and in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.native.app.sides_program import Exchange, Over, Piece, Sides, build


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    program = Sides(build())
    yield program
    program.close()


@dataclass(frozen=True)
class Dialogue:
    """The two sides in turn; the responder begins, unless the originator ``asks`` first."""

    protocol: str
    said: tuple[bytes, ...]
    asks: bool = False
    port: int = 8000

    def pieces(self, size: int) -> list[Piece]:
        found = []
        for n, data in enumerate(self.said):
            by = "OR"[(n + 1 + self.asks) % 2]
            found += [Piece(by, data[at : at + size]) for at in range(0, len(data), size)]
        return found


MYSQL = (
    b"j\0\0\0\n5.5.5-10.0.36-MariaDB-0ubuntu0.16.04.1\0!\0\0\0tnNv,t'`\0\xff\xff-\x02\0?\xe0\x15"
    b"\0\0\0\0\0\0\0\0\0\x001rkADp+#ijZe\0mysql_native_password\0"
)
MYSQL_TLS = b"\x20\0\0\1\x85\xae? \0\0\0\1-" + bytes(23)
MYSQL_LOGIN = b"\x30\0\0\1\x85\xa6? \0\0\0\1-" + bytes(39)
LDAP_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
LDAP_SEARCH = bytes.fromhex(
    "30 84 00 00 00 2d 02 01 01 63 84 00 00 00 24 04 00 0a 01 00 0a 01 00 02 01 00 02 01 00 01 01"
    "00 87 0b") + b"objectclass" + bytes.fromhex("30 84 00 00 00 00")  # fmt: skip
LDAP_GOES = bytes.fromhex("30 0c 02 01 01 78 07 0a 01 00 04 00 04 00")
LDAP_REFUSES = bytes.fromhex("30 0c 02 01 01 78 07 0a 01 02 04 00 04 00")
LDAP_BIND = bytes.fromhex("30 0c 02 01 02 60 07 02 01 03 04 00 80 00")
XMPP = b"<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams'>"
FEATURES = (
    XMPP + b"<stream:features><starttls xmlns='urn:x'><required/></starttls></stream:features>"
)
ASK_TLS = bytes.fromhex("00000008 04d2162f")
STARTUP = b"\0\0\0\x21\0\3\0\0user\0me\0database\0them\0\0"
STARTUP = len(STARTUP).to_bytes(4, "big") + STARTUP[4:]

GOES = [
    Dialogue(
        "smtp",
        (
            b"220-mx.example ESMTP Exim 4\r\n220 hello\r\n", b"EHLO a\r\n",
            b"250-mx.example\r\n250-STARTTLS\r\n250 HELP\r\n", b"STARTTLS\r\n", b"220 go ahead\r\n",
        ),
    ),
    Dialogue("smtp", (b"220 mx\r\n", b"EHLO a\r\n", b"250 mx\r\n", b"starttls\r\n", b"220 go\r\n"),
             port=25),
    Dialogue("smtp", (b"220 hi\n", b"EHLO a\n", b"250 mx\n", b"STARTTLS\n", b"220 go\n")),
    Dialogue("ftp", (b"220 (vsFTPd 3.0.5)\r\n", b"FEAT\r\n", b"211-List:\r\n EPRT\r\n211 End\r\n",
                     b"AUTH TLS\r\n", b"234 Proceed with negotiation.\r\n")),
    Dialogue("ftp", (b"220 hi\r\n", b"AUTH SSL\r\n", b"234 go\r\n"), port=21),
    Dialogue("pop3", (b"+OK Dovecot ready.\r\n", b"CAPA\r\n", b"+OK\r\nSTLS\r\n.\r\n", b"STLS\r\n",
                      b"+OK Begin\r\n")),
    Dialogue("imap", (b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n", b". CAPABILITY\r\n",
                      b"* CAPABILITY IMAP4rev1\r\n. OK done\r\n", b". STARTTLS\r\n",
                      b". OK Begin TLS\r\n")),
    Dialogue("imap", (b"* PREAUTH hi\r\n", b"a1 starttls\r\n", b"* NOTE\r\na1 OK go\r\n")),
    Dialogue("ldap", (LDAP_TLS, LDAP_GOES), asks=True),
    Dialogue("ldap", (LDAP_SEARCH, b"\x30\x07\x02\x01\x01\x65\x02\0\0", LDAP_TLS, LDAP_GOES),
             asks=True),
    Dialogue("xmpp", (XMPP, FEATURES, b"<starttls xmlns='urn:x'/>", b"<proceed xmlns='urn:x'/>"),
             asks=True),
    Dialogue("postgresql", (ASK_TLS, b"S"), asks=True),
    Dialogue("postgresql", (b"\0\0\0\x08\x04\xd2\x16\x30", b"N", ASK_TLS, b"S"), asks=True),
    Dialogue("mysql", (MYSQL, MYSQL_TLS)),
]  # fmt: skip
STAYS = [
    Dialogue("smtp", (b"220 a SMTP\r\n", b"STARTTLS\r\n", b"454 no\r\n", b"MAIL FROM:<a>\r\n")),
    Dialogue("smtp", (b"220 a SMTP\r\n", b"AUTH PLAIN x\r\n", b"235 ok\r\n", b"STARTTLS\r\n",
                      b"220 go\r\n")),
    Dialogue("ftp", (b"220 FTP\r\n", b"USER a\r\n", b"331 more\r\n")),
    Dialogue("ftp", (b"220 FTP\r\n", b"AUTH GSSAPI\r\n", b"334 more\r\n")),
    Dialogue("pop3", (b"+OK\r\n", b"STLS\r\n", b"-ERR no\r\n", b"USER a\r\n", b"+OK\r\n"),
             port=110),
    Dialogue("imap", (b"* OK hi\r\n", b"a STARTTLS\r\n", b"a NO\r\n", b"b LOGIN u p\r\n")),
    Dialogue("ldap", (LDAP_TLS, LDAP_REFUSES, LDAP_BIND, LDAP_GOES), asks=True),
    Dialogue("ldap", (LDAP_BIND, LDAP_GOES), asks=True),
    Dialogue("xmpp", (XMPP, FEATURES, b"<auth/>", b"<proceed/>"), asks=True),
    Dialogue("postgresql", (ASK_TLS, b"N", STARTUP, b"R"), asks=True),
    Dialogue("postgresql", (STARTUP, b"S"), asks=True),
    Dialogue("mysql", (MYSQL, MYSQL_LOGIN)),
    Dialogue("mysql", (MYSQL.replace(b"'`\0\xff\xff", b"'`\0\xff\xf7"), MYSQL_TLS)),
]  # fmt: skip
# The server of a proxy speaks next; whoever does, both sides are read anew.
AFTER = [Piece("O", b"GET / HTTP/1.1\r\n\r\n")]
HTTP = {"version": 0x101, "method": b"GET", "path": b"/"}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("dialogue", GOES, ids=lambda d: d.protocol)
def test_both_sides_begin_anew_where_tls_may_begin(
    sides: Sides, dialogue: Dialogue, size: int
) -> None:
    said = sides.flow(dialogue.pieces(size) + AFTER, ports=(40000, dialogue.port))
    assert said == [
        Exchange(dialogue.protocol, {}),
        Over(dialogue.protocol),
        Exchange("http", HTTP, carrier=dialogue.protocol),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("dialogue", STAYS, ids=lambda d: d.protocol)
def test_without_tls_a_label_stays(sides: Sides, dialogue: Dialogue, size: int) -> None:
    said = sides.flow(dialogue.pieces(size) + AFTER, ports=(40000, dialogue.port))
    assert said == [Exchange(dialogue.protocol, {})]


def test_an_answer_may_come_behind_the_first_bytes_of_tls(sides: Sides) -> None:
    said = sides.flow(
        [
            Piece("R", b"220 a ESMTP\r\n"),
            Piece("O", b"STARTTLS\r\n"),
            Piece("O", b"\x16\x03\x01"),
            Piece("R", b"220 go\r\n"),
        ]
    )
    assert said == [Exchange("smtp", {}), Over("smtp")]


@pytest.mark.parametrize("count", [40, 70])
def test_after_many_messages_nothing_is_read(sides: Sides, count: int) -> None:
    pieces = [Piece("R", b"220 a ESMTP\r\n"), *[Piece("O", b"NOOP\r\n")] * count]
    said = sides.flow([*pieces, Piece("O", b"STARTTLS\r\n"), Piece("R", b"220 go\r\n")])
    assert (Over("smtp") in said) == (count == 40)


@pytest.mark.parametrize(
    ("by", "data"),
    [
        ("R", b"220\r\n"),
        ("R", b"200 news\r\n"),
        ("R", b"* NO\r\n"),
        ("R", b"+PONG\r\n"),
        ("R", b"+OK\r\n"),  # of Redis
        ("R", b"220 \0 ESMTP\r\n"),
        ("R", b"220 " + b"x" * 3000 + b" ESMTP\r\n"),
        ("R", MYSQL.replace(b".", b"-")),
        ("R", b"k" + MYSQL[1:]),
        ("O", b"USER a\r\n"),
        ("O", LDAP_TLS.replace(b"20037", b"20038")),
        ("O", LDAP_BIND.replace(b"\x02\x01\x03", b"\x02\x01\x04")),
        ("O", b"\x30\x84\xff\xff\xff\xff\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0"),
        ("O", b"<?xml version='1.0'?><html>"),
        ("O", b"<stream:stream xmlns='other'>"),
        ("O", b"\0\0\0\x08\x04\xd2\x16\x2d"),
        ("O", STARTUP[:-1] + b"x"),
        ("O", b"S"),
    ],
)
def test_other_bytes_are_none_of_them(sides: Sides, by: str, data: bytes) -> None:
    assert sides.flow([Piece(by, data)]) == []


def test_ldap_in_a_datagram_is_a_label(sides: Sides) -> None:
    assert sides.datagram(LDAP_SEARCH, ports=(40000, 389)) == "ldap"
    assert sides.datagram(LDAP_SEARCH + b"x", ports=(40000, 389)) is None
