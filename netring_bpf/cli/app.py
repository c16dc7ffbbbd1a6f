"""The commands and their flags.

Nothing but the flags is loaded here; a command loads what it needs. argparse, as typer costs
130 ms, with what it imports, of a command that reads a million packets in 290 (argparse: 7).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import netring_bpf
from netring_bpf.errors import NetringError, OptionError

if TYPE_CHECKING:
    from netring_bpf.events.event import FlowEvent

__all__ = ["run"]

_BACKENDS: Final = ("auto", "af_xdp", "tpacket_v3")
_PRESETS: Final = ("default", "throughput", "latency", "small-memory")
_T = TypeVar("_T")
_FORMATS: Final = ("table", "json", "zeek", "zeek-json", "eve", "csv")
_EVENTS: Final = ("started", "established", "updated", "ended")
_PUBLISHED: Final = {"updated", "ended"}
_OVERVIEW: Final = """\
commands:
  flows       print flow events of an interface, or of a capture file
  filter      show what a filter compiles to, or count what it matches in a file
  record      write the frames of an interface into pcapng files

for example:
  netring-bpf flows -i eth1 tcp port 443
  netring-bpf flows -r file.pcap --format zeek
  netring-bpf record -i eth1 -w file.pcapng udp

netring-bpf COMMAND --help tells the flags of a command."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default the process's own; returns its exit status.

    Exits with 2 for wrong usage.
    """
    parser = argparse.ArgumentParser(
        prog="netring-bpf",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Flows off a Linux interface, filtered in the kernel.",
        epilog=_OVERVIEW,
        formatter_class=_RawFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"netring-bpf {netring_bpf.__version__}"
    )
    add = parser.add_argument
    add("command", nargs="?", choices=_COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    add("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return _COMMANDS[given.command](given.rest)
    except NetringError as error:
        _complain(str(error))
        return 1


def _complain(text: str) -> None:
    print(f"netring-bpf: {text}", file=sys.stderr)


# -- how flags are read --


class _Formatter(argparse.HelpFormatter):
    def add_usage(self, usage, actions, groups, prefix="Usage: "):  # type: ignore[no-untyped-def]
        super().add_usage(usage, actions, groups, prefix or "Usage: ")


class _RawFormatter(_Formatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of the overview as they are."""


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"netring-bpf {command}",
        description=description,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "expression", nargs="*", metavar="FILTER", help="a filter in tcpdump's language"
    )


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", choices=_BACKENDS, default="auto", help="how to capture")
    parser.add_argument(
        "--steal",
        action="store_true",
        help="let AF_XDP take matching packets away from this host's own stack",
    )


def _add_bounds(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--duration", type=_duration, metavar="SECONDS", help="stop after so long")
    parser.add_argument("-c", dest="count", type=_count, metavar="N", help=f"stop after N {what}")


def _add_tuning(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--preset", choices=_PRESETS, default="default",
        help="what the rings are set up for: docs/tuning.md")  # fmt: skip
    add("--threads", type=_count, default=1, metavar="N",
        help="threads of TPACKET_V3; of AF_XDP with --symmetric-rss")  # fmt: skip
    add("--cpus", type=_cpus, metavar="N,N,...", help="the CPU of each thread")
    add("--symmetric-rss", action="store_true",
        help="the card brings both directions of a flow to one queue")  # fmt: skip


def _expression(given: argparse.Namespace) -> str | None:
    return " ".join(given.expression) or None


def _value(text: str, read: Callable[[str], _T], holds: Callable[[_T], bool], rule: str) -> _T:
    """Return what the text says; argparse's own words for an error name a function of ours."""
    with contextlib.suppress(ValueError):
        value = read(text)
        if holds(value):
            return value
    raise argparse.ArgumentTypeError(f"{text}: must be {rule}")


def _count(text: str) -> int:
    return _value(text, int, lambda value: value >= 1, "a number, at least 1")


def _cpus(text: str) -> tuple[int, ...]:
    return _value(text, _numbers, lambda cpus: min(cpus) >= 0, "numbers of CPUs, as 2,3")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _names_of_events(text: str) -> tuple[str, ...]:
    rule = f"some of {','.join(_EVENTS)}, as started,ended"
    return _value(text, _names, lambda names: set(names) <= set(_EVENTS), rule)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _depth(text: str) -> int:
    return _value(text, int, lambda value: 0 <= value <= 4, "a number from 0 to 4")


def _duration(text: str) -> float:
    return _value(
        text, float, lambda value: 0 <= value < math.inf, "a number of seconds, 0 or more"
    )


# -- flows --


def _flows(arguments: Sequence[str]) -> int:
    parser = _flows_parser()
    given = parser.parse_intermixed_args(arguments)
    if sys.stdout is None:
        _complain("standard output is closed; there is nowhere to print to")
        return 1
    if (given.interface is None) == (given.file is None):
        parser.error("give either -i and an interface, or -r and a file")
    if given.json and given.format not in {None, "json"}:
        parser.error("--json and --format exclude each other")
    shown = given.format or ("table" if sys.stdout.isatty() and not given.json else "json")
    if given.events and shown not in {"table", "json"}:
        others = set(given.events) - {"ended"}
        if "ended" not in given.events or (others and not given.mqtt):
            parser.error(f"--format {shown} prints only flows that have ended: --events ended")
    if given.mqtt and given.events and not _PUBLISHED & set(given.events):
        parser.error("--mqtt publishes updated and ended, and --events chooses others")
    if given.ignore_vlan is None:
        given.ignore_vlan = shown in {"zeek", "zeek-json"}

    import asyncio
    import logging

    from netring_bpf.cli.flows import FlowsRequest, print_flows
    from netring_bpf.cli.tuning import Tuning
    from netring_bpf.ring.flow_options import FlowKey, FlowOptions

    logging.basicConfig(format="netring-bpf: %(message)s", level=logging.WARNING)
    try:
        options = FlowOptions(
            key=FlowKey(given.key.replace("-", "_")),
            key_vlan=not given.ignore_vlan,
            directional=given.directional,
            tunnel_depth=given.tunnel_depth,
            verify_checksums=given.verify_checksums,
            active_timeout=given.active_timeout,
            events=_events(given.events, shown, given.mqtt),
        )
        tuning = Tuning(given.preset, given.threads, given.cpus, given.symmetric_rss)
        xdp, tpacket = tuning.xdp(), tuning.tpacket()
    except OptionError as error:
        parser.error(str(error))
    request = FlowsRequest(
        interface=given.interface,
        file=given.file,
        expression=_expression(given),
        format=shown,
        flow=options,
        xdp=xdp,
        tpacket=tpacket,
        backend=given.backend,
        steal=given.steal,
        mqtt=given.mqtt,
        mqtt_credentials=given.mqtt_credentials,
        duration=given.duration,
        count=given.count,
    )
    try:
        return 0 if asyncio.run(print_flows(request)) else 1
    except asyncio.CancelledError:
        _complain("stopped before everything was closed in peace")
        return 1


def _events(
    asked: Sequence[str] | None, shown: str, mqtt: str | None
) -> tuple[type[FlowEvent], ...]:
    """What is made at all: the formats of other tools know of flows that have ended only."""
    from netring_bpf.events.event import FlowEnded
    from netring_bpf.ring.flow_options import FlowOptions

    made = FlowOptions().events
    if asked is not None:
        return tuple(made[_EVENTS.index(name)] for name in asked)
    return made if mqtt or shown in {"table", "json"} else (FlowEnded,)


def _flows_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "flows",
        "Print flow events as they happen, or those of a file; Ctrl-C ends with a summary.",
    )
    add = parser.add_argument
    _add_filter(parser)
    add("--interface", "-i", metavar="IFACE", help="the interface to capture")
    add(
        "-r",
        dest="file",
        type=Path,
        metavar="FILE",
        help="a capture file instead: pcap or pcapng, gzip'd or not; - for standard input",
    )
    add(
        "--format",
        choices=_FORMATS,
        help="how to print; zeek, zeek-json, eve and csv print flows that have ended "
        "[default: table on a terminal, else json]",
    )
    add("--json", action="store_true", help="the same as --format json")
    add(
        "--events",
        type=_names_of_events,
        metavar="KIND,KIND,...",
        help=f"only these, of {', '.join(_EVENTS)}, printed and published: --events ended is one "
        "record a flow [default: all; without --mqtt only ended where the format prints no others]",
    )
    _add_backend(parser)
    add("--mqtt", metavar="URL", help="publish flows too: mqtt://HOST or mqtts://HOST[:PORT]")
    add(
        "--mqtt-credentials",
        type=Path,
        metavar="FILE",
        help="a file of mode 0600: user name, then password, a line each; or set "
        "NETRING_MQTT_USERNAME and NETRING_MQTT_PASSWORD",
    )
    add(
        "--key",
        choices=("five-tuple", "host-pair", "mac-pair"),
        default="five-tuple",
        help="what makes packets one flow",
    )
    vlan = parser.add_mutually_exclusive_group()
    vlan.add_argument("--ignore-vlan", dest="ignore_vlan", action="store_const", const=True,
                      help="flows are the same in all VLANs [default: for zeek and zeek-json, "
                      "as in Zeek]")  # fmt: skip
    vlan.add_argument("--key-vlan", dest="ignore_vlan", action="store_const", const=False,
                      help="flows of different VLANs are different [default: else]")  # fmt: skip
    add("--directional", action="store_true", help="each direction is a flow of its own")
    add(
        "--tunnel-depth",
        type=_depth,
        default=4,
        metavar="N",
        help="how many tunnels to open [default: 4]",
    )
    add(
        "--verify-checksums",
        action="store_true",
        help="do not believe packets whose checksum is wrong",
    )
    add("--active-timeout", type=float, metavar="SECONDS",
        help="end a flow that has lasted so long, and go on")  # fmt: skip
    _add_tuning(parser)
    _add_bounds(parser, "flow events")
    return parser


# -- filter --


def _filter(arguments: Sequence[str]) -> int:
    parser = _parser(
        "filter", "Show what a filter compiles to, or how many frames of a file match it."
    )
    add = parser.add_argument
    add("expression", nargs="+", metavar="FILTER", help="a filter in tcpdump's language")
    add("-r", dest="file", type=Path, metavar="FILE", help="count the frames of this capture file")
    add(
        "-i",
        dest="interface",
        metavar="IFACE",
        help="compile as for live traffic of this interface",
    )
    add(
        "--engine",
        choices=("libpcap", "python", "tpacket", "xdp"),
        default="python",
        help="what runs the filter on the frames of -r [default: python]",
    )
    add(
        "--count",
        action="store_true",
        help="print the number of matching frames; of instructions without -r. The default; "
        "beside --explain it must be asked for",
    )
    add("--explain", action="store_true",
        help="list the compiled program, as tcpdump -d does")  # fmt: skip
    given = parser.parse_intermixed_args(arguments)
    if given.file is not None and given.interface is not None:
        parser.error("-r and -i exclude each other: a file is not live traffic")

    from netring_bpf.cli.filter import FilterRequest, run_filter

    request = FilterRequest(
        expression=" ".join(given.expression),
        file=given.file,
        interface=given.interface,
        engine=given.engine,
        count=given.count,
        explain=given.explain,
    )
    for text in run_filter(request):
        print(text)
    return 0


# -- record --


def _record(arguments: Sequence[str]) -> int:
    parser = _parser(
        "record",
        "Record frames into pcapng, with nanoseconds and drop counts; Ctrl-C ends with a summary.",
    )
    add = parser.add_argument
    _add_filter(parser)
    add("--interface", "-i", required=True, metavar="IFACE", help="the interface to capture")
    add(
        "-w", dest="file", required=True, type=Path, metavar="FILE", help="the pcapng file to write"
    )
    _add_backend(parser)
    add(
        "--rotate-size",
        type=int,
        metavar="BYTES",
        help="begin another file before one is longer than this",
    )
    add("--rotate-time", type=float, metavar="SECONDS", help="begin another file after so long")
    add("--max-files", type=int, metavar="N", help="keep only the latest so many files")
    add("--ring-time", type=float, metavar="SECONDS",
        help="keep the last so many seconds in memory; SIGUSR1 writes them")  # fmt: skip
    _add_bounds(parser, "frames")
    given = parser.parse_intermixed_args(arguments)

    import logging

    from netring_bpf.cli.record import RecordRequest, run_record
    from netring_bpf.recording.recorder import RecordOptions

    logging.basicConfig(format="netring-bpf: %(message)s", level=logging.WARNING)
    try:
        options = RecordOptions(
            rotate_size=given.rotate_size,
            rotate_time=given.rotate_time,
            max_files=given.max_files,
            ring_time=given.ring_time,
        )
    except OptionError as error:
        parser.error(str(error))
    run_record(
        RecordRequest(
            interface=given.interface,
            file=given.file,
            expression=_expression(given),
            backend=given.backend,
            steal=given.steal,
            options=options,
            duration=given.duration,
            count=given.count,
        )
    )
    return 0


_COMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "flows": _flows,
    "filter": _filter,
    "record": _record,
}
