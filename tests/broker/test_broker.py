"""The broker and the subscriber the sink's tests rely on."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.broker import Broker, BrokerError, MosquittoSub
from tests.support.lab import Namespace
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.requires("broker")


def publish(port: int, topic: str, payload: str, *extra: str) -> None:
    argv = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-q", "1"]
    subprocess.run([*argv, "-t", topic, "-m", payload, *extra], check=True)


def test_messages_arrive_as_they_were() -> None:
    with Broker() as broker, MosquittoSub(broker.port, "netring/#") as sub:
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
        publish(broker.port, "netring/a b/c", "line 1\nline 2 é")
        publish(broker.port, "elsewhere", "not ours")
        publish(broker.port, "netring/empty", "")
        sub.wait_for(lambda received: len(received) == 2)
        assert sub.messages == [("netring/a b/c", "line 1\nline 2 é"), ("netring/empty", "")]
        assert [message.qos for message in sub.received] == [1, 1]


def test_a_retained_message_is_marked() -> None:
    with Broker() as broker:
        publish(broker.port, "netring/status", "online", "-r")
        with MosquittoSub(broker.port) as sub:
            (message,) = sub.wait_for(lambda received: len(received) == 1)
            assert message.retain


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_broker_comes_back_on_its_port(ending: str) -> None:
    with Broker() as broker, MosquittoSub(broker.port) as sub:
        port = broker.port
        getattr(broker, ending)()
        with pytest.raises(BrokerError):
            _ = broker.pid
        broker.start()
        assert broker.port == port
        sub.wait_subscribed(times=2)
        publish(port, "after", "the break")
        sub.wait_for(lambda received: len(received) == 1)


def test_passwords() -> None:
    with Broker(users={"nina": "pa:ss word"}) as broker:
        with pytest.raises(BrokerError, match="not authorised"):
            MosquittoSub(broker.port)
        with MosquittoSub(broker.port, extra=["-u", "nina", "-P", "pa:ss word"]) as sub:
            assert sub.messages == []


def test_a_password_file(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    hashing = ["mosquitto_passwd", "-c", "-b", str(file), "nina", "secret"]
    subprocess.run(hashing, check=True, capture_output=True)
    with Broker(password_file=file) as broker:
        with pytest.raises(BrokerError, match="not authorised"):
            MosquittoSub(broker.port)
        MosquittoSub(broker.port, extra=["-u", "nina", "-P", "secret"]).close()


@pytest.mark.requires("root", "netns")
def test_a_broker_in_a_namespace_is_not_outside() -> None:
    with Namespace() as ns:
        ns.ip("link set lo up")
        with Broker(namespace=ns) as broker:
            assert os.readlink(f"/proc/{broker.pid}/ns/net") == os.readlink(ns.path)
            with MosquittoSub(broker.port, namespace=ns) as sub:
                argv = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port)]
                ns.run([*argv, "-t", "a", "-m", "inside"])
                sub.wait_for(lambda received: len(received) == 1)
                assert sub.messages == [("a", "inside")]
            with pytest.raises(BrokerError):
                MosquittoSub(broker.port)


def test_a_broker_that_cannot_start_says_why() -> None:
    with pytest.raises(BrokerError, match="no_such_option"):
        Broker(config=["no_such_option 1"])


def test_a_paused_broker_can_be_closed() -> None:
    with Broker() as broker:
        broker.pause()


def test_a_killed_process_leaves_no_broker() -> None:
    script = """
import os, signal
from tests.support.broker import Broker
broker = Broker()
print(broker.pid, broker._home, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True
    )
    pid, home = done.stdout.split()
    shutil.rmtree(home)
    try:
        fd = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], PATIENCE)[0], "the broker outlived its parent"
    finally:
        os.close(fd)
