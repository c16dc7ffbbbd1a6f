"""Broker addresses and credentials: which are accepted, and that no secret is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from netring_bpf.errors import SinkError
from netring_bpf.sinks.mqtt_credentials import Credentials
from netring_bpf.sinks.mqtt_options import Broker

SECRET = "canary-51c2"


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("mqtt://broker", Broker("broker", 1883, tls=False)),
        ("mqtts://broker", Broker("broker", 8883, tls=True)),
        ("mqtt://10.0.0.1:18830/", Broker("10.0.0.1", 18830, tls=False)),
        ("mqtts://[2001:db8::1]:1", Broker("2001:db8::1", 1, tls=True)),
        ("MQTT://Broker", Broker("broker", 1883, tls=False)),
    ],
)
def test_a_url_names_host_port_and_tls(url: str, broker: Broker) -> None:
    assert Broker.parse(url) == broker
    assert Broker.parse(str(broker)) == broker


@pytest.mark.parametrize(
    "url",
    ["", "broker", "broker:1883", "http://broker", "mqtt://", "mqtt:///x", "mqtt://broker/topic",
     "mqtt://broker?x=1", "mqtt://broker#x", "mqtt://broker:99999", "mqtt://broker:x",
     "mqtt://[::1", "mqtt://broker:0"],
)  # fmt: skip
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(SinkError, match="MQTT URL"):
        Broker.parse(url)


@pytest.mark.parametrize(
    "url",
    [f"mqtt://u:{SECRET}@broker", f"mqtt://{SECRET}@broker", f"mqtt://broker:{SECRET}",
     f"mqtts://:{SECRET}@broker:1", f"mqtt://[{SECRET}"],
)  # fmt: skip
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SinkError) as caught:
        Broker.parse(url)
    error: BaseException | None = caught.value
    while error is not None:  # nor by what it came from, which a traceback prints
        assert SECRET not in f"{error}{error!r}"
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__


def test_only_loopback_is_loopback() -> None:
    here = {url: Broker.parse(url).is_loopback for url in (
        "mqtt://localhost", "mqtt://127.9.9.9", "mqtt://[::1]", "mqtt://10.0.0.1", "mqtt://host",
    )}  # fmt: skip
    assert [url for url, is_here in here.items() if is_here] == [
        "mqtt://localhost", "mqtt://127.9.9.9", "mqtt://[::1]",
    ]  # fmt: skip


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_credentials_come_from_a_file_of_one_or_two_lines(tmp_path: Path) -> None:
    both = Credentials.read(write(tmp_path / "both", f"alice\n{SECRET}\n"))
    assert (both.username, both.password) == ("alice", SECRET)
    name = Credentials.read(write(tmp_path / "name", "alice"))
    assert (name.username, name.password) == ("alice", None)
    spaced = Credentials.read(write(tmp_path / "spaced", "al ice\n pass word \n"))
    assert (spaced.username, spaced.password) == ("al ice", " pass word ")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o660])
def test_a_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SinkError, match=f"{mode:04o}.*chmod 600"):
        Credentials.read(write(tmp_path / "open", f"alice\n{SECRET}\n", mode))


@pytest.mark.parametrize("text", ["", "\n", f"\n{SECRET}\n", f"alice\n{SECRET}\nmore\n", "\xff"])
def test_a_malformed_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    path = tmp_path / "malformed"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(SinkError) as caught:
        Credentials.read(path)
    assert SECRET not in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="No such file"):
        Credentials.read(tmp_path / "none")


def test_credentials_come_from_the_environment_where_no_file_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NETRING_MQTT_USERNAME", "bob")
    monkeypatch.setenv("NETRING_MQTT_PASSWORD", SECRET)
    found = Credentials.read(None)
    assert (found.username, found.password) == ("bob", SECRET)
    from_file = Credentials.read(write(tmp_path / "file", "alice\n"))
    assert (from_file.username, from_file.password) == ("alice", None)
    monkeypatch.delenv("NETRING_MQTT_USERNAME")
    monkeypatch.delenv("NETRING_MQTT_PASSWORD")
    assert Credentials.read(None) == Credentials()


def test_credentials_are_in_no_repr() -> None:
    shown = repr(Credentials("alice", SECRET)) + str(Credentials("alice", SECRET))
    assert "alice" not in shown
    assert SECRET not in shown
