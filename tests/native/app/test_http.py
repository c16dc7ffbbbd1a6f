"""HTTP of version 1: real clients' and servers' bytes, hostile heads, and any pieces of them."""

from __future__ import annotations

import http.client
import http.server
import io
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native.app.sides_program import Exchange, Over, Piece, Sides, Value, build

V1_1, V1_0, V0_9 = 0x101, 0x100, 9


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    program = Sides(build())
    yield program
    program.close()


def asked(sides: Sides, data: bytes) -> list[object]:
    return sides.flow([Piece("O", data)])


def answered(sides: Sides, data: bytes, method: bytes = b"GET") -> list[object]:
    """The answers to as many requests as there are, of one method."""
    return sides.flow([Piece("O", (method + b" / HTTP/1.1\r\n\r\n") * 3), Piece("R", data)])


def statuses(said: list[object]) -> list[object]:
    return [
        exchange.answered and exchange.answered["status"]
        for exchange in said
        if isinstance(exchange, Exchange)
    ]


# -- requests --


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (b"GET /a?b=1 HTTP/1.1", {"version": V1_1, "method": b"GET", "path": b"/a?b=1"}),
        (b"QUERY /users HTTP/1.0", {"version": V1_0, "method": b"QUERY", "path": b"/users"}),
        (b"x!#-1 * HTTP/1.1", {"version": V1_1, "method": b"x!#-1", "path": b"*"}),
        (b"GET / HTTP/1.", {"method": b"GET", "path": b"/"}),
        (b"OPTIONS HTTP/1.1", {"version": V1_1, "method": b"OPTIONS"}),
        (b"GET /a b  c HTTP/1.1", {"version": V1_1, "method": b"GET", "path": b"/a b  c"}),
        (b"GET /HTTP/1.1", {"method": b"GET", "path": b"/HTTP/1.1"}),
        (b"GET /\xc3\xbc HTTP/1.1", {"version": V1_1, "method": b"GET", "path": b"/\xc3\xbc"}),
        (
            b"GET http://u:p@h.example:81/a@b HTTP/1.1",
            {
                "version": V1_1,
                "method": b"GET",
                "host": b"h.example:81",
                "path": b"http://u:p@h.example:81/a@b",
            },
        ),
        (
            b"CONNECT h.example:443 HTTP/1.1",
            {
                "version": V1_1,
                "method": b"CONNECT",
                "host": b"h.example:443",
                "path": b"h.example:443",
            },
        ),
    ],
)
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_request_line_gives_its_parts(
    sides: Sides, line: bytes, fields: dict[str, Value], end: bytes
) -> None:
    assert asked(sides, line + end + end) == [Exchange("http", fields)]


@pytest.mark.parametrize(
    "line",
    [
        b"GET/ HTTP/1.1",
        b"OPTIONS sip:a@b SIP/2.0",
        b"DESCRIBE rtsp://a/b RTSP/1.0",
        b"USER anonymous",
        b"\xc3\x83 / HTTP/1.1",
        b"GET /\0 HTTP/1.1",
        b"HTTP/2 200",
        b"HTTP/1.1 20x OK",
        b"HTTP/1.12 200 OK",
        b"x" * 40 + b" / HTTP/1.1",
    ],
)
def test_other_lines_are_not_http(sides: Sides, line: bytes) -> None:
    assert asked(sides, line + b"\r\n\r\n") == []


def test_a_request_without_a_version_is_one_of_0_9(sides: Sides) -> None:
    fields: dict[str, Value] = {"version": V0_9, "method": b"GET", "path": b"/a"}
    assert asked(sides, b"GET /a\r\n\r\nGET /b\r\n") == [Exchange("http", fields)]


def test_headers_may_be_folded_and_in_any_case(sides: Sides) -> None:
    said = asked(
        sides,
        b"GET / HTTP/1.1\r\nhOST:\ta.example \r\nno colon\r\nHost: second\r\n"
        b"USER-AGENT: one\r\n\t two  \r\n three\r\nContent-Type: of a request\r\n\r\n",
    )
    fields: dict[str, Value] = {
        "version": V1_1,
        "method": b"GET",
        "host": b"a.example",
        "path": b"/",
    }
    assert said == [Exchange("http", {**fields, "agent": b"one two three"})]


def test_a_long_path_is_shortened_and_marked(sides: Sides) -> None:
    path = b"/" + b"p" * 400
    fields: dict[str, Value] = {"version": V1_1, "method": b"GET", "path": path[:256], "cut": 1}
    assert asked(sides, b"GET " + path + b" HTTP/1.1\r\n\r\n") == [Exchange("http", fields)]


def test_a_head_beyond_the_limit_gives_what_is_there(sides: Sides) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a.example\r\n" + b"X: y\r\n" * 4000
    fields: dict[str, Value] = {
        "version": V1_1,
        "method": b"GET",
        "host": b"a.example",
        "path": b"/",
        "cut": 1,
    }
    assert asked(sides, head) == [Exchange("http", fields)]
    line = b"GET /" + b"p" * 20000
    fields = {"method": b"GET", "path": line[4:260], "cut": 1}
    assert asked(sides, line) == [Exchange("http", fields)]


@pytest.mark.parametrize("version", [b"", b" ", b" H", b" HTTP", b" HTTP/1", b" HTTP/1."])
def test_the_beginning_of_a_version_is_no_part_of_a_path(sides: Sides, version: bytes) -> None:
    fields: dict[str, Value] = {"method": b"GET", "path": b"/a b", "cut": 1}
    assert asked(sides, b"GET /a b" + version) == [Exchange("http", fields)]


@pytest.mark.parametrize("path", [b"/HTT", b"/a h", b"/a HTTP/2"])
def test_other_ends_of_a_path_stay(sides: Sides, path: bytes) -> None:
    fields: dict[str, Value] = {"method": b"GET", "path": path, "cut": 1}
    assert asked(sides, b"GET " + path) == [Exchange("http", fields)]


@pytest.mark.parametrize(
    ("headers", "count"),
    [
        (b"Content-Length: 36", 1),  # the second request is the body
        (b"Content-Length: 0000000036", 1),
        (b"Content-Length: 18446744073709551615", 2),
        (b"Content-Length: -1", 2),
        (b"Content-Length: 1 1", 2),
        (b"X: y", 2),
        (b"Transfer-Encoding: gzip", 1),
    ],
)
def test_a_body_is_skipped_by_its_length(sides: Sides, headers: bytes, count: int) -> None:
    second = b"GET /second HTTP/1.1\r\nHost: second\r\n\r\n"[:36]
    data = b"POST / HTTP/1.1\r\n" + headers + b"\r\n\r\n" + second + b"\r\n\r\n"
    assert len(asked(sides, data)) == count


def test_a_folded_coding_is_seen(sides: Sides) -> None:
    said = asked(
        sides,
        b"POST /one HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"
        b"GET /two HTTP/1.1\r\n\r\n",
    )
    assert [exchange.asked["path"] for exchange in said] == [b"/one", b"/two"]  # type: ignore[attr-defined]


# -- answers --


def test_an_answer_gives_its_parts(sides: Sides) -> None:
    data = b"HTTP/1.0 404 Not  Found\r\nContent-Type: text/html; a=b\r\nContent-Length: 0\r\n\r\n"
    [first, *_] = answered(sides, data)
    assert first == Exchange(
        "http",
        {"version": V1_1, "method": b"GET", "path": b"/"},
        {"version": V1_0, "status": 404, "reason": b"Not  Found", "type": b"text/html; a=b"},
    )


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" * 2, [200, 200, None]),
        (b"GET", b"HTTP/1.1 304\r\nContent-Length: 9\r\n\r\n" * 2, [304, 304, None]),
        (b"GET", b"HTTP/1.1 204 \r\n\r\nHTTP/1.1 200 OK\r\n\r\n", [204, 200, None]),
        (b"GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 OK\r\n\r\n", [201, None, None]),
        (b"GET", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", [200, None, None]),
        (b"GET", b"HTTP/1.1 200\nContent-Length: 2\n\nab\r\n\nHTTP/1.1 500\n\n", [200, 500, None]),
        (b"GET", b"not HTTP", [None, None, None]),
    ],
)
def test_answers_end_as_their_questions_say(
    sides: Sides, method: bytes, data: bytes, expected: list[object]
) -> None:
    assert statuses(answered(sides, data, method)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"0005;a=b\r\nhello\r\nA\r\n0123456789\r\n00\r\nTrailer: x\r\n y\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"F \r\nHTTP/1.1 999\r\n\r\r\n0\r\n\r\n",
    ],
)
def test_chunks_are_skipped(sides: Sides, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n"
    said = answered(sides, head + body + b"HTTP/1.1 201 OK\r\n\r\n")
    assert statuses(said) == [200, 201, None]


@pytest.mark.parametrize("size", [b"", b"-1", b"g", b"1" * 16, b"0x5"])
def test_a_bad_chunk_ends_the_side(sides: Sides, size: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = answered(sides, head + size + b"\r\nhello\r\n0\r\n\r\nHTTP/1.1 201 OK\r\n\r\n")
    assert statuses(said) == [200, None, None]


def test_an_answer_without_a_question_is_an_exchange(sides: Sides) -> None:
    said = sides.flow([Piece("R", b"HTTP/1.1 200 OK\r\n\r\n")])
    assert said == [Exchange("http", {}, {"version": V1_1, "status": 200, "reason": b"OK"})]


def test_requests_count_after_an_answer_without_end(sides: Sides) -> None:
    ask = Piece("O", b"GET / HTTP/1.1\r\n\r\n")
    said = sides.flow([ask, Piece("R", b"HTTP/1.1 200 OK\r\n\r\nbody"), ask, Piece("R", b"more")])
    assert statuses(said) == [200, None]


# -- what follows HTTP --


def test_connect_hands_over(sides: Sides) -> None:
    said = sides.flow(
        [
            Piece("O", b"CONNECT mx.example:25 HTTP/1.0\r\n\r\n"),
            Piece("R", b"HTTP/1.0 200 Connection established\r\n\r\n220 mx ESMTP\r\n"),
            Piece("O", b"EHLO a\r\n"),
        ]
    )
    assert said[1:] == [Over("http"), Exchange("smtp", {}, carrier="http")]


def test_a_refused_connect_does_not_hand_over(sides: Sides) -> None:
    said = answered(sides, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", b"CONNECT")
    assert Over("http") not in said


def test_an_upgrade_hands_over(sides: Sides) -> None:
    said = sides.flow(
        [
            Piece("O", b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n"),
            Piece("R", b"HTTP/1.1 101 Switching Protocols\r\n\r\n\0\0\0\4\0\0\0\0\0"),
            Piece("O", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
        ]
    )
    assert said[1:] == [Over("http"), Exchange("http2", {}, carrier="http")]


def test_the_preface_of_version_2_is_a_label(sides: Sides) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert asked(sides, preface + b"GET / HTTP/1.1\r\n\r\n") == [Exchange("http2", {})]
    assert asked(sides, preface[:-1] + b"x\r\n") == []


# -- real ends, in pieces --


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def do_GET(self) -> None:
        size = int(self.path.rpartition("/")[2])
        self.send_response(200 + size % 2)
        self.send_header("Content-Type", "text/plain")
        if size % 3:
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(b"b" * size)
        else:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            body = b"%x\r\n%s\r\n" % (size, b"c" * size) if size else b""
            self.wfile.write(body + b"0\r\n\r\n")

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Tap:
    """A socket that keeps what each end sends."""

    def __init__(self, sock: socket.socket, by: str, pieces: list[Piece]) -> None:
        self._sock, self._by, self._pieces = sock, by, pieces

    def sendall(self, data: bytes) -> None:
        self._pieces.append(Piece(self._by, bytes(data)))
        self._sock.sendall(data)

    def makefile(self, *arguments: object, **named: object) -> object:
        return self._sock.makefile(*arguments, **named)  # type: ignore[call-overload]

    def settimeout(self, timeout: float | None) -> None:
        self._sock.settimeout(timeout)

    def close(self) -> None:
        self._sock.close()


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["GET", "HEAD", "POST", "POST chunked"]),
        st.integers(0, 3000),
        st.integers(0, 2000),
    ),
    min_size=1,
    max_size=5,
)


def converse(requests: list[tuple[str, int, int]]) -> list[Piece]:
    """What http.client and http.server say to each other."""
    one, other = socket.socketpair()
    pieces: list[Piece] = []

    def serve() -> None:
        _Handler(_Tap(other, "R", pieces), ("", 0), None)  # type: ignore[arg-type]

    with one, other:
        server = threading.Thread(target=serve)
        server.start()
        client = http.client.HTTPConnection("h.example")
        client.sock = _Tap(one, "O", pieces)
        for method, size, body in requests:
            data: object = b"d" * body
            if method == "POST chunked":
                data = iter([b"d" * body, b"e"])
            verb = method.split()[0]
            client.request(
                verb,
                f"/{size}",
                body=data if verb == "POST" else None,  # type: ignore[arg-type]
                headers={"User-Agent": "ours"},
                encode_chunked=True,
            )
            client.getresponse().read()
        one.shutdown(socket.SHUT_WR)
        server.join()
    return pieces


def expected(requests: list[tuple[str, int, int]]) -> list[Exchange]:
    said = []
    for method, size, _ in requests:
        question: dict[str, Value] = {
            "version": V1_1, "method": method.split()[0].encode(), "host": b"h.example",
            "path": b"/%d" % size, "agent": b"ours",
        }  # fmt: skip
        status = 200 if method == "HEAD" else 200 + size % 2
        answer: dict[str, Value] = {"version": V1_1, "status": status}
        answer["reason"] = b"Created" if status == 201 else b"OK"
        if method != "HEAD":
            answer["type"] = b"text/plain"
        said.append(Exchange("http", question, answer))
    return said


def cut(pieces: list[Piece], sizes: Iterator[int]) -> Iterator[Piece]:
    for by, data in pieces:
        assert data is not None
        stream = io.BytesIO(data)
        while part := stream.read(next(sizes)):
            yield Piece(by, part)


@given(REQUESTS, st.lists(st.integers(1, 700), min_size=1))
def test_what_a_client_and_a_server_said_is_read_in_any_pieces(
    sides: Sides, requests: list[tuple[str, int, int]], sizes: list[int]
) -> None:
    pieces = converse(requests)
    endless = (size for _ in iter(int, 1) for size in sizes)
    assert sides.flow(cut(pieces, endless)) == expected(requests)


@given(REQUESTS, st.integers(1, 5000))
def test_pipelined_requests_are_read_one_by_one(
    sides: Sides, requests: list[tuple[str, int, int]], size: int
) -> None:
    pieces = converse(requests)
    whole = [
        Piece(by, b"".join(piece.data or b"" for piece in pieces if piece.by == by)) for by in "OR"
    ]
    endless = (size for _ in iter(int, 1))
    assert sides.flow(cut(whole, endless)) == expected(requests)
