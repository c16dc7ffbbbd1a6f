"""``netring-bpf mqtt forget``: removes what a node has left at a broker."""

from __future__ import annotations

import argparse

from netring_bpf.cli.flags import add_messages, tell
from netring_bpf.cli.mqtt_flags import (
    add_broker_flags,
    add_discovery_prefix,
    add_node_flags,
    broker_options,
)
from netring_bpf.cli.parsers import Parser
from netring_bpf.errors import OptionError, printable

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "remove what a capture has left at an MQTT broker"
DESCRIPTION = (
    "With the word forget, remove what a capture has left at an MQTT broker. Its latest state, and "
    "its device in Home Assistant, stay there when it ends, for the time when it comes back. Stop "
    "it first."
)
_FORGET = "remove the retained topics of a node, and its device in Home Assistant"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("action", choices=("forget",), help=_FORGET)
    parser.add_argument(
        "--mqtt",
        metavar="URL",
        required=True,
        help="the broker: mqtt://HOST[:PORT], mqtts:// with TLS, ws://HOST[:PORT]/PATH and wss:// "
        "over WebSocket",
    )
    add_broker_flags(parser)
    add_node_flags(parser, required=True)
    add_discovery_prefix(parser)
    add_messages(parser)


def run(parser: Parser, given: argparse.Namespace) -> int:
    """Do what was asked; returns the exit status. Raises ``NetringError``."""
    import asyncio

    from netring_bpf.cli.log import write_log
    from netring_bpf.sinks.home_assistant import HomeAssistantOptions
    from netring_bpf.sinks.mqtt_forget import forget

    write_log()
    try:
        options = broker_options(given)
        prefix = given.home_assistant_prefix
        discovery = HomeAssistantOptions() if prefix is None else HomeAssistantOptions(prefix)
    except OptionError as error:
        parser.error(str(error))
    removed = asyncio.run(forget(given.mqtt, options, given.mqtt_node, discovery))
    for topic in removed:
        tell(f"removed {printable(topic)}")
    tell(f"{len(removed)} retained topics removed")
    return 0
