"""The main job of netring_bpf, on real traffic, in a network of its own.

A client and a server talk over a switch, whose mirror port feeds a capture port. There
netring_bpf captures the packets that match a filter, prints the flow events, and publishes the
flows to a mosquitto of its own over MQTT. A separate mosquitto_sub receives them. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from actors import FILTER
from network import CAPTURE_PORT, Network
from summary import Events, Flows, Frames, Mqtt, Subscriber, Summary, offences

from netring_bpf import FlowEnded, FlowSubscriber, MqttOptions, MqttSink, Netring, NetringError
from netring_bpf.capture.backend import BACKENDS
from netring_bpf.cli.table import layout_of, row
from tests.support.broker import Broker, Message, MosquittoSub

_ACTORS = str(Path(__file__).with_name("actors.py"))
_RESERVE = 4.0  # seconds for opening, late ends and closing
_LATE_PACKETS = 1.5  # seconds for the last packets of the connections


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print only the summary, as JSON")
    parser.add_argument(
        "--seconds",
        type=float,
        default=8.0,
        metavar="N",
        help="take at most N seconds [default: %(default)s]",
    )
    parser.add_argument(
        "--backend", choices=BACKENDS, default="auto", help="capture with this backend"
    )
    return parser.parse_args()


async def _print(events: FlowSubscriber, stream: TextIO) -> collections.Counter[str]:
    ended: collections.Counter[str] = collections.Counter()
    print(layout_of(None).header(), file=stream)
    async for event in events:
        print(row(event)[0], file=stream, flush=True)
        if isinstance(event, FlowEnded):
            ended[event.flow.key.proto_name] += 1
    return ended


async def _count(events: FlowSubscriber) -> int:
    count = 0
    async for _ in events:
        count += 1
    return count


async def _talk(network: Network, seconds: float) -> dict[str, int]:
    """Run the client to its end, with the mirror port connected, and return its flows."""
    server = network.server.popen(
        [sys.executable, _ACTORS, "server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with server:
        assert server.stdout is not None
        try:
            if await asyncio.to_thread(server.stdout.readline) != "ready\n":
                raise RuntimeError("the demo's server did not start")
            network.mirror(on=True)
            client = network.client.popen(
                [sys.executable, _ACTORS, "client", str(seconds)], stdout=subprocess.PIPE
            )
            with client:
                try:
                    out, _ = await asyncio.to_thread(client.communicate)
                finally:
                    client.kill()
            if client.returncode != 0:
                raise RuntimeError("the demo's client failed")
        finally:
            server.kill()
    flows: dict[str, int] = json.loads(out)
    return flows


async def _run(arguments: argparse.Namespace) -> tuple[Summary, list[str]]:
    stream = sys.stderr if arguments.json else sys.stdout
    with Network() as network, Broker() as broker:
        with MosquittoSub(broker.port, "netring/demo/flows") as received:
            sink = MqttSink(broker.url, MqttOptions(node="demo"))
            ring = Netring(
                CAPTURE_PORT,
                filter=FILTER,
                backend=arguments.backend,
                sinks=[sink],
                netns=network.switch.path,
                stats=False,  # their number would be that of the seconds
            )
            subscribers = [ring.subscribe(name="printer"), ring.subscribe(name="counter")]
            async with ring:
                before = network.mirrored()
                printer = asyncio.create_task(_print(subscribers[0], stream))
                counter = asyncio.create_task(_count(subscribers[1]))
                expected = await _talk(network, arguments.seconds - _RESERVE)
                await asyncio.sleep(_LATE_PACKETS)
                network.mirror(on=False)
                offered = network.mirrored() - before
            ended = await printer
            await counter
            statistics = ring.statistics()
            acknowledged = sink.statistics().acknowledged
            with contextlib.suppress(TimeoutError):  # the summary shows a missing flow
                await asyncio.to_thread(
                    received.wait_for, lambda messages: _flows(messages) >= acknowledged, 5.0
                )
            got = _flows(received.received)
    subscribed = [subscriber.statistics() for subscriber in subscribers]
    off = offences(
        statistics,
        subscribed,
        offered=offered,
        expected=expected,
        ended=dict(ended),
        received=got,
    )
    return _summary(ring, offered, got, bool(off), subscribers), off


def _flows(messages: list[Message]) -> int:
    """Count distinct flow records; QoS 1 may deliver one twice."""
    return len({record["seq"] for message in messages for record in json.loads(message.text)})


def _summary(
    ring: Netring, offered: int, received: int, off: bool, subscribers: list[FlowSubscriber]
) -> Summary:
    statistics = ring.statistics()
    capture, sink = statistics.capture, statistics.sinks[0]
    return Summary(
        backend=ring.backend,
        attach=capture.attach,
        fallback_reason=ring.fallback_reason,
        frames=Frames(
            offered=offered,
            # With TPACKET_V3, which only listens, every frame reaches the host.
            passed=capture.passed if capture.queues else offered,
            redirected=capture.redirected,
            received=capture.received,
            keyed=capture.keyed,
        ),
        flows=Flows(capture.flows.started, sum(capture.flows.ended.values())),
        events=Events(statistics.broadcast.published),
        subscribers=[
            Subscriber(s.name, s.delivered, s.lagged)
            for s in (subscriber.statistics() for subscriber in subscribers)
        ],
        mqtt=Mqtt(sink.accepted, sink.acknowledged, sum(sink.dropped.values()), received),
        books="off" if off else "balanced",
        setup_seconds=int(os.environ.get("NETRING_SETUP_MICROSECONDS", "0")) / 1e6,
    )


async def _main(arguments: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    stopped: list[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        async with asyncio.timeout(arguments.seconds + 30):
            summary, off = await _run(arguments)
    except asyncio.CancelledError:
        print("demo: stopped by a signal; everything is taken down", file=sys.stderr)
        return 128 + stopped[0] if stopped else 1
    except TimeoutError:
        print("demo: stopped, because it ran far longer than --seconds", file=sys.stderr)
        return 1
    except (NetringError, RuntimeError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    for line in off:
        print(f"does not hold: {line}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(summary.to_dict()))
    else:
        print("\n".join(["", *summary.lines()]))
    return 1 if off else 0


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("demo: run it as root: it makes its own network namespaces")
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(_main(_arguments())))
