"""The flags of publishing to MQTT, and the sink that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from netring_bpf.events.event import Event
    from netring_bpf.sinks.base import Sink

__all__ = ["add_mqtt_flags", "check_mqtt_flags", "mqtt_sinks"]

# Each flag after --mqtt sets one option.
_OPTIONS: Final[Mapping[str, str]] = {
    "mqtt_credentials": "credentials_file",
    "mqtt_cafile": "cafile",
    "mqtt_cert": "certfile",
    "mqtt_key": "keyfile",
    "mqtt_version": "version",
    "mqtt_client_id": "client_id",
    "mqtt_node": "node",
    "mqtt_prefix": "prefix",
    "mqtt_qos": "qos",
}


def add_mqtt_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--mqtt`` and the flags that say how."""
    add = parser.add_argument
    add(
        "--mqtt",
        metavar="URL",
        help="also publish flows to this broker: mqtt://HOST[:PORT], mqtts:// with TLS, "
        "ws://HOST[:PORT]/PATH and wss:// over WebSocket",
    )
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
    add(
        "--mqtt-node",
        metavar="NAME",
        help="publish on PREFIX/NAME/flows; no other capture has this name [default: the host name "
        "and the interface, as host_eth1]",
    )
    add(
        "--mqtt-prefix",
        metavar="PREFIX",
        help="begin the topics with this instead of netring",
    )
    add(
        "--mqtt-qos",
        type=int,
        choices=(0, 1),
        help="publish flows with this quality of service; with 0 the broker does not acknowledge "
        "them [default: 1]",
    )


def check_mqtt_flags(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Exit with a message if a flag has no ``--mqtt`` to go with, or a wrong value."""
    if given.mqtt is None:
        for name in _set_options(given):
            flag = next(flag for flag, option in _OPTIONS.items() if option == name)
            parser.error(f"--{flag.replace('_', '-')} needs --mqtt and a URL")
        return
    from netring_bpf.errors import OptionError
    from netring_bpf.sinks.mqtt_options import MqttOptions

    try:
        MqttOptions(**_set_options(given))
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
    return (MqttSink(given.mqtt, MqttOptions(**_set_options(given), kinds=published)),)


def _set_options(given: argparse.Namespace) -> dict[str, Any]:
    """Return the options that flags set, by their names."""
    values = {option: getattr(given, flag) for flag, option in _OPTIONS.items()}
    return {option: value for option, value in values.items() if value is not None}
