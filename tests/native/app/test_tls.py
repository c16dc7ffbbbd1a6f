"""TLS in a stream: the hellos of real handshakes, and those of old, odd and hostile peers."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.native.app.hellos import (
    RETRY_RANDOM,
    alpn,
    client_hello,
    extension,
    key_share,
    numbers,
    record,
    server_hello,
    server_name,
    versions,
)
from tests.native.app.tls_program import (
    ALERT,
    ALPN,
    ALPN_OFFERED,
    ANSWERS,
    ASKS,
    CIPHER,
    CLIENT_VERSION,
    CUT,
    ECH,
    GROUP,
    NOTHING,
    RESUMED,
    SAME,
    SERVER_NAME,
    SESSION_ID,
    SILENT,
    TLS,
    VERSION,
    Message,
    Program,
)
from tests.support.certificates import Certificates
from tests.support.sizes import size

EXAMPLES = size(40, 2000)
ID = bytes(range(1, 33))
CCS = record(b"\x01", kind=20)
CERTIFICATE = b"\x0b\0\0\x03\0\0\0"
TICKET = extension(35, b"t" * 100)
real = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program() as program:
        yield program


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


# -- real handshakes, without a network --


class End:
    """One side of a connection in memory."""

    def __init__(
        self, context: ssl.SSLContext, *, name: str | None, session: ssl.SSLSession | None = None
    ) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=name is None,
            server_hostname=name,
            session=session,
        )
        self.sent = b""

    def goes_on(self) -> bool:
        """Take a step of the handshake, and return whether more are needed."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return True
        return False


@dataclass
class Handshake:
    """The bytes of a connection, and what it agreed on."""

    client: bytes
    server: bytes
    version: str
    cipher: str
    protocol: str | None
    is_resumed: bool
    session: ssl.SSLSession


def shake(
    client: ssl.SSLContext,
    server: ssl.SSLContext,
    name: str,
    session: ssl.SSLSession | None = None,
) -> Handshake:
    """Connect in memory."""
    ends = [End(client, name=name, session=session), End(server, name=None)]
    needed = [True, True]
    for _ in range(10):
        for i, end in enumerate(ends):
            needed[i] = end.goes_on()
            data = end.outgoing.read()
            end.sent += data
            ends[1 - i].incoming.write(data)
        if not any(needed):
            break
    with pytest.raises(ssl.SSLWantReadError):  # takes in the tickets of TLS 1.3
        ends[0].tls.read(1)
    tls = ends[0].tls
    version, cipher, agreed = tls.version(), tls.cipher(), tls.session
    assert version is not None
    assert cipher is not None
    assert agreed is not None
    return Handshake(
        ends[0].sent,
        ends[1].sent,
        version,
        cipher[0],
        tls.selected_alpn_protocol(),
        tls.session_reused is True,
        agreed,
    )


def contexts(
    certificates: Certificates, highest: ssl.TLSVersion, offered: list[str], tickets: bool
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a client and a server."""
    client, server = (
        ssl.SSLContext(kind) for kind in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)
    )
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server.load_cert_chain(certificates.server, certificates.server_key)
    for context in (client, server):
        context.maximum_version = highest
        if not tickets:
            context.options |= ssl.OP_NO_TICKET
    if offered:
        client.set_alpn_protocols(offered)
        server.set_alpn_protocols(offered[::-1])
    return client, server


WIRE_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20)
names = (
    st.lists(labels, min_size=2, max_size=8)
    .map(".".join)
    .filter(lambda name: not name.rsplit(".", 1)[1].isdigit())
)
protocols = st.lists(st.text("abhz0129/.-", min_size=1, max_size=40), max_size=20, unique=True)


@given(
    name=names,
    offered=protocols,
    highest=st.sampled_from([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]),
    tickets=st.booleans(),
)
@real
def test_a_handshake_is_read_as_its_ends_agreed(
    program: Program,
    certificates: Certificates,
    name: str,
    offered: list[str],
    highest: ssl.TLSVersion,
    tickets: bool,
) -> None:
    client, server = contexts(certificates, highest, offered, tickets)
    first = shake(client, server, name)
    for done in (first, shake(client, server, name, first.session)):
        asks = program.parse(done.client)
        assert (asks.verdict, asks.protocol, asks.role, asks.next) == (
            "message", TLS, ASKS, NOTHING,
        )  # fmt: skip
        assert asks.get(SERVER_NAME) == name.encode()
        assert asks.get(CLIENT_VERSION) == WIRE_VERSIONS[done.version]
        assert asks.all(ALPN_OFFERED) == [word.encode() for word in offered]
        answers = program.parse(done.server, asked=asks.record)
        assert (answers.verdict, answers.role, answers.next) == ("message", ANSWERS, NOTHING)
        assert answers.get(VERSION) == WIRE_VERSIONS[done.version]
        assert answers.get(RESUMED) == (1 if done.is_resumed else None)
        in_clear = done.protocol if done.version == "TLSv1.2" else None
        assert answers.get(ALPN) == (in_clear.encode() if in_clear else None)


def answer(message: Message) -> tuple[object, ...]:
    """What a message says, whatever the bytes behind it."""
    return message.verdict, message.protocol, message.role, message.next, message.record


@pytest.mark.parametrize("highest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_beginning_wants_more_until_the_hello_is_complete(
    program: Program, certificates: Certificates, highest: ssl.TLSVersion
) -> None:
    client, server = contexts(certificates, highest, ["h2", "http/1.1"], True)
    done = shake(client, server, "www.example.org", shake(client, server, "a.example").session)
    for data in (done.client, done.server):
        whole = program.parse(data)
        assert whole.verdict == "message"
        for length in range(len(data)):
            part = program.parse(data[:length])
            if length < whole.used:
                assert part.verdict == "more"
                assert length < part.needs <= whole.used
                assert part.record == b""
            else:
                assert answer(part) == answer(whole)


def in_records(message: bytes, sizes: list[int]) -> bytes:
    """A message in records of these sizes, the last of which takes the rest."""
    cut, at = b"", 0
    for length in sizes:
        if at + length < len(message):
            cut += record(message[at : at + length])
            at += length
    return cut + record(message[at:])


@given(
    sizes=st.lists(st.integers(1, 400), max_size=30), split=st.data(), filler=st.integers(0, 5000)
)
@real
def test_a_hello_is_the_same_from_any_records_and_any_segments(
    program: Program, sizes: list[int], split: st.DataObject, filler: int
) -> None:
    extensions = server_name(b"long.example") + extension(21, bytes(filler))
    hello = client_hello(extensions + alpn(b"h3", b"h2") + versions(0x0304), session=ID)
    data = in_records(hello, sizes)
    whole = program.parse(data)
    assert whole.verdict == "message"
    assert whole.used == len(data)
    assert whole.record == program.parse(record(hello)).record
    length = split.draw(st.integers(0, len(data) - 1))
    part = program.parse(data[:length])
    assert (part.verdict, part.record) == ("more", b"")
    assert length < part.needs <= len(data)


@given(
    data=st.sampled_from(
        [
            record(client_hello(server_name(b"a.example") + alpn(b"h2") + versions(0x0304))),
            record(server_hello(key_share(29) + extension(43, b"\x03\x04"))),
        ]
    ),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    is_all=st.booleans(),
    what=st.sampled_from(["tls", "t", "d", "q"]),
)
@real
def test_changed_bytes_do_no_harm(
    program: Program, data: bytes, changes: list[tuple[int, int]], is_all: bool, what: str
) -> None:
    changed = bytearray(data if what == "tls" else data[5:])
    for at, byte in changes:
        changed[at % len(changed)] = byte
    message = program.parse(bytes(changed), what, is_all=is_all)  # the program checks memory
    assert message.verdict in {"not", "more", "message"}
    assert message.used >= (message.verdict == "message")


# -- clients --


def test_a_client_says_name_versions_and_protocols(program: Program) -> None:
    extensions = server_name(b"a.example") + alpn(b"h2", b"\x0a\x0a") + versions(0x3A3A, 0x0304)
    message = program.parse(record(client_hello(extensions)))
    fields = [pair for pair in message.fields if pair[0] in range(10, 13) or pair[0] == 19]
    assert fields == [
        (SERVER_NAME, b"a.example"),
        (CLIENT_VERSION, 0x0304),
        (ALPN_OFFERED, b"h2"),
        (ALPN_OFFERED, b"\x0a\x0a"),
    ]


@pytest.mark.parametrize(
    ("version", "offered", "newest"),
    [
        (0x0300, None, 0x0300),
        (0x0301, (), 0x0301),
        (0x0303, (), 0x0303),
        (0x0303, (0x0302, 0x0303, 0x0304), 0x0304),
        (0x0303, (0x7F1C, 0x0303), 0x7F1C),
        (0x0303, (0x7F1C, 0x0304), 0x0304),
    ],
)
def test_the_newest_version_counts(
    program: Program, version: int, offered: tuple[int, ...] | None, newest: int
) -> None:
    extensions = versions(*offered) if offered else None if offered is None else b""
    message = program.parse(record(client_hello(extensions, version=version)))
    assert message.get(CLIENT_VERSION) == newest
    assert message.get(VERSION) is None


def test_names_are_bytes_as_sent(program: Program) -> None:
    for name in (b"A.Example.", b"\xff\0 \\\n", b"x" * 256):
        message = program.parse(record(client_hello(server_name(name))))
        assert (message.get(SERVER_NAME), message.is_cut) == (name, False)
    message = program.parse(record(client_hello(server_name(b"x" * 300))))
    assert (message.get(SERVER_NAME), message.is_cut) == (b"x" * 256, True)


def test_a_name_that_is_no_host_name_is_passed_over(program: Program) -> None:
    entries = b"\x07\0\x01x" + b"\0\0\x01y" + b"\0\0\x01z"
    body = numbers([len(entries)]) + entries
    assert program.parse(record(client_hello(extension(0, body)))).get(SERVER_NAME) == b"y"


def test_an_encrypted_hello_is_marked_as_outer(program: Program) -> None:
    name = server_name(b"front.example")
    outer = program.parse(record(client_hello(name + extension(0xFE0D, b"\0" + bytes(40)))))
    assert (outer.get(SERVER_NAME), outer.get(ECH)) == (b"front.example", 1)
    assert program.parse(record(client_hello(name))).get(ECH) is None


def test_many_protocols_leave_room_for_the_rest(program: Program) -> None:
    offered = [bytes([65 + i]) * 200 for i in range(20)]
    message = program.parse(record(client_hello(alpn(*offered) + server_name(b"a.example"))))
    assert message.all(ALPN_OFFERED) == offered[:4]
    assert message.get(SERVER_NAME) == b"a.example"
    assert message.is_cut
    assert len(message.record) <= 1024 + 80


V2_HELLO = bytes.fromhex(
    "802e0103010015000000100100800700c003008006004002008004008000002f"
) + bytes(range(16))


def test_a_hello_in_the_form_of_ssl_2_is_read(program: Program) -> None:
    message = program.parse(V2_HELLO)
    assert (message.verdict, message.role, message.used) == ("message", ASKS, len(V2_HELLO))
    assert message.fields == [(CLIENT_VERSION, 0x0301)]
    for length in range(len(V2_HELLO)):
        assert program.parse(V2_HELLO[:length]).verdict == "more"
    for at in (2, 3, 6, 8, 10):
        changed = bytearray(V2_HELLO)
        changed[at] ^= 0x41
        assert program.parse(bytes(changed)).verdict == "not"


# -- servers --


def test_a_server_says_what_it_chose(program: Program) -> None:
    old = program.parse(record(server_hello(alpn(b"h2"), version=0x0302, cipher=0xC014)))
    assert old.fields == [(VERSION, 0x0302), (CIPHER, 0xC014), (ALPN, b"h2")]
    extensions = key_share(0x11EC) + extension(43, b"\x03\x04")
    new = program.parse(record(server_hello(extensions, session=ID, cipher=0x1302)))
    assert new.fields == [(VERSION, 0x0304), (CIPHER, 0x1302), (GROUP, 0x11EC)]


def test_drafts_of_tls_1_3_are_read(program: Program) -> None:
    body = b"\x7f\x12" + bytes(32) + b"\x13\x01" + b"\0\0"
    message = program.parse(record(b"\x02\0\0" + bytes([len(body)]) + body))
    assert message.fields == [(VERSION, 0x7F12), (CIPHER, 0x1301)]


def test_a_retry_is_not_yet_the_answer(program: Program) -> None:
    chosen = extension(43, b"\x03\x04")
    retry = record(server_hello(chosen + extension(51, b"\0\x17"), random=RETRY_RANDOM))
    first = program.parse(retry + CCS)
    assert (first.verdict, first.role, first.next, first.used) == (
        "message", SILENT, SAME, len(retry),
    )  # fmt: skip
    assert first.fields == []
    waits = program.parse(CCS)
    assert (waits.verdict, waits.needs) == ("more", len(CCS) + 5)
    then = program.parse(CCS + record(server_hello(chosen + key_share(23), cipher=0x1303)))
    assert (then.role, then.next) == (ANSWERS, NOTHING)
    assert then.fields == [(VERSION, 0x0304), (CIPHER, 0x1303), (GROUP, 23)]


def test_a_session_is_resumed_if_its_id_comes_back(program: Program) -> None:
    asked = program.parse(record(client_hello(session=ID))).record
    zeros = program.parse(record(client_hello(session=bytes(32)))).record
    tls_13 = extension(43, b"\x03\x04")

    def resumed(question: bytes, session: bytes, extensions: bytes = b"") -> object:
        data = record(server_hello(extensions, session=session))
        return program.parse(data, asked=question).get(RESUMED)

    assert resumed(asked, ID) == 1
    assert resumed(b"", ID) is None
    assert resumed(asked, ID[::-1]) is None
    assert resumed(asked, b"") is None
    assert resumed(zeros, bytes(32)) is None
    assert resumed(asked, ID, tls_13) is None  # newer servers send any ID back
    assert resumed(asked, ID, tls_13 + extension(41, b"\0\0")) == 1


def test_a_ticket_without_an_id_is_taken_up_if_no_certificate_follows(program: Program) -> None:
    question = program.parse(record(client_hello(TICKET)))
    assert question.get(SESSION_ID) == b""
    hello = server_hello()
    new_ticket = b"\x04\0\0\x06" + bytes(6)

    def resumed(data: bytes) -> object:
        for length in range(len(record(hello)), len(data)):
            part = program.parse(data[:length], asked=question.record)
            if part.verdict == "message":
                assert part.get(RESUMED) == program.parse(data, asked=question.record).get(RESUMED)
            else:
                assert (part.verdict, part.record) == ("more", b"")
                assert length < part.needs <= len(data)
        return program.parse(data, asked=question.record).get(RESUMED)

    assert resumed(record(hello) + CCS) == 1
    assert resumed(record(hello) + record(new_ticket)) == 1
    assert resumed(record(hello + new_ticket)) == 1
    assert resumed(record(hello) + record(CERTIFICATE)) is None
    assert resumed(record(hello + CERTIFICATE)) is None
    assert resumed(record(hello + b"\0\0\0\0")) is None  # a message of type 0
    waits = program.parse(record(hello), asked=question.record)
    assert (waits.verdict, waits.needs) == ("more", len(record(hello)) + 1)
    ends = program.parse(record(hello), asked=question.record, is_all=True)
    assert (ends.verdict, ends.get(RESUMED)) == ("message", None)
    other = program.parse(record(hello), asked=program.parse(record(client_hello())).record)
    assert other.verdict == "message"


def test_an_alert_in_place_of_the_hello_ends_the_exchange(program: Program) -> None:
    asked = program.parse(record(client_hello(server_name(b"a.example")))).record
    fatal = record(b"\x02\x28", kind=21)
    message = program.parse(fatal, asked=asked)
    assert (message.protocol, message.role, message.next) == (TLS, ANSWERS, NOTHING)
    assert message.fields == [(ALERT, 40)]
    assert program.parse(record(b"\x01\0", kind=21), asked=asked).fields == [(ALERT, 0)]
    assert program.parse(fatal).verdict == "not"  # nobody asked: it may be anything


def test_a_warning_may_come_before_the_hello(program: Program) -> None:
    warning = record(b"\x01\x70", kind=21)
    waits = program.parse(warning, asked=b"\0\0\0\0")
    assert (waits.verdict, waits.needs) == ("more", len(warning) + 5)
    message = program.parse(warning + record(server_hello()), asked=b"\0\0\0\0")
    assert (message.role, message.get(CIPHER)) == (ANSWERS, 0xC02F)
    assert program.parse(warning * 9, asked=b"\0\0\0\0").verdict == "not"


# -- what is not all there --


def test_a_hello_that_is_cut_gives_what_is_certain(program: Program) -> None:
    data = record(client_hello(server_name(b"a.example") + versions(0x0304) + alpn(b"h2")))
    whole = program.parse(data)
    for length in range(len(data)):
        part = program.parse(data[:length], is_all=True)
        if length < 5 + 4 + 2 + 32:
            assert part.verdict == "more"
            continue
        assert (part.verdict, part.role, part.get(CUT)) == ("message", ASKS, 1)
        known = [pair for pair in part.fields if pair[0] != CUT]
        assert [pair for pair in whole.fields if pair in known] == known
    late = program.parse(data[:-8], is_all=True)
    assert (late.get(SERVER_NAME), late.get(CLIENT_VERSION)) == (b"a.example", 0x0304)
    old = program.parse(
        record(client_hello(server_name(b"a.example"), version=0x0301))[:-1], is_all=True
    )
    assert old.fields == [(CLIENT_VERSION, 0x0301), (CUT, 1)]


def test_a_server_that_is_cut_is_of_no_version_that_it_may_not_have_chosen(
    program: Program,
) -> None:
    data = record(server_hello(extension(43, b"\x03\x04"), cipher=0x1301))
    assert program.parse(data[:-1], is_all=True).fields == [(CIPHER, 0x1301), (CUT, 1)]


def test_the_protocol_is_certain_before_the_hello_is_complete(program: Program) -> None:
    data = record(client_hello())
    assert [program.parse(data[:n]).protocol for n in (9, 10, 11, 40)] == [0, 0, TLS, TLS]


# -- what is not TLS --


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-x\r\n",
        bytes.fromhex("170303002000"),  # in the middle of a connection
        bytes.fromhex("1604010020"),
        bytes.fromhex("1603050020"),
        bytes.fromhex("16030100000100"),
        bytes.fromhex("16030140010100"),
        bytes.fromhex("1603010020030000"),
        bytes.fromhex("160301002001020000"),
        bytes.fromhex("16030100200100001c0303"),
        bytes.fromhex("1603010040010000300403"),
        bytes.fromhex("140303000102"),
        bytes.fromhex("1503030002030a"),
        record(client_hello()[:4] + b"\x03\x03" + bytes(32) + b"\x21" + bytes(80)),
        record(client_hello(ciphers=())),
        record(client_hello()[:20]) + CCS,
        record(b"\x01") * 300,
    ],
)
def test_foreign_and_broken_bytes_are_refused(program: Program, data: bytes) -> None:
    assert program.parse(data).verdict == "not"


def test_nothing_is_asked_of_no_bytes(program: Program) -> None:
    assert program.parse(b"").verdict == "more"
