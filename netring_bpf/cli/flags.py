"""The flags that all commands of a capture share, and the capture that they ask for.

An option of the library has its default and its range in its own class, and nowhere else: the help
shows that default, and a value goes through that class.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import operator
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from netring_bpf.aggregate.options import StatsOptions
from netring_bpf.bpf.xdp_mode import XdpMode
from netring_bpf.capture.backend import BACKENDS
from netring_bpf.cli import values
from netring_bpf.cli.parsers import Once, Parser
from netring_bpf.cli.say import say, tell
from netring_bpf.errors import FilterError, OptionError
from netring_bpf.events.event import CoreEvent, FlowUpdated
from netring_bpf.ring.flow_options import (
    DEFAULT_MAX_FLOWS,
    NAMES,
    SLICED,
    FlowKey,
    FlowOptions,
    TunnelPort,
)
from netring_bpf.ring.options import PRESETS, Preset, TpacketOptions, XdpOptions

if TYPE_CHECKING:
    from netring_bpf.capture.capture import Capture
    from netring_bpf.filter.filter import Filter
    from netring_bpf.netring import Netring

__all__ = [
    "USAGE",
    "FlagGroup",
    "add_bounds",
    "add_capture",
    "add_filter",
    "add_filter_file",
    "add_flow_options",
    "add_messages",
    "add_no_names",
    "add_source",
    "add_stats_interval",
    "add_time",
    "capture_of",
    "check_filter",
    "check_source",
    "check_updates",
    "expression",
    "filter_of",
    "flow_options",
    "has_rich",
    "netring_of",
    "ring_options",
    "say",
    "tell",
    "words_of",
]

#: Takes flags: a parser, or a group of its help.
FlagGroup: TypeAlias = "argparse._ArgumentGroup | argparse.ArgumentParser"  # noqa: SLF001
#: The usage of a command of a capture, in short: its flags are many.
USAGE: Final = "%(prog)s (-i IFACE | -r FILE) [FLAGS] [FILTER ...]"
_FLOW: Final = FlowOptions()
_XDP: Final = XdpOptions()
_TPACKET: Final = TpacketOptions()
_KEYS: Final = {key.value.replace("_", "-"): key for key in FlowKey}
_KEY: Final = next(name for name, key in _KEYS.items() if key is _FLOW.key)
_LARGEST_FILTER: Final = 1 << 20  # bytes of a file

# Each names options of the library, and the flags that set them.
_OF_AF_XDP: Final = (
    "steal", "symmetric_rss", "queues", "ring_size", "chunk_size", "chunks", "mode", "huge_pages",
    "busy_poll",
)  # fmt: skip
_OF_TPACKET: Final = ("block_size", "block_count", "retire_timeout")
_OF_AN_INTERFACE: Final = (
    "netns", "snaplen", "backend", "preset", "threads", "cpus", *_OF_AF_XDP, *_OF_TPACKET,
)  # fmt: skip
_OF_FLOWS: Final = (
    "idle_tcp", "idle_udp", "idle_icmp", "idle_other", "half_open", "close_delay", "active_timeout",
    "max_flows", "event_slots", "tunnel_depth", "fragment_timeout", "max_fragmented",
    "first_packets", "sliced", "names", "names_memory",
)  # fmt: skip
_SWITCHES: Final = ("directional", "verify_checksums", "packet_statistics", "one_sided")


def has_rich() -> bool:
    """Whether the package is installed that draws tables and progress bars."""
    return importlib.util.find_spec("rich") is not None


# -- the source --


def add_source(parser: argparse.ArgumentParser, *, several: bool = True, reads: str = "") -> None:
    """Add ``-i`` and ``-r``. ``several``: ``-r`` takes many files; ``reads``: more of its help."""
    parser.add_argument(
        "--interface", "-i", action=Once, metavar="IFACE", help="capture on this interface"
    )
    more = (
        "; several files, by more -r, more names after it or a pattern as 'cap-*.pcap', are read "
        "as one capture, in the order of their times"
    )
    parser.add_argument(
        "-r",
        dest="files",
        action="append" if several else Once,
        type=Path,
        metavar="FILE",
        help="read this capture file instead: pcap or pcapng, packed or not; - reads standard "
        f"input{reads}{more if several else ''}",
    )


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Add the words of a filter, which are optional, and the files that take their place."""
    parser.add_argument(
        "expression",
        nargs="*",
        metavar="FILTER",
        help="the words of a filter in tcpdump's language, as tcp port 443 [default: all packets]",
    )
    group = parser.add_argument_group("filter")
    add = group.add_argument
    add_filter_file(group)
    for name, things in (("hosts", "addresses"), ("nets", "networks and addresses")):
        add(
            f"--{name}",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help=f"take only packets from or to the {things} in this file, one in a line; # and ; "
            "begin a comment; may be given several times",
        )


def add_filter_file(group: FlagGroup) -> None:
    """Add the flag of a file that has the words of the filter."""
    group.add_argument(
        "--filter-file",
        "-F",
        action=Once,
        type=Path,
        metavar="FILE",
        help="read the words of the filter from this file, as tcpdump does; # begins a comment",
    )


def add_capture(parser: argparse.ArgumentParser, *, threads: bool = True) -> None:
    """Add the flags of capturing on an interface. ``threads``: there may be several."""
    group = parser.add_argument_group("capture of an interface")
    add = group.add_argument
    add(
        "--netns",
        metavar="NAME",
        help="capture in this network namespace, a name of `ip netns` or a path as "
        "/proc/PID/ns/net [default: the one of this process]",
    )
    add(
        "--snaplen",
        "-s",
        type=values.OptionReader(_filter_of, "snaplen", int),
        metavar="BYTES",
        help="take at most so many bytes of a frame [default: 65535]",
    )
    _add_choice(
        group, "backend", BACKENDS, "auto",
        "capture by this means; auto takes AF_XDP where possible, else TPACKET_V3",
    )  # fmt: skip
    add(
        "--steal",
        action="store_true",
        help="let AF_XDP take matching packets away from the network stack of this host",
    )
    _add_choice(
        group, "preset", PRESETS, "default",
        "tune the rings for this goal; docs/tuning.md has the values",
    )  # fmt: skip
    add(
        "--cpus",
        type=values.numbers("CPUs"),
        metavar="N,N,...",
        help=("run each thread on its CPU, as 2,3" if threads else "run on these CPUs, as 2,3")
        + " [default: on any]",
    )
    if threads:
        _add_option(
            group, TpacketOptions, "threads", int, "N",
            "capture with N threads; AF_XDP needs --symmetric-rss for more than one",
        )  # fmt: skip
        add(
            "--symmetric-rss",
            action="store_true",
            help="assume that the network card brings both directions of a flow to one queue",
        )
    else:
        parser.set_defaults(threads=None, symmetric_rss=False, own_thread=True)
    _add_rings(parser)


def _filter_of(*, snaplen: int) -> Filter:
    from netring_bpf.filter.filter import Filter

    return Filter("", snaplen=snaplen)


def _add_rings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "rings",
        "The capture chooses these by the link and the preset. docs/tuning.md has the rule.",
    )
    chosen = "the preset's"
    group.add_argument(
        "--queues",
        type=values.OptionReader(XdpOptions, "queues", values.numbers("queues")),
        metavar="N,N,...",
        help="AF_XDP: capture only these receive queues, as 0,1 [default: all]",
    )
    _add_option(
        group, XdpOptions, "ring_size", int, "N", "AF_XDP: descriptors of a queue's ring",
        default="chosen by the speed of the link",
    )  # fmt: skip
    _add_option(
        group, XdpOptions, "chunk_size", int, "BYTES",
        "AF_XDP: bytes of a chunk; a frame must fit, with 256 bytes before it",
        default="chosen by the MTU",
    )  # fmt: skip
    _add_option(
        group, XdpOptions, "chunks", int, "N",
        "AF_XDP: chunks of a queue", default="chosen by the ring's size",
    )  # fmt: skip
    group.add_argument(
        "--xdp-mode",
        dest="mode",
        choices=tuple(mode.value for mode in XdpMode),
        help="AF_XDP: attach the program only so [default: native if the driver has it, else "
        "generic]",
    )
    group.add_argument(
        "--huge-pages",
        action="store_true",
        help="AF_XDP: take the memory from pages of 2 MiB, if the kernel has enough",
    )
    group.add_argument(
        "--busy-poll",
        type=values.busy_poll,
        metavar="USEC[,FRAMES]",
        help="AF_XDP: keep asking the driver for so many microseconds after a frame, and for at "
        f"most so many frames at a time [default: {chosen}]",
    )
    _add_option(
        group, TpacketOptions, "block_size", int, "BYTES", "TPACKET_V3: bytes of a block",
        default=f"{chosen}, {_TPACKET.block_size}",
    )  # fmt: skip
    _add_option(
        group, TpacketOptions, "block_count", int, "N", "TPACKET_V3: blocks of the ring",
        default=f"{chosen}, {_TPACKET.block_count}",
    )  # fmt: skip
    _add_option(
        group, TpacketOptions, "retire_timeout", float, "SECONDS",
        "TPACKET_V3: take a block that is not full after so long",
        default=f"{chosen}, {_TPACKET.retire_timeout:g}",
    )  # fmt: skip


def check_source(parser: Parser, given: argparse.Namespace) -> None:
    """Exit with a message unless there is one source, and each flag is of that source."""
    if (given.interface is None) == (given.files is None):
        parser.error("give either -i and an interface, or -r and a file")
    check_filter(parser, given)
    flags = dict(parser.given(given))
    if given.files is not None:
        for option in _OF_AN_INTERFACE:
            if option in flags:
                parser.error(f"{flags[option]} is for -i and an interface, not for -r and a file")
    _check_backend(parser, given, flags)
    try:
        ring_options(given)
    except OptionError as error:
        parser.option_error(error)


def _check_backend(parser: Parser, given: argparse.Namespace, flags: dict[str, str]) -> None:
    other = {"tpacket_v3": _OF_AF_XDP, "af_xdp": _OF_TPACKET}.get(given.backend, ())
    for option in other:
        if option in flags:
            parser.error(f"{flags[option]} is not for --backend {given.backend}")
    if given.backend == "af_xdp" and (given.threads or 1) > 1 and not given.symmetric_rss:
        parser.error(
            f"argument --threads: {given.threads}: must be 1 with --backend af_xdp, unless the "
            "card brings both directions of a flow to one queue and --symmetric-rss says so"
        )


def check_filter(parser: Parser, given: argparse.Namespace) -> None:
    """Exit with a message if a filter is given twice."""
    if given.filter_file is None:
        return
    if given.expression:
        parser.error("-F and the words of a filter exclude each other")
    if str(given.filter_file) == "-" and Path("-") in _files(given):
        parser.error("-F - and -r - exclude each other: there is one standard input")


def _files(given: argparse.Namespace) -> list[Path]:
    files = given.files
    return files if isinstance(files, list) else [] if files is None else [files]


def filter_of(given: argparse.Namespace) -> str | Filter | None:
    """Return the filter: the words, the addresses of the files, and the snaplen.

    Raises ``FilterError``, ``OptionError``.
    """
    words = words_of(given) or None
    snaplen = getattr(given, "snaplen", None)
    if not given.hosts and not given.nets and snaplen is None:
        return words
    from netring_bpf.filter.filter import Filter

    # The words come first: a set looks behind the tag that `vlan` asks for.
    wanted = Filter.deferred(words or "")
    if given.hosts or given.nets:
        sets = [*map(Filter.hosts, given.hosts), *map(Filter.nets, given.nets)]
        wanted &= functools.reduce(operator.or_, sets)
    return wanted if snaplen is None else wanted.with_snaplen(snaplen)


def words_of(given: argparse.Namespace) -> str:
    """Return the words of the filter, or those of its file. Raises ``FilterError``."""
    return " ".join(given.expression) if given.filter_file is None else _read(given.filter_file)


def _read(path: Path) -> str:
    """Return the words in a file, without its comments. Raises ``FilterError``."""
    shown = "standard input" if str(path) == "-" else str(path)
    try:
        with open(0 if str(path) == "-" else path, "rb", closefd=str(path) != "-") as file:
            data = file.read(_LARGEST_FILTER + 1)
    except OSError as error:
        raise _filter_file_error(f"{shown}: {error.strerror}") from error
    if len(data) > _LARGEST_FILTER:
        raise _filter_file_error(f"{shown}: it is longer than {_LARGEST_FILTER} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _filter_file_error(f"{shown}: byte {error.start} is no UTF-8") from error
    if "\0" in text:
        raise _filter_file_error(f"{shown}: byte {data.index(0)} is a NUL")
    return " ".join(" ".join(line.partition("#")[0] for line in text.splitlines()).split())


def _filter_file_error(text: str) -> FilterError:
    return FilterError(f"read the filter from {text}", expression="")


def expression(wanted: str | Filter | None) -> str | None:
    """Return the filter as one text, None without a filter."""
    text = wanted if wanted is None or isinstance(wanted, str) else wanted.expression
    return text or None


# -- the flow table --


def add_flow_options(
    parser: argparse.ArgumentParser,
    *,
    update_interval: float | None = _FLOW.update_interval,
    by_format: bool = False,
) -> None:
    """Add the flags of the flow table.

    ``update_interval``: the command's own; ``by_format``: the format of the output decides on
    VLANs and fragments.
    """
    _add_timeouts(parser, update_interval)
    _add_keys(parser, by_format=by_format)
    group = parser.add_argument_group("what is read, and how much is kept")
    add = group.add_argument
    _add_choice(
        group, "names", NAMES, _FLOW.names,
        "read the protocol of each flow and the names in it, or the protocol (service) alone, or "
        "look at no byte of payload",
    )  # fmt: skip
    _add_option(
        group, FlowOptions, "names_memory", int, "BYTES",
        "keep so many bytes of messages that come in pieces",
    )  # fmt: skip
    _add_option(
        group, FlowOptions, "max_flows", int, "N", "keep at most N live flows",
        default=f"{DEFAULT_MAX_FLOWS} of an interface; of a file as many as fit into half of the "
        "memory",
    )  # fmt: skip
    _add_option(
        group, FlowOptions, "event_slots", int, "N",
        "keep N events that are not taken yet",
    )  # fmt: skip
    _add_option(
        group, FlowOptions, "first_packets", int, "N",
        "keep the size and the gap of the first N packets of a flow",
    )  # fmt: skip
    add(
        "--packet-statistics",
        action="store_true",
        help="measure the sizes and the gaps of the packets of each side",
    )
    add(
        "--verify-checksums",
        action="store_true",
        help="verify checksums: a packet with a wrong one is counted, but its content ignored",
    )
    _add_choice(
        group, "sliced", SLICED, _FLOW.sliced,
        "refuse frames that a mirror has sliced, or trust their IP length",
    )  # fmt: skip


def _add_timeouts(parser: argparse.ArgumentParser, update_interval: float | None) -> None:
    group = parser.add_argument_group("when a flow ends or is told", "By the time of the packets.")
    for name, whose in (
        ("tcp", "TCP"),
        ("udp", "UDP"),
        ("icmp", "ICMP"),
        ("other", "another protocol"),
    ):
        _add_option(
            group, FlowOptions, f"idle_{name}", float, "SECONDS",
            f"end a flow of {whose} so long after its latest packet",
        )  # fmt: skip
    usual = " ".join(f"{t.proto}/{t.port}={t.timeout:g}" for t in _FLOW.port_timeouts)
    group.add_argument(
        "--port-timeout",
        type=values.port_timeout,
        action="append",
        default=[],
        metavar="PROTO/PORT=SECONDS",
        help="end flows to this port of tcp or udp so long after their latest packet, or with none "
        f"in place of SECONDS as others; may be given several times [default: {usual}]",
    )
    _add_option(
        group, FlowOptions, "half_open", float, "SECONDS",
        "end a TCP flow this long after its first SYN, if nothing but SYNs has come",
    )  # fmt: skip
    _add_option(
        group, FlowOptions, "close_delay", float, "SECONDS",
        "keep a closed TCP flow this long, for its late packets",
    )  # fmt: skip
    _add_option(
        group, FlowOptions, "active_timeout", float, "SECONDS",
        "end a flow that has lasted this long, and continue it as a new one", default="never",
        never=True,
    )  # fmt: skip
    _add_option(
        group, FlowOptions, "update_interval", float, "SECONDS",
        "tell of a live flow each time this long has passed",
        default=_shown(update_interval), never=True,
    )  # fmt: skip


def _add_keys(parser: argparse.ArgumentParser, *, by_format: bool) -> None:
    group = parser.add_argument_group("which packets make a flow")
    add = group.add_argument
    _add_choice(group, "key", tuple(_KEYS), _KEY, "the fields that the packets of a flow share")
    vlan = group.add_mutually_exclusive_group()
    vlan.add_argument(
        "--ignore-vlan",
        action="store_const",
        const=True,
        help="count packets of different VLANs as one flow"
        + (" [default of zeek and zeek-json, as in Zeek]" if by_format else ""),
    )
    vlan.add_argument(
        "--key-vlan",
        dest="ignore_vlan",
        action="store_const",
        const=False,
        help="keep flows of different VLANs apart "
        + ("[default of the other formats]" if by_format else "[default]"),
    )
    add("--directional", action="store_true", help="count each direction as a flow of its own")
    add(
        "--no-server-ports",
        action="store_true",
        help="take the sender of a flow's first packet for the originator, even if it sends from a "
        "server's port",
    )
    add(
        "--one-sided",
        action="store_true",
        help="say in each flow that only one direction of the traffic is seen here",
    )
    _add_option(
        group, FlowOptions, "tunnel_depth", int, "N",
        "look into up to N nested tunnels",
    )  # fmt: skip
    usual = " ".join(f"{tunnel.kind.value}={tunnel.port}" for tunnel in _FLOW.tunnel_ports)
    add(
        "--tunnel-port",
        type=values.tunnel_port,
        action="append",
        default=[],
        metavar="KIND=PORT",
        help="look for tunnels of this kind on this port of UDP too, as vxlan=8472, or with "
        f"none=PORT for no tunnels there; may be given several times [default: {usual}]",
    )
    add(
        "--reassembled",
        action="store_true",
        help="count the IP bytes of fragments once their datagram is whole"
        + (" [as zeek and zeek-json always do]" if by_format else ""),
    )
    _add_option(
        group, FlowOptions, "fragment_timeout", float, "SECONDS",
        "keep the ports of a first fragment this long for the later ones",
    )  # fmt: skip
    _add_option(
        group, FlowOptions, "max_fragmented", int, "N",
        "keep the ports of N packets in fragments at a time",
    )  # fmt: skip


# -- messages --


def add_messages(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how much is said on standard error."""
    group = parser.add_argument_group("messages")
    add = group.add_mutually_exclusive_group().add_argument
    add(
        "--quiet",
        "-q",
        action="store_true",
        help="say errors alone: no progress and no summary",
    )
    add(
        "--verbose",
        "-v",
        action="count",
        default=0,
        help="say more: how the capture was opened, and what the library does; twice: the log of "
        "the libraries below, too",
    )


def add_stats_interval(group: FlagGroup, *, does: str = "") -> None:
    """Add the flag of counters from time to time. ``does``: more that it does."""
    _add_option(
        group, StatsOptions, "interval", float, "SECONDS",
        f"print the counters on standard error every so many seconds{does}; SIGUSR1 prints them "
        "at any time", flag="--stats-interval", default="never",
    )  # fmt: skip


def add_no_names(group: FlagGroup) -> None:
    """Add the flag that leaves names out of tables."""
    group.add_argument(
        "-n",
        dest="no_names",
        action="store_true",
        help="show no names of hosts and devices in tables, but addresses and numbers alone; JSON "
        "and other records keep their fields",
    )


def add_time(parser: argparse.ArgumentParser) -> None:
    """Add the flag that limits the time of a capture."""
    parser.add_argument(
        "--duration", type=values.duration, metavar="SECONDS", help="stop after this long"
    )


def add_bounds(parser: argparse.ArgumentParser, things: str) -> None:
    """Add the flags that limit a capture. ``things``: the plural of the things that -c counts."""
    add_time(parser)
    parser.add_argument(
        "-c", dest="count", type=values.count, metavar="N", help=f"stop after N {things}"
    )


# -- a flag of an option --


def _add_option(
    group: FlagGroup,
    options: Callable[..., object],
    field: str,
    read: Callable[[str], Any],
    metavar: str,
    text: str,
    *,
    flag: str | None = None,
    default: str | None = None,
    never: bool = False,
) -> None:
    """Add the flag of an option that is a number. ``default``: in words, where it has none.

    ``never``: the flag takes that word, too.
    """
    reader = values.OptionReader(options, field, read)
    shown = _shown(getattr(_usual(options), field)) if default is None else default
    group.add_argument(
        flag or f"--{field.replace('_', '-')}",
        dest="stats_interval" if flag else field,
        type=values.OrNever(reader) if never else reader,
        metavar=metavar,
        help=f"{text} [default: {shown}]",
    )


@functools.cache
def _usual(options: Callable[..., object]) -> object:
    return options()


def _add_choice(
    group: FlagGroup, field: str, choices: tuple[str, ...], default: str, text: str
) -> None:
    group.add_argument(f"--{field}", choices=choices, help=f"{text} [default: {default}]")


def _shown(value: float | None) -> str:
    if value is None:
        return "never"
    return f"{value:g}" if isinstance(value, float) else str(value)


# -- the options of the library --


def ring_options(given: argparse.Namespace) -> tuple[XdpOptions, TpacketOptions]:
    """Return the options of each backend's rings. Raises ``OptionError``.

    AF_XDP runs several threads only with symmetric RSS. Where the command's own thread reads, CPUs
    are not of the rings.
    """
    preset: Preset = given.preset or "default"
    threads = given.threads or 1
    xdp = _set(given, ("queues", "ring_size", "chunk_size", "chunks", "huge_pages", "busy_poll"))
    if given.mode is not None:
        xdp["mode"] = XdpMode(given.mode)
    xdp["threads"] = threads if given.symmetric_rss else 1
    xdp["symmetric_rss"] = given.symmetric_rss
    tpacket = _set(given, _OF_TPACKET)
    if given.cpus is not None and not getattr(given, "own_thread", False):
        xdp["cpus"] = given.cpus[: xdp["threads"]]
        tpacket["cpus"] = given.cpus
    return (
        XdpOptions.preset(preset, **xdp),
        TpacketOptions.preset(preset, threads=threads, **tpacket),
    )


def _set(given: argparse.Namespace, options: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of these names that flags have set."""
    found = {option: getattr(given, option) for option in options}
    return {
        name: value for name, value in found.items() if value is not None and value is not False
    }


def flow_options(
    given: argparse.Namespace,
    *,
    events: tuple[type[CoreEvent], ...],
    update_interval: float | None = _FLOW.update_interval,
    like_zeek: bool = False,
) -> FlowOptions:
    """Return the options of the flow table. Raises ``OptionError``.

    ``events`` are those that the command needs. ``update_interval`` and ``like_zeek``, which puts
    VLANs and fragments together, are of the command too, and flags come before them.
    """
    options = _set(given, (*_OF_FLOWS, *_SWITCHES))
    if given.key is not None:
        options["key"] = _KEYS[given.key]
    interval = update_interval if given.update_interval is None else given.update_interval
    ignore_vlan = like_zeek if given.ignore_vlan is None else given.ignore_vlan
    if options.get("active_timeout") == values.NEVER:
        del options["active_timeout"]
    return FlowOptions(
        update_interval=None if interval == values.NEVER else interval,
        port_timeouts=_port_timeouts(given),
        tunnel_ports=_tunnel_ports(given),
        key_vlan=not ignore_vlan,
        reassembled=like_zeek or given.reassembled,
        server_ports=not given.no_server_ports,
        events=events,
        **options,
    )


def check_updates(
    parser: Parser,
    given: argparse.Namespace,
    events: tuple[type[CoreEvent], ...],
) -> None:
    """Exit with a message if ``--update-interval`` is of events that nobody wants."""
    if given.update_interval not in {None, values.NEVER} and FlowUpdated not in events:
        parser.error("--update-interval is of updated flows, and here only ended ones are wanted")


def _port_timeouts(given: argparse.Namespace) -> tuple[Any, ...]:
    kept: dict[tuple[str, int], Any] = {(t.proto, t.port): t for t in _FLOW.port_timeouts}
    for proto, port, timeout in given.port_timeout:
        kept.pop((proto, port), None)
        if timeout is not None:
            kept[proto, port] = timeout
    return tuple(kept.values())


def _tunnel_ports(given: argparse.Namespace) -> tuple[TunnelPort, ...]:
    tunnels = {tunnel.port: tunnel for tunnel in _FLOW.tunnel_ports}
    for kind, port in given.tunnel_port:
        tunnels.pop(port, None)
        if kind is not None:
            tunnels[port] = TunnelPort(kind, port)
    return tuple(tunnels.values())


# -- the capture --


def netring_of(
    given: argparse.Namespace, wanted: str | Filter | None, flow: FlowOptions, **more: Any
) -> Netring:
    """Return the ``Netring`` of the interface or the files. ``more``: its other parameters.

    Raises ``NetringError``.
    """
    from netring_bpf.netring import Netring

    if given.files is not None:
        files = given.files if len(given.files) > 1 else given.files[0]
        return Netring.replay(files, filter=wanted, flow=flow, **more)
    xdp, tpacket = ring_options(given)
    return Netring(
        given.interface,
        filter=wanted,
        backend=given.backend or "auto",
        steal=given.steal,
        flow=flow,
        xdp=xdp,
        tpacket=tpacket,
        netns=given.netns,
        **more,
    )


def capture_of(given: argparse.Namespace) -> Capture:
    """Return the ``Capture`` of whole frames of the interface. Raises ``NetringError``."""
    from netring_bpf.capture.capture import Capture

    xdp, tpacket = ring_options(given)
    return Capture(
        given.interface,
        filter=filter_of(given),
        backend=given.backend or "auto",
        steal=given.steal,
        xdp=xdp,
        tpacket=tpacket,
        netns=given.netns,
    )
