"""``netring-bpf flows --mqtt``: the flows it publishes, and the password it keeps."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.cli.command import HOW, LISTEN, Flows, opening, query, run, send, summary
from tests.support.broker import Broker, MosquittoSub
from tests.support.certificates import Certificates
from tests.support.rig import PORT

if TYPE_CHECKING:
    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns", "bcc")

PASSWORD = "correct-horse-battery"


@pytest.mark.requires("broker")
def test_flows_are_published(namespace: Namespace) -> None:
    namespace.ip("link set lo up")
    with (
        Broker(namespace=namespace) as broker,
        MosquittoSub(broker.port, "netring/+/flows", namespace=namespace) as subscriber,
    ):
        with Flows(namespace, *LISTEN, "--mqtt", broker.url).capturing() as command:
            send(namespace, *(query(1000 + n) for n in range(5)))
            command.printed("started", 1004)
            done = command.finish(signal.SIGINT)
        assert done.status == 0
        messages = subscriber.wait_for(lambda got: len(records_of(got)) >= 5)
    ended = [r for r in done.records if r["event"] == "ended"]
    published = sorted(records_of(messages), key=lambda r: r["seq"])
    assert [r.pop("seq") for r in published] == [1, 2, 3, 4, 5]
    assert len({r.pop("capture") for r in published}) == 1
    assert {r.pop("interface") for r in published} == {PORT}
    assert published == ended
    said = " ".join(" ".join(done.err).split())
    assert f"{broker.url}: 5 flows accepted, 5 acknowledged, 0 dropped, 0 pending, 0 missed" in said


@pytest.mark.requires("broker")
def test_of_the_chosen_events_only_the_usual_kinds_are_published(
    namespace: Namespace,
) -> None:
    namespace.ip("link set lo up")
    with (
        Broker(namespace=namespace) as broker,
        MosquittoSub(broker.port, "netring/+/flows", namespace=namespace) as subscriber,
    ):
        flags = ["--events", "ended,started", "--mqtt", broker.url]
        with Flows(namespace, *LISTEN, *flags).capturing() as command:
            send(namespace, *(query(1000 + n) for n in range(5)))
            command.printed("started", 1004)
            done = command.finish(signal.SIGINT)
        assert done.status == 0
        messages = subscriber.wait_for(lambda got: len(records_of(got)) >= 5)
    assert [record["event"] for record in records_of(messages)] == ["ended"] * 5
    assert [record["event"] for record in done.records] == ["started"] * 5 + ["ended"] * 5


@pytest.mark.requires("broker")
def test_each_message_is_one_line_however_long(namespace: Namespace) -> None:
    namespace.ip("link set lo up")
    expression = " or ".join(f"port {number}" for number in range(50_000, 50_012))
    with (
        Broker(namespace=namespace) as broker,
        Flows(namespace, *LISTEN, "--mqtt", broker.url, expression).capturing() as command,
    ):
        done = command.finish(signal.SIGINT)
    assert done.err == [
        opening(HOW["tpacket_v3"], expression),
        *summary(0, keyed=0, seen=0, passed=0, started=0, ended=0),
        f"{broker.url}: 0 flows accepted, 0 acknowledged, 0 dropped, 0 pending, 0 missed",
    ]


@pytest.mark.requires("broker")
@pytest.mark.parametrize("where", ["file", "environment"])
def test_a_password_is_never_shown(
    namespace: Namespace, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace.ip("link set lo up")
    arguments = []
    if where == "file":
        path = tmp_path / "credentials"
        path.touch(0o600)
        path.write_text(f"probe\n{PASSWORD}\n")
        arguments = ["--mqtt-credentials", str(path)]
    else:
        monkeypatch.setenv("NETRING_MQTT_USERNAME", "probe")
        monkeypatch.setenv("NETRING_MQTT_PASSWORD", PASSWORD)
    with (
        Broker(namespace=namespace, users={"probe": PASSWORD}) as broker,
        MosquittoSub(
            broker.port, "netring/+/flows", namespace=namespace,
            extra=["-u", "probe", "-P", PASSWORD],
        ) as subscriber,
        Flows(namespace, *LISTEN, "--mqtt", broker.url, *arguments).capturing() as command,
    ):  # fmt: skip
        cmdline = Path(f"/proc/{command.process.pid}/cmdline").read_text()
        assert PORT in cmdline.split("\0")
        assert PASSWORD not in cmdline
        send(namespace, query(1001))
        command.printed("started", 1001)
        done = command.finish(signal.SIGTERM)
        subscriber.wait_for(lambda got: len(records_of(got)) == 1)
    assert done.status == 0
    assert PASSWORD not in "\n".join([*done.err, *done.out])


@pytest.mark.requires("broker")
def test_a_refused_password_is_not_repeated(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace.ip("link set lo up")
    monkeypatch.setenv("NETRING_MQTT_USERNAME", "probe")
    monkeypatch.setenv("NETRING_MQTT_PASSWORD", PASSWORD)
    with (
        Broker(namespace=namespace, users={"probe": "another"}) as broker,
        Flows(namespace, *LISTEN, "--mqtt", broker.url).capturing() as command,
    ):
        command.err.wait_for(lambda line: f"{broker.url}: " in line and "authorized" in line)
        send(namespace, query(1001))
        command.printed("started", 1001)
        done = command.finish(signal.SIGTERM)
    assert done.status == 0
    assert PASSWORD not in "\n".join([*done.err, *done.out])
    assert "Traceback (most recent call last):" not in done.err


def test_a_password_in_the_url_is_refused_and_not_repeated(namespace: Namespace) -> None:
    url = f"mqtt://probe:{PASSWORD}@127.0.0.1"
    done = run(namespace, "flows", "-i", PORT, *LISTEN, "--mqtt", url)
    assert done.status == 1
    [line] = done.err
    assert PASSWORD not in line
    assert "NETRING_MQTT_PASSWORD" in line


@pytest.mark.requires("broker")
def test_flags_choose_topic_version_quality_and_name(namespace: Namespace) -> None:
    namespace.ip("link set lo up")
    flags = ["--mqtt-node", "left", "--mqtt-prefix", "lab/net", "--mqtt-version", "3.1.1"]
    flags += ["--mqtt-qos", "0", "--mqtt-client-id", "probe-7"]
    with (
        Broker(namespace=namespace) as broker,
        MosquittoSub(broker.port, "#", namespace=namespace) as subscriber,
    ):
        with Flows(namespace, *LISTEN, "--mqtt", broker.url, *flags).capturing() as command:
            send(namespace, query(1001))
            command.printed("started", 1001)
            done = command.finish(signal.SIGINT)
        messages = subscriber.wait_for(lambda got: got[-1:] != [] and got[-1].text == "offline")
        assert "as probe-7 (p2," in broker.log  # mosquitto's number of 3.1.1
    assert done.status == 0
    assert {(m.topic, m.qos) for m in messages} == {
        ("lab/net/left/availability", 1), ("lab/net/left/flows", 0), ("lab/net/left/info", 0),
        (f"lab/net/left/link/{PORT}", 0), ("lab/net/left/stats", 0), ("lab/net/left/top", 0),
    }  # fmt: skip


@pytest.mark.requires("broker")
def test_flags_name_the_certificates(namespace: Namespace, tmp_path: Path) -> None:
    namespace.ip("link set lo up")
    made = Certificates(tmp_path)
    config = [f"cafile {made.authority}", "require_certificate true"]
    flags = ["--mqtt-cafile", made.authority, "--mqtt-cert", made.client]
    flags += ["--mqtt-key", made.client_key]
    with Broker(
        namespace=namespace, certfile=made.server, keyfile=made.server_key, config=config
    ) as broker:
        command_line = [*LISTEN, "--mqtt", broker.url, *map(str, flags)]
        with Flows(namespace, *command_line).capturing() as command:
            send(namespace, query(1001))
            command.printed("started", 1001)
            done = command.finish(signal.SIGINT)
    said = " ".join(" ".join(done.err).split())
    assert f"{broker.url}: 1 flows accepted, 1 acknowledged, 0 dropped" in said


@pytest.mark.requires("broker")
def test_flows_of_a_command_without_a_broker_are_sent_by_the_next(
    namespace: Namespace, tmp_path: Path
) -> None:
    namespace.ip("link set lo up")
    flags = ["--mqtt-node", "left", "--mqtt-outbox-dir", str(tmp_path / "outbox")]
    with Broker(namespace=namespace) as broker:
        broker.stop()
        with Flows(namespace, *LISTEN, "--mqtt", broker.url, *flags).capturing() as command:
            send(namespace, query(1001))
            command.printed("started", 1001)
            done = command.finish(signal.SIGINT)
        assert "closed with 1 flows not sent; they stay on the disk" in " ".join(done.err)
        broker.start()
        with (
            MosquittoSub(broker.port, "netring/left/flows", namespace=namespace) as subscriber,
            Flows(namespace, *LISTEN, "--mqtt", broker.url, *flags).capturing() as command,
        ):
            messages = subscriber.wait_for(lambda got: len(got) == 1)
            command.finish(signal.SIGINT)
    assert [record["orig_port"] for record in records_of(messages)] == [1001]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--mqtt-node", "a"], "--mqtt-node needs --mqtt and a URL"),
        (["--mqtt-qos", "0"], "--mqtt-qos needs --mqtt and a URL"),
        (["--mqtt", "mqtt://x", "--mqtt-prefix", "$SYS"], "must be the beginning of a topic"),
        (["--mqtt", "mqtt://x", "--mqtt-key", "k"], "must be the key of a certfile"),
        (
            ["--mqtt", "mqtt://x", "--mqtt-version", "4"],
            "argument --mqtt-version: 4: must be 5 or 3.1.1",
        ),
        (["--mqtt-outbox-dir", "d"], "--mqtt-outbox-dir needs --mqtt and a URL"),
        (
            ["--mqtt", "mqtt://x", "--mqtt-outbox-bytes", "2097152"],
            "--mqtt-outbox-bytes needs --mqtt-outbox-dir",
        ),
        (
            ["--mqtt", "mqtt://x", "--mqtt-outbox-dir", "d", "--mqtt-outbox-bytes", "1"],
            "must be from 1 MiB",
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused(
    namespace: Namespace, flags: list[str], said: str
) -> None:
    done = run(namespace, "flows", "-i", PORT, *LISTEN, *flags)
    assert done.status == 2
    assert said in " ".join(" ".join(done.err).split())


def records_of(messages: list[Any]) -> list[dict[str, Any]]:
    return [record for message in messages for record in json.loads(message.text)]
