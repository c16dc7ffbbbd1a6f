"""The example that checks flows by their schema, with a real broker."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator

import pytest
from paho.mqtt import publish

from netring_bpf import FlowBroadcast, MqttOptions, MqttSink
from tests.broker.publishing import FAST, FLOWS, connected, publish_through, settled
from tests.support.broker import Broker
from tests.support.events import ended, started
from tests.support.examples import command
from tests.support.patience import PATIENCE
from tests.support.process import spawn

pytestmark = pytest.mark.requires("broker")


@contextlib.contextmanager
def ending(program: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block."""
    with program:
        try:
            yield program
        finally:
            program.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_what_fits_and_tells_what_does_not(number: int) -> None:
    pipe = subprocess.PIPE
    with Broker() as broker:
        argv = command("mqtt_checked.py", f"127.0.0.1:{broker.port}", "+")
        with ending(spawn(argv, stdout=pipe, stderr=pipe)) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "listening\n"
            sink = MqttSink(broker.url, MqttOptions(**FAST))

            async def script(broadcast: FlowBroadcast) -> None:
                await connected(sink)
                broadcast.publish([started(1), ended(2)])
                await settled(sink, 1)

            publish_through(sink, script)
            where, flow = program.stdout.readline().rstrip("\n").split("\t", 1)
            assert where == FLOWS
            made = ended(2).flow
            ends = f"{made.key.orig.text} > {made.key.resp.text}"
            assert flow == f"{ends}\t{made.bytes} bytes"
            for payload, fault in (
                (b"", "no JSON: Expecting value: line 1 column 1 (char 0)"),
                (b"\xff", "no JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid "
                 "start byte"),
                (b"[" * 100_000, "no JSON: maximum recursion depth exceeded while decoding a JSON "
                 "array from a unicode string"),
                (b"{}", "at $: type is not met"),
                (b"[]", "at $: minItems is not met"),
                (b'[{"event": "\\u001b[31m"}]', "at $[0].event: enum is not met"),
            ):  # fmt: skip
                publish.single("netring/other/flows", payload, port=broker.port, qos=1)
                assert program.stdout.readline() == f"netring/other/flows: {fault}\n"
            program.send_signal(number)
            assert program.wait(PATIENCE) == 0
            assert program.stderr is not None
            assert program.stderr.read() == ""
