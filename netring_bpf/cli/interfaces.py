"""``netring-bpf interfaces``, or ``-D``: lists the interfaces, and the backend that auto takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from netring_bpf.cli.say import say
from netring_bpf.errors import NetringError, printable

if TYPE_CHECKING:
    from netring_bpf.capture.choose import Foreseen
    from netring_bpf.interface.facts import Facts

__all__ = ["DESCRIPTION", "LIST_HELP", "SUMMARY", "ListInterfaces", "add_flags", "run"]

SUMMARY = "list the interfaces, and the backend that auto would take on each"
DESCRIPTION = (
    "List the interfaces with their state, addresses and driver, and the backend that auto would "
    "take on each, and why. Needs no rights, but tells more with them."
)
LIST_HELP: Final = "list the interfaces and exit, as the command interfaces does"
_STDOUT: Final = 1
_INDENT: Final = 4


class ListInterfaces(argparse.Action):
    """Lists the interfaces and exits, as ``tcpdump -D`` does."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **options
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """List, and exit."""
        try:
            status = _print_all(None, as_json=False)
        except NetringError as error:
            say(str(error))
            status = 1
        parser.exit(status)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "--netns",
        metavar="NAME",
        help="list those of this network namespace, a name of `ip netns` or a path as "
        "/proc/PID/ns/net [default: the one of this process]",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON lines, one for each interface"
    )


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """List the interfaces; returns the exit status. Raises ``NetringError``."""
    return _print_all(given.netns, as_json=given.json)


def _print_all(netns: str | None, *, as_json: bool) -> int:
    import logging

    from netring_bpf.cli.fold import write
    from netring_bpf.interface import in_namespace
    from netring_bpf.interface.facts import list_interfaces

    logging.getLogger("netring_bpf").addHandler(logging.NullHandler())
    with in_namespace(netns):
        for facts in list_interfaces():
            auto = _foresee(facts)
            write(_as_json(facts, auto) if as_json else _lines(facts, auto))
    return 0


def _foresee(facts: Facts) -> Foreseen | NetringError:
    from netring_bpf.capture.backend import BackendOptions
    from netring_bpf.capture.choose import foresee
    from netring_bpf.filter.filter_set import FilterSet
    from netring_bpf.ring.flow_options import FlowOptions
    from netring_bpf.ring.options import TpacketOptions, XdpOptions

    options = BackendOptions(
        backend="auto",
        filter=FilterSet.of(None),
        steal=False,
        xdp=XdpOptions(),
        tpacket=TpacketOptions(),
        flow=FlowOptions(),
    )
    try:
        return foresee(facts.interface, options)
    except NetringError as error:
        return error


def _as_json(facts: Facts, auto: Foreseen | NetringError) -> str:
    import json

    interface = facts.interface
    return json.dumps(
        {
            "name": interface.name,
            "index": interface.index,
            "state": facts.state,
            "kind": interface.kind,
            "mac": facts.mac,
            "addresses": facts.addresses,
            "driver": facts.driver,
            "mtu": interface.mtu,
            "queues": facts.queues,
            "xdp_features": None if facts.xdp is None else sorted(facts.xdp),
            "xdp_program": facts.attached.program if facts.attached else None,
            "auto": {
                "backend": None if isinstance(auto, NetringError) else auto.backend,
                "attach": None if isinstance(auto, NetringError) else auto.attach,
                "reason": str(auto) if isinstance(auto, NetringError) else auto.reason,
            },
        }
    )


def _lines(facts: Facts, auto: Foreseen | NetringError) -> str:
    from netring_bpf.cli.fold import folded
    from netring_bpf.cli.screen import screen_of

    width = screen_of(_STDOUT).columns
    interface = facts.interface
    head = [
        f"{interface.index}. {interface.name}: {facts.state}",
        facts.driver or interface.kind or ("loopback" if interface.loopback else "driver unknown"),
        f"MTU {interface.mtu}",
        f"{facts.queues} receive queue{'s' * (facts.queues != 1)}",
    ]
    if facts.attached is not None:
        head.append(f"XDP program {facts.attached.program}")
    lines = [", ".join(head), ", ".join([facts.mac or "no MAC", *facts.addresses])]
    lines.append(f"auto: {_in_words(auto)}")
    first, *others = (folded(printable(line), width, _INDENT) for line in lines)
    return "\n".join([first, *(f"{' ' * _INDENT}{line}" for line in others)])


def _in_words(auto: Foreseen | NetringError) -> str:
    if isinstance(auto, NetringError):
        return f"fails: {auto}"
    how = auto.backend if auto.attach is None else f"{auto.backend}, {auto.attach} XDP"
    return how if auto.reason is None else f"{how}: {auto.reason}"
