"""The banners of SSH, and CONNECT of MQTT with its answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.native.app.sides_program import Exchange, Piece, Sides, Value, build

CLIENT, SERVER = b"SSH-2.0-OpenSSH_9.7", b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u5"


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    program = Sides(build())
    yield program
    program.close()


def pieces(by: str, data: bytes, size: int) -> list[Piece]:
    return [Piece(by, data[at : at + size]) for at in range(0, len(data), size)]


# -- SSH --


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("order", ["OR", "RO"])
def test_two_banners_are_one_exchange(sides: Sides, size: int, end: bytes, order: str) -> None:
    banners = {"O": CLIENT, "R": SERVER}
    names = {"O": "client", "R": "server"}
    said = sides.flow(
        [piece for by in order for piece in pieces(by, banners[by] + end + b"\0\0\1\2", size)]
    )
    one, other = order[0], order[1]
    assert said == [
        Exchange(
            "ssh",
            {"version": 0x200, names[one]: banners[one]},
            {"version": 0x200, names[other]: banners[other]},
        )
    ]


@pytest.mark.parametrize(
    ("client", "server", "common"),
    [
        (b"2.0", b"1.99", 0x200),
        (b"1.99", b"1.99", 0x200),
        (b"1.5", b"1.99", 0x105),
        (b"1.99", b"1.5", 0x105),
    ],
)
def test_the_answer_tells_the_common_version(
    sides: Sides, client: bytes, server: bytes, common: int
) -> None:
    [said] = sides.flow([Piece("O", b"SSH-%s-a\n" % client), Piece("R", b"SSH-%s-b\n" % server)])
    assert isinstance(said, Exchange)
    assert said.answered
    assert said.answered["version"] == common


def test_a_banner_alone_is_told(sides: Sides) -> None:
    said = sides.flow([Piece("R", b"SSH-1.99-x y\n")])
    assert said == [Exchange("ssh", {"version": 0x163, "server": b"SSH-1.99-x y"})]


@pytest.mark.parametrize("size", [1, 5, 100, 5000])
def test_a_server_may_send_lines_before_its_banner(sides: Sides, size: int) -> None:
    before = b"Hi stranger\n" + b"line \xc3\xbc\r\n\n" * 200
    answer = pieces("R", before + SERVER + b"\r\n", size)
    for said in (
        sides.flow([Piece("O", CLIENT + b"\r\n"), *answer]),
        sides.flow(answer, ports=(40000, 22)),
    ):
        [exchange] = said
        assert isinstance(exchange, Exchange)
        assert (exchange.answered or exchange.asked)["server"] == SERVER
    assert sides.flow(answer) == []


@pytest.mark.parametrize(
    "banner",
    [
        b"SSH-2.0",
        b"SSH-3.0-x",
        b"SSH-2.x-y",
        b"SSH-2.0-\0",
        b"SSHD-2.0-x",
        b"SSH-2.0-" + b"x" * 600,
    ],
)
def test_other_banners_are_not_ssh(sides: Sides, banner: bytes) -> None:
    assert sides.flow([Piece("O", banner + b"\r\n")]) == []


def test_a_long_banner_is_shortened_and_marked(sides: Sides) -> None:
    banner = b"SSH-2.0-" + b"x" * 300
    said = sides.flow([Piece("O", banner + b"\r\n")])
    assert said == [Exchange("ssh", {"version": 0x200, "client": banner[:256], "cut": 1})]


# -- MQTT --


def connect_of_paho(client: paho.Client, **named: object) -> bytes:
    """What the client sends first to a server that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client.connect("127.0.0.1", server.getsockname()[1], **named)  # type: ignore[arg-type]
        peer, _ = server.accept()
        with peer:
            data = peer.recv(65536)
        client.disconnect()
        client.loop_misc()
        if sock := client.socket():
            sock.close()
    return data


LEVELS = {paho.MQTTv31: 3, paho.MQTTv311: 4, paho.MQTTv5: 5}
# To 3.1 and 3.1.1; to 5: without properties, and with an identifier that the server assigned.
ACKS = {3: b"\x20\x02\x00\x00", 4: b"\x20\x02\x01\x00"}
ACK_5 = b"\x20\x12\x00\x00\x0f\x21\x00\x14\x26\x00\x01a\x00\x01b\x12\x00\x02me"


@pytest.mark.parametrize("protocol", LEVELS)
@pytest.mark.parametrize("client_id", ["sensor-7", "x" * 200])
def test_a_connect_of_paho_is_read(
    sides: Sides, protocol: MQTTProtocolVersion, client_id: str
) -> None:
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=protocol,
    )
    client.username_pw_set("user", "secret")
    named: dict[str, object] = {}
    if protocol == paho.MQTTv5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 60
        named = {"properties": properties}
        client.will_set("gone", b"yes", properties=Properties(PacketTypes.WILLMESSAGE))  # type: ignore[no-untyped-call]
    else:
        client.will_set("gone", b"yes", qos=1, retain=True)
    data = connect_of_paho(client, **named)
    fields: dict[str, Value] = {"version": LEVELS[protocol], "id": client_id.encode()}
    for size in (1, 9, 1000):
        said = sides.flow(pieces("O", data, size) + pieces("R", b"\x20\x03\0\0\0", size))
        answer = {"status": 0} if protocol == paho.MQTTv5 else None
        assert said == [Exchange("mqtt", fields, answer)]  # type: ignore[arg-type]


CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04city"
CONNECT_5 = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00"


def test_an_answer_tells_whether_the_server_agrees(sides: Sides) -> None:
    [said] = sides.flow([Piece("O", CONNECT), Piece("R", b"\x20\x02\x00\x05")])
    assert said == Exchange("mqtt", {"version": 4, "id": b"city"}, {"status": 5})


@pytest.mark.parametrize("size", [1, 4, 100])
def test_an_answer_of_5_tells_the_assigned_identifier(sides: Sides, size: int) -> None:
    said = sides.flow([Piece("O", CONNECT_5), *pieces("R", ACK_5, size)])
    assert said == [Exchange("mqtt", {"version": 5}, {"status": 0, "id": b"me"})]


@pytest.mark.parametrize(
    "data",
    [
        CONNECT.replace(b"MQTT", b"MQTX"),
        CONNECT.replace(b"MQTT\x04", b"MQTT\x03"),  # 3.1 has the other name
        CONNECT.replace(b"\x04\x02\x00", b"\x04\x03\x00"),  # the reserved flag
        CONNECT.replace(b"\x04\x02\x00", b"\x04\x0a\x00"),  # a will's quality without a will
        CONNECT.replace(b"\x00\x04city", b"\x00\x05city"),  # longer than the packet
        b"\x10\xff\xff\xff\xff\x01" + CONNECT[2:],
        b"\x20\x02\x00\x00",
        CONNECT[:-1],
    ],
)
def test_other_bytes_are_not_mqtt(sides: Sides, data: bytes) -> None:
    assert sides.flow([Piece("O", data)]) == []


@given(st.binary(max_size=60))
def test_random_properties_are_passed_over(sides: Sides, properties: bytes) -> None:
    ack = bytes((0x20, 3 + len(properties), 0, 0, len(properties))) + properties
    [said] = sides.flow([Piece("O", CONNECT_5), Piece("R", ack)])
    assert isinstance(said, Exchange)
    assert said.answered
    assert said.answered["status"] == 0
