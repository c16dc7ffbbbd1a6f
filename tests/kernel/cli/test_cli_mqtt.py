"""``flows --home-assistant`` and ``mqtt forget``, as a user types them."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.kernel.cli.command import LISTEN, Flows, query, run, send
from tests.support.broker import Broker, Message, MosquittoSub
from tests.support.home_assistant import check_discovery
from tests.support.schemas import checked, payloads

if TYPE_CHECKING:
    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns", "bcc")

CONFIG = "homeassistant/device/netring_box/config"


def with_sums(messages: list[Message]) -> bool:
    told = payloads(messages, "netring/box/stats")
    return bool(told) and told[-1]["since_start"]["total"]["packets"] == 5


@pytest.mark.requires("broker")
def test_home_assistant_finds_the_capture_until_it_is_forgotten(namespace: Namespace) -> None:
    namespace.ip("link set lo up")
    with (
        Broker(namespace=namespace) as broker,
        MosquittoSub(broker.port, namespace=namespace) as sub,
    ):
        node = ["--mqtt", broker.url, "--mqtt-node", "box"]
        flags = ["--home-assistant", "--home-assistant-devices", "3", "--stats-interval", "0.5"]
        with Flows(namespace, *LISTEN, *node, *flags).capturing() as command:
            send(namespace, *(query(1000 + n) for n in range(5)))
            command.printed("started", 1004)
            sub.wait_for(with_sums)
            # A capture that runs keeps what it has.
            refused = run(namespace, "mqtt", "forget", *node)
            assert refused.status == 1
            assert "its capture is online" in " ".join(refused.err)
            done = command.finish(signal.SIGINT)
        assert done.status == 0
        # What is made for the sink alone is not printed.
        assert {r["event"] for r in done.records} <= {"started", "established", "updated", "ended"}
        messages = sub.wait_for(lambda m: m[-1].text == "offline")
        assert {"stats", "top", "info", "link", "devices", "events", "flows"} < checked(messages)
        [*_, config] = [json.loads(m.text) for m in messages if m.topic == CONFIG]
        entities = check_discovery(config)
        assert "devices" in entities
        assert [key for key in entities if key.startswith("device_")]
        assert payloads(messages, "netring/box/info")[0]["options"]["stats.interval"] == "0.5"

        forgotten = run(namespace, "mqtt", "forget", *node)
        assert forgotten.status == 0
        assert f"removed {CONFIG}" in " ".join(forgotten.err)
        with MosquittoSub(broker.port, namespace=namespace) as late:
            namespace.run(
                ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", "end", "-m", "x"]
            )
            assert [m.topic for m in late.wait_for(bool)] == ["end"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--home-assistant"], "--home-assistant needs --mqtt"),
        (["--mqtt", "mqtt://h", "--home-assistant-devices", "2"], "needs --home-assistant"),
        (["--mqtt", "mqtt://h", "--home-assistant-prefix", "x"], "needs --home-assistant"),
        (["--mqtt", "mqtt://h", "--home-assistant", "--home-assistant-prefix", "a/#"], "prefix="),
        (["--mqtt", "mqtt://h", "--stats-interval", "0"],
         "argument --stats-interval: 0: must be 0.1 to 86400 seconds"),
    ],
)  # fmt: skip
def test_flags_that_do_not_go_together_are_wrong_usage(
    namespace: Namespace, flags: list[str], words: str
) -> None:
    done = run(namespace, "flows", "-i", "nothing0", *flags)
    assert done.status == 2
    assert words in " ".join(" ".join(done.err).split())


def test_a_node_must_be_named_to_be_forgotten(namespace: Namespace) -> None:
    done = run(namespace, "mqtt", "forget", "--mqtt", "mqtt://127.0.0.1")
    assert done.status == 2
    assert "--mqtt-node" in " ".join(done.err)
