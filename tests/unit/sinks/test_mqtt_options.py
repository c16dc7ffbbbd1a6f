"""Broker addresses and credentials: which are accepted, and that no secret is repeated."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from netring_bpf.errors import OptionError, SinkError
from netring_bpf.sinks.mqtt_credentials import Credentials
from netring_bpf.sinks.mqtt_options import Broker, MqttOptions

SECRET = "canary-51c2"


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("mqtt://broker", Broker("broker", 1883, tls=False)),
        ("mqtts://broker", Broker("broker", 8883, tls=True)),
        ("mqtt://10.0.0.1:18830/", Broker("10.0.0.1", 18830, tls=False)),
        ("mqtts://[2001:db8::1]:1", Broker("2001:db8::1", 1, tls=True)),
        ("MQTT://Broker", Broker("broker", 1883, tls=False)),
        ("ws://broker", Broker("broker", 80, tls=False, path="/mqtt")),
        ("wss://broker:1/", Broker("broker", 1, tls=True, path="/mqtt")),
        ("wss://broker/a/b%20c", Broker("broker", 443, tls=True, path="/a/b%20c")),
        ("mqtt://" + "a" * 63 + ".example", Broker("a" * 63 + ".example", 1883, tls=False)),
    ],
)
def test_a_url_names_host_port_and_tls(url: str, broker: Broker) -> None:
    assert Broker.parse(url) == broker
    assert Broker.parse(str(broker)) == broker


@pytest.mark.parametrize(
    "url",
    ["", "broker", "broker:1883", "http://broker", "mqtt://", "mqtt:///x", "mqtt://broker/topic",
     "mqtt://broker?x=1", "mqtt://broker#x", "mqtt://broker:99999", "mqtt://broker:x",
     "mqtt://[::1", "mqtt://broker:0", "ws://broker/x?token=1", "ws://broker/a b", "ws://broker/é",
     "wss:///mqtt", "mqtt://" + "a" * 64, "mqtt://a..b", "mqtt://a b"],
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
    with pytest.raises(SinkError, match=f"{mode:04o}.*can read or change it; chmod 600"):
        Credentials.read(write(tmp_path / "open", f"alice\n{SECRET}\n", mode))


OWNER, USER, GROUP_OWNER, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NOBODY = 0xFFFFFFFF


def with_acl(path: Path, *entries: tuple[int, int, int]) -> Path:
    """The credentials in a file with this ACL: entries of tag, permissions and id."""
    write(path, f"alice\n{SECRET}\n", 0o400)
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"the file system has no ACLs: {error}")
    return path


def test_a_file_that_an_acl_opens_to_one_user_is_accepted_as_systemd_makes_it(
    tmp_path: Path,
) -> None:
    path = with_acl(
        tmp_path / "mqtt",
        (OWNER, 4, NOBODY), (USER, 4, 65534), (GROUP_OWNER, 0, NOBODY), (MASK, 4, NOBODY),
        (OTHER, 0, NOBODY),
    )  # fmt: skip
    assert path.stat().st_mode & 0o777 == 0o440
    assert Credentials.read(path) == Credentials("alice", SECRET)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([(GROUP_OWNER, 4, NOBODY), (MASK, 4, NOBODY)], "lets a group read or change it"),
        ([(GROUP_OWNER, 0, NOBODY), (GROUP, 4, 7), (MASK, 4, NOBODY)], "lets a group read or"),
        ([(USER, 6, 65534), (GROUP_OWNER, 0, NOBODY), (MASK, 6, NOBODY)], "the user 65534 change"),
    ],
)
def test_a_file_that_an_acl_opens_to_more_is_refused(
    tmp_path: Path, entries: list[tuple[int, int, int]], said: str
) -> None:
    if not any(tag == USER for tag, *_ in entries):
        entries = [(USER, 4, 65534), *entries]
    path = with_acl(tmp_path / "mqtt", (OWNER, 4, NOBODY), *entries, (OTHER, 0, NOBODY))
    with pytest.raises(SinkError, match=f"access control list .*{said}.*; chmod 600"):
        Credentials.read(path)


def test_what_the_mask_of_an_acl_takes_away_is_no_fault(tmp_path: Path) -> None:
    path = with_acl(
        tmp_path / "mqtt",
        (OWNER, 4, NOBODY), (USER, 6, 65534), (GROUP_OWNER, 2, NOBODY), (MASK, 4, NOBODY),
        (OTHER, 0, NOBODY),
    )  # fmt: skip
    assert Credentials.read(path).username == "alice"


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


def test_a_file_may_be_named_by_a_text(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.touch(mode=0o600)
    path.write_text("user\npass\n", encoding="utf-8")
    options = MqttOptions(credentials_file=str(path))
    assert Credentials.read(options.credentials_file) == Credentials("user", "pass")


def test_credentials_are_in_no_repr() -> None:
    shown = repr(Credentials("alice", SECRET)) + str(Credentials("alice", SECRET))
    assert "alice" not in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("prefix", ""), ("prefix", "$SYS"), ("prefix", "$share/a"), ("prefix", "a/+"),
        ("prefix", "a#"), ("prefix", "a\0"), ("prefix", "a\n"), ("prefix", "a\x7f"),
        ("prefix", "a\x85"), ("prefix", "\ud800"), ("prefix", "\uffff"),
        ("prefix", "a" * 65_535), ("prefix", "é" * 32_768),
        ("node", ""), ("node", "a\0"), ("node", "\ud800"), ("node", "a" * 65_536),
        ("client_id", ""), ("client_id", "a\0"), ("client_id", "a\n"), ("client_id", "\udcff"),
        ("client_id", "a" * 65_536), ("version", "3.1"), ("version", 5), ("qos", 2),
        ("keyfile", Path("key")), ("credentials_file", ""), ("credentials_file", 7),
        ("cafile", "a\0b"), ("certfile", b"cert"),
    ],
)  # fmt: skip
def test_an_option_that_no_broker_takes_is_refused(option: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"^{option}=.{{1,110}}: must be ") as caught:
        MqttOptions(**{option: value})
    assert caught.value.option == option


def test_a_prefix_and_a_node_that_together_are_too_long_are_refused() -> None:
    longest = 65_535 - len("/box/availability")
    MqttOptions(prefix="a" * longest, node="box")
    with pytest.raises(OptionError, match="prefix="):
        MqttOptions(prefix="a" * (longest + 1), node="box")
    with pytest.raises(OptionError, match="prefix="):
        MqttOptions(prefix="a" * longest, node="b x")  # a space takes three bytes


def test_any_other_topic_is_taken() -> None:
    assert MqttOptions(prefix="a/b c/é/", node="eth0\n+#/$").prefix == "a/b c/é/"
