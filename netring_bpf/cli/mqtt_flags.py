"""The flags of publishing to MQTT, and the sink that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from netring_bpf.cli.flags import FlagGroup
from netring_bpf.cli.values import number

if TYPE_CHECKING:
    from netring_bpf.events.event import Event
    from netring_bpf.sinks.base import Sink
    from netring_bpf.sinks.home_assistant import HomeAssistantOptions
    from netring_bpf.sinks.mqtt_options import MqttOptions

__all__ = [
    "add_broker_flags",
    "add_discovery_prefix",
    "add_mqtt_flags",
    "add_node_flags",
    "broker_options",
    "check_mqtt_flags",
    "mqtt_sinks",
]

# Each flag after --mqtt sets one option: of the broker and the node, and of what is published.
_OF_THE_BROKER: Final[Mapping[str, str]] = {
    "mqtt_credentials": "credentials_file",
    "mqtt_cafile": "cafile",
    "mqtt_cert": "certfile",
    "mqtt_key": "keyfile",
    "mqtt_version": "version",
    "mqtt_client_id": "client_id",
    "mqtt_node": "node",
    "mqtt_prefix": "prefix",
}
_OPTIONS: Final[Mapping[str, str]] = {
    **_OF_THE_BROKER,
    "mqtt_qos": "qos",
    "mqtt_outbox_dir": "outbox_dir",
    "mqtt_outbox_bytes": "outbox_bytes",
}
_OF_HOME_ASSISTANT: Final = ("home_assistant_prefix", "home_assistant_devices")
_MOST_DEVICES: Final = 256
_LARGEST_OUTBOX: Final = 1 << 40  # bytes


def add_mqtt_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--mqtt`` and the flags that say how."""
    group = parser.add_argument_group("MQTT and Home Assistant")
    add = group.add_argument
    add(
        "--mqtt",
        metavar="URL",
        help="also publish flows, statistics and events to this broker: mqtt://HOST[:PORT], "
        "mqtts:// with TLS, ws://HOST[:PORT]/PATH and wss:// over WebSocket",
    )
    add_broker_flags(group)
    add_node_flags(group)
    add(
        "--mqtt-qos",
        type=int,
        choices=(0, 1),
        help="publish with this quality of service; with 0 the broker does not acknowledge "
        "messages [default: 1]",
    )
    add(
        "--mqtt-outbox-dir",
        type=Path,
        metavar="DIR",
        help="keep the flows that the broker has not acknowledged in this folder, which is made if "
        "absent; they outlive this process [default: in memory]",
    )
    add(
        "--mqtt-outbox-bytes",
        type=number(_LARGEST_OUTBOX),
        metavar="BYTES",
        help="the largest size of --mqtt-outbox-dir; the oldest flows make room "
        "[default: 268435456]",
    )
    add(
        "--home-assistant",
        action="store_true",
        help="let Home Assistant find this capture at the broker of --mqtt, and show it as a "
        "device; also watch the devices of the link",
    )
    add_discovery_prefix(group)
    add(
        "--home-assistant-devices",
        type=number(_MOST_DEVICES),
        metavar="N",
        help="let Home Assistant also show up to N devices of the link [default: 0]",
    )


def add_broker_flags(parser: FlagGroup) -> None:
    """Add the flags that say how to connect."""
    add = parser.add_argument
    add(
        "--mqtt-credentials",
        type=Path,
        metavar="FILE",
        help="read the user name from the first line of this file and the password from the "
        "second; others must not be able to read it [default: the environment's "
        "NETRING_MQTT_USERNAME and NETRING_MQTT_PASSWORD]",
    )
    add(
        "--mqtt-cafile",
        type=Path,
        metavar="FILE",
        help="trust the certificates in this file instead of the system's",
    )
    add(
        "--mqtt-cert",
        type=Path,
        metavar="FILE",
        help="show this certificate to a broker that asks for one",
    )
    add(
        "--mqtt-key",
        type=Path,
        metavar="FILE",
        help="the key of --mqtt-cert, not encrypted [default: in the same file]",
    )
    add(
        "--mqtt-version",
        choices=("5", "3.1.1"),
        help="speak only this version of MQTT [default: 5, else 3.1.1]",
    )
    add(
        "--mqtt-client-id",
        metavar="ID",
        help="connect under this name, which no other client has [default: a random one]",
    )


def add_node_flags(parser: FlagGroup, *, required: bool = False) -> None:
    """Add the flags that name the topics."""
    parser.add_argument(
        "--mqtt-node",
        metavar="NAME",
        required=required,
        help="the topics are PREFIX/NAME/flows and so on; no other capture has this name"
        + ("" if required else " [default: the host name and the interface, as host_eth1]"),
    )
    parser.add_argument(
        "--mqtt-prefix",
        metavar="PREFIX",
        help="begin the topics with this instead of netring",
    )


def add_discovery_prefix(parser: FlagGroup) -> None:
    """Add the flag that says where Home Assistant looks."""
    parser.add_argument(
        "--home-assistant-prefix",
        metavar="PREFIX",
        help="where Home Assistant looks for discovery [default: homeassistant]",
    )


def check_mqtt_flags(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Exit with a message if a flag has no ``--mqtt`` to go with, or a wrong value."""
    if given.mqtt is None:
        for name in _set_options(given):
            flag = next(flag for flag, option in _OPTIONS.items() if option == name)
            parser.error(f"--{flag.replace('_', '-')} needs --mqtt and a URL")
        if given.home_assistant:
            parser.error("--home-assistant needs --mqtt and a URL")
    if given.mqtt_outbox_bytes is not None and given.mqtt_outbox_dir is None:
        parser.error("--mqtt-outbox-bytes needs --mqtt-outbox-dir")
    for flag in _OF_HOME_ASSISTANT:
        if getattr(given, flag) is not None and not given.home_assistant:
            parser.error(f"--{flag.replace('_', '-')} needs --home-assistant")
    if given.mqtt is None:
        return
    from netring_bpf.errors import OptionError
    from netring_bpf.sinks.mqtt_options import MqttOptions

    try:
        MqttOptions(**_set_options(given), home_assistant=_home_assistant(given))
    except OptionError as error:
        parser.error(f"--mqtt: {error}")


def mqtt_sinks(given: argparse.Namespace, kinds: tuple[type[Event], ...]) -> tuple[Sink, ...]:
    """Return the sink that the flags ask for, if any; of events of these kinds.

    Raises ``NetringError``.
    """
    if given.mqtt is None:
        return ()
    from netring_bpf.sinks.mqtt import MqttOptions, MqttSink

    published = tuple(kind for kind in MqttOptions().kinds if kind in kinds)
    options = MqttOptions(
        **_set_options(given), kinds=published, home_assistant=_home_assistant(given)
    )
    return (MqttSink(given.mqtt, options),)


def broker_options(given: argparse.Namespace) -> MqttOptions:
    """Return the options of the broker and the node. Raises ``OptionError``."""
    from netring_bpf.sinks.mqtt_options import MqttOptions

    return MqttOptions(**_given(given, _OF_THE_BROKER))


def _home_assistant(given: argparse.Namespace) -> HomeAssistantOptions | None:
    from netring_bpf.sinks.home_assistant import HomeAssistantOptions

    if not given.home_assistant:
        return None
    default = HomeAssistantOptions()
    return HomeAssistantOptions(
        prefix=default.prefix
        if given.home_assistant_prefix is None
        else given.home_assistant_prefix,
        devices=given.home_assistant_devices or 0,
    )


def _set_options(given: argparse.Namespace) -> dict[str, Any]:
    """Return the options that flags set, by their names."""
    return _given(given, _OPTIONS)


def _given(given: argparse.Namespace, flags: Mapping[str, str]) -> dict[str, Any]:
    values = {option: getattr(given, flag) for flag, option in flags.items()}
    return {option: value for option, value in values.items() if value is not None}
