"""``netring-bpf run`` with a broker: every capture publishes, and brokers come and go."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.kernel.cli.command import query
from tests.kernel.cli.test_cli_run import Service, captures, summary_of
from tests.support.broker import Broker, MosquittoSub
from tests.support.lab import Namespace, VethPair

pytestmark = pytest.mark.requires("root", "netns", "broker")


def test_all_captures_publish_to_a_broker_that_is_added(tmp_path: Path) -> None:
    with Namespace() as net:
        net.ip("link set lo up")
        VethPair(net, "sa", net, "pa")
        VethPair(net, "sb", net, "pb")
        with (
            Broker(namespace=net) as broker,
            MosquittoSub(broker.port, "netring/+/flows", namespace=net) as sub,
            Service(net, tmp_path, captures("pa", "pb")) as service,
        ):
            service.told("READY=1")
            service.send("pa", query(1))
            service.reload(captures("pa", "pb") + f'[mqtt.hub]\nurl = "{broker.url}"\n')
            service.says("captures.pa: mqtt.hub added")
            service.send("pa", query(1), query(2))
            service.send("pb", query(3))
            status, lines = service.finish()
            host = socket.gethostname()

            def flows(port: str) -> list[tuple[int, int]]:
                return sorted(
                    (record["orig_port"], record["orig_packets"])
                    for message in sub.received
                    if message.topic == f"netring/{host}_{port}/flows"
                    for record in json.loads(message.text)
                    if record["event"] == "ended"
                )

            sub.wait_for(lambda _: len(flows("pa")) == 2 and len(flows("pb")) == 1)
            # The flow that began before the broker was there is whole.
            assert flows("pa") == [(1, 2), (2, 1)]
            assert flows("pb") == [(3, 1)]
    assert status == 0
    assert any(line.startswith(f"{broker.url}: 2 flows accepted, 2 ack") for line in lines)
    assert summary_of(lines, "captures.pa")[-1].startswith("2 flows started")
