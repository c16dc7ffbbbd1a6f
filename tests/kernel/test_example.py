"""Examples on an interface, as a user would run them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR

from tests.support.frames import tcp, udp
from tests.support.lab import Namespace, VethPair, xdp_attached
from tests.support.paths import ROOT
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

EXAMPLES = ROOT / "examples"
FLOW = [
    tcp("10.0.0.1", "10.0.0.2", 40000, 443, flags="S", seq=1),
    tcp("10.0.0.2", "10.0.0.1", 443, 40000, flags="SA", seq=1, ack=2),
    tcp("10.0.0.1", "10.0.0.2", 40000, 443, flags="A", seq=2, ack=2),
    tcp("10.0.0.1", "10.0.0.2", 40000, 443, b"x" * 100, flags="PA", seq=2, ack=2),
    tcp("10.0.0.1", "10.0.0.2", 40000, 443, flags="FA", seq=102, ack=2),
    tcp("10.0.0.2", "10.0.0.1", 443, 40000, flags="FA", seq=2, ack=103),
    tcp("10.0.0.1", "10.0.0.2", 40000, 443, flags="A", seq=103, ack=3),
]
NOISE = tcp("10.0.0.1", "10.0.0.2", 40000, 80)


def test_it_prints_the_flow_that_ended_and_no_other() -> None:
    with Namespace() as namespace:
        VethPair(namespace, "va", namespace, "eth1")
        program = namespace.popen(
            [sys.executable, "-u", str(EXAMPLES / "flows.py")], stdout=subprocess.PIPE
        )
        with program:
            assert program.stdout is not None
            assert program.stdout.readline() == "af_xdp native None\n"
            send_frames(namespace, "va", [NOISE, *FLOW])
            assert program.stdout.readline() == (
                "tcp 10.0.0.1:40000 > 10.0.0.2:443 ShADFf "
                f"{sum(len(f) for f in FLOW if f[26:30] == bytes([10, 0, 0, 1]))} 120\n"
            )
            program.terminate()
            assert program.stdout.read() == ""
        assert not xdp_attached(namespace, "eth1")


def test_names_prints_a_question_as_its_answer_comes() -> None:
    name = "www.example.org"
    question = DNSQR(qname=name)
    answer = DNSRR(rrname=name, type="A", ttl=60, rdata="192.0.2.9")
    lookup = [
        udp("10.0.0.1", "10.0.0.2", 4000, 53, bytes(DNS(id=7, qd=question))),
        udp("10.0.0.2", "10.0.0.1", 53, 4000, bytes(DNS(id=7, qr=1, qd=question, an=answer))),
    ]
    with Namespace() as namespace:
        VethPair(namespace, "va", namespace, "eth1")
        command = [sys.executable, "-u", str(EXAMPLES / "names.py"), "eth1"]
        pipe = subprocess.PIPE
        with namespace.popen(command, stdout=pipe, stderr=pipe) as program:
            assert program.stdout is not None
            assert program.stderr is not None
            assert program.stderr.readline() == "reading eth1 by af_xdp\n"
            send_frames(namespace, "va", lookup)
            assert program.stdout.readline() == f"10.0.0.1\tdns\t{name}\t192.0.2.9\n"
            program.terminate()
            assert program.stdout.read() == ""


CLIENT = """
import asyncio, sys
import aiohttp

async def main() -> None:
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect("ws://127.0.0.1:8080/flows") as socket:
            print("connected", flush=True)
            async for message in socket:
                print(message.data, flush=True)
            print("closed", socket.close_code, flush=True)

asyncio.run(main())
"""


def test_websocket_feed_sends_each_client_the_flows_and_says_goodbye() -> None:
    with Namespace() as namespace:
        VethPair(namespace, "va", namespace, "eth1")
        namespace.ip("link set lo up")
        command = [sys.executable, "-u", str(EXAMPLES / "websocket_feed.py"), "eth1"]
        with namespace.popen(command, stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            assert "Running on http://127.0.0.1:8080" in program.stdout.readline()
            url = "http://127.0.0.1:8080/flows"
            upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                       "Origin: http://evil.example"]  # fmt: skip
            headers = [part for header in upgrade for part in ("-H", header)]
            status = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *headers, url]
            assert namespace.run(status).stdout == "403"

            client = [sys.executable, "-c", CLIENT]
            leaves = namespace.popen(client, stdout=subprocess.PIPE)
            stays = namespace.popen(client, stdout=subprocess.PIPE)
            with leaves, stays:
                assert leaves.stdout is not None
                assert stays.stdout is not None
                assert leaves.stdout.readline() == stays.stdout.readline() == "connected\n"
                leaves.kill()
                silent = udp("10.0.0.1", "10.0.0.2", 40000, 53)
                send_frames(namespace, "va", [silent, *FLOW])
                first = stays.stdout.readline()  # the connection, a while after its end
                program.terminate()  # the other flow ends with the capture
                *rest, closed = stays.stdout.read().splitlines()
            messages = [first, *rest]
            assert closed == "closed 1000"
            flows = {flow["resp_port"]: flow for flow in map(json.loads, messages)}
            assert set(flows) == {53, 443}
            assert [flows[port]["reason"] for port in (443, 53)] == ["fin", "shutdown"]
            assert flows[443]["history"] == "ShADFf"
            assert program.wait() == 0
        assert not xdp_attached(namespace, "eth1")
