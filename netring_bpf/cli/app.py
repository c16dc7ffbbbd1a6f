"""The commands and their flags."""

from __future__ import annotations

import asyncio
import enum
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

import netring_bpf
from netring_bpf.cli.filter import FilterRequest, run_filter
from netring_bpf.cli.flows import FlowsRequest, print_flows
from netring_bpf.cli.record import RecordRequest, run_record
from netring_bpf.cli.tuning import Tuning, parse_cpus
from netring_bpf.errors import NetringError, OptionError
from netring_bpf.record import RecordOptions
from netring_bpf.ring.options import FlowKey, FlowOptions

app = typer.Typer(
    name="netring-bpf",
    help="Flows off a Linux interface, filtered in the kernel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class _Backend(enum.StrEnum):
    AUTO = "auto"
    AF_XDP = "af_xdp"
    TPACKET_V3 = "tpacket_v3"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"netring-bpf {netring_bpf.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and exit.")
    ] = False,
) -> None:
    pass


class _Engine(enum.StrEnum):
    LIBPCAP = "libpcap"
    PYTHON = "python"
    TPACKET = "tpacket"
    XDP = "xdp"


@app.command("filter")
def filter_command(
    expression: Annotated[
        list[str], typer.Argument(metavar="EXPR", help="A filter in tcpdump's language.")
    ],
    file: Annotated[
        Path | None,
        typer.Option("-r", metavar="FILE", help="Count the frames of this capture file."),
    ] = None,
    interface: Annotated[
        str | None,
        typer.Option("-i", metavar="IFACE", help="Compile as for live traffic of this interface."),
    ] = None,
    engine: Annotated[
        _Engine, typer.Option(help="What runs the filter on the frames of -r.")
    ] = _Engine.PYTHON,
    count: Annotated[
        bool,
        typer.Option(
            "--count",
            help="Print the number of matching frames; of instructions "
            "without -r. The default, beside --explain it must be asked for.",
        ),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="List the compiled program, as tcpdump -d does.")
    ] = False,
) -> None:
    """Show what a filter compiles to, or how many frames of a file match it."""
    request = FilterRequest(
        expression=" ".join(expression),
        file=file,
        interface=interface,
        engine=engine.value,
        count=count,
        explain=explain,
    )
    if file is not None and interface is not None:
        raise typer.BadParameter("-r and -i exclude each other: a file is not live traffic")
    try:
        for text in run_filter(request):
            typer.echo(text)
    except NetringError as error:
        typer.echo(f"netring-bpf: {error}", err=True)
        raise typer.Exit(1) from None


class _Format(enum.StrEnum):
    TABLE = "table"
    JSON = "json"
    ZEEK = "zeek"
    ZEEK_JSON = "zeek-json"
    EVE = "eve"
    CSV = "csv"


class _Preset(enum.StrEnum):
    DEFAULT = "default"
    THROUGHPUT = "throughput"
    LATENCY = "latency"
    SMALL_MEMORY = "small-memory"


class _Key(enum.StrEnum):
    FIVE_TUPLE = "five-tuple"
    HOST_PAIR = "host-pair"
    MAC_PAIR = "mac-pair"


@app.command()
def record(
    interface: Annotated[str, typer.Option("--interface", "-i", help="The interface to capture.")],
    file: Annotated[Path, typer.Option("-w", metavar="FILE", help="The pcapng file to write.")],
    expression: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="A filter in tcpdump's language."),
    ] = None,
    backend: Annotated[_Backend, typer.Option(help="How to capture.")] = _Backend.AUTO,
    steal: Annotated[
        bool,
        typer.Option(
            "--steal", help="Let AF_XDP take matching packets away from this host's own stack."
        ),
    ] = False,
    rotate_size: Annotated[
        int | None,
        typer.Option(metavar="BYTES", help="Begin another file before one is longer than this."),
    ] = None,
    rotate_time: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Begin another file after so long."),
    ] = None,
    max_files: Annotated[
        int | None, typer.Option(metavar="N", help="Keep only the latest so many files.")
    ] = None,
    ring_time: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Keep the last so many seconds in memory; SIGUSR1 writes them."
        ),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.0, help="Stop after so long.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("-c", metavar="N", min=1, help="Stop after N frames.")
    ] = None,
) -> None:
    """Record frames into pcapng, with nanoseconds and drop counts; Ctrl-C ends with a summary."""
    logging.basicConfig(format="netring-bpf: %(message)s", level=logging.WARNING)
    try:
        options = RecordOptions(
            rotate_size=rotate_size,
            rotate_time=rotate_time,
            max_files=max_files,
            ring_time=ring_time,
        )
    except OptionError as error:
        raise typer.BadParameter(str(error)) from None
    request = RecordRequest(
        interface=interface,
        file=file,
        expression=" ".join(expression or ()) or None,
        backend=backend.value,
        steal=steal,
        options=options,
        duration=duration,
        count=count,
    )
    try:
        run_record(request)
    except NetringError as error:
        typer.echo(f"netring-bpf: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def flows(
    interface: Annotated[
        str | None, typer.Option("--interface", "-i", help="The interface to capture.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "-r",
            metavar="FILE",
            help="A capture file instead: pcap or pcapng, gzip'd or not; - for standard input.",
        ),
    ] = None,
    expression: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="A filter in tcpdump's language."),
    ] = None,
    format: Annotated[
        _Format | None,
        typer.Option(
            "--format",
            help="How to print. zeek, zeek-json, eve and csv print flows that have "
            "ended. [default: table on a terminal, else json]",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    backend: Annotated[_Backend, typer.Option(help="How to capture.")] = _Backend.AUTO,
    steal: Annotated[
        bool,
        typer.Option(
            "--steal", help="Let AF_XDP take matching packets away from this host's own stack."
        ),
    ] = False,
    mqtt: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Publish flows too: mqtt://HOST or mqtts://HOST[:PORT]."),
    ] = None,
    mqtt_credentials: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file of mode 0600: user name, then password, a line each. Or set "
            "NETRING_MQTT_USERNAME and NETRING_MQTT_PASSWORD.",
        ),
    ] = None,
    key: Annotated[_Key, typer.Option(help="What makes packets one flow.")] = _Key.FIVE_TUPLE,
    ignore_vlan: Annotated[
        bool, typer.Option("--ignore-vlan", help="Flows are the same in all VLANs.")
    ] = False,
    directional: Annotated[
        bool, typer.Option("--directional", help="Each direction is a flow of its own.")
    ] = False,
    tunnel_depth: Annotated[
        int, typer.Option(metavar="N", min=0, max=4, help="How many tunnels to open.")
    ] = 4,
    verify_checksums: Annotated[
        bool,
        typer.Option("--verify-checksums", help="Do not believe packets whose checksum is wrong."),
    ] = False,
    active_timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="End a flow that has lasted so long, and go on."),
    ] = None,
    preset: Annotated[
        _Preset, typer.Option(help="What the rings are set up for (docs/tuning.md).")
    ] = _Preset.DEFAULT,
    threads: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Threads of TPACKET_V3; of AF_XDP with --symmetric-rss."
        ),
    ] = 1,
    cpus: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="The CPU of each thread.")
    ] = None,
    symmetric_rss: Annotated[
        bool,
        typer.Option(
            "--symmetric-rss", help="The card brings both directions of a flow to one queue."
        ),
    ] = False,
    duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.0, help="Stop after so long.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("-c", metavar="N", min=1, help="Stop after N flow events.")
    ] = None,
) -> None:
    """Print flow events as they happen, or those of a file; Ctrl-C ends with a summary."""
    logging.basicConfig(format="netring-bpf: %(message)s", level=logging.WARNING)
    if sys.stdout is None:
        typer.echo("netring-bpf: standard output is closed; there is nowhere to print to", err=True)
        raise typer.Exit(1)
    if (interface is None) == (file is None):
        raise typer.BadParameter("give either -i and an interface, or -r and a file")
    if json and format not in {None, _Format.JSON}:
        raise typer.BadParameter("--json and --format exclude each other")
    shown = format or (_Format.TABLE if sys.stdout.isatty() and not json else _Format.JSON)
    try:
        options = FlowOptions(
            key=FlowKey(key.value.replace("-", "_")),
            key_vlan=not ignore_vlan,
            directional=directional,
            tunnel_depth=tunnel_depth,
            verify_checksums=verify_checksums,
            active_timeout=active_timeout,
        )
        tuning = Tuning(preset.value, threads, parse_cpus(cpus), symmetric_rss)
        xdp, tpacket = tuning.xdp(), tuning.tpacket()
    except OptionError as error:
        raise typer.BadParameter(str(error)) from None
    request = FlowsRequest(
        interface=interface,
        file=file,
        expression=" ".join(expression or ()) or None,
        format=shown.value,
        flow=options,
        xdp=xdp,
        tpacket=tpacket,
        backend=backend.value,
        steal=steal,
        mqtt=mqtt,
        mqtt_credentials=mqtt_credentials,
        duration=duration,
        count=count,
    )
    try:
        fine = asyncio.run(print_flows(request))
    except NetringError as error:
        typer.echo(f"netring-bpf: {error}", err=True)
        raise typer.Exit(1) from None
    except asyncio.CancelledError:
        typer.echo("netring-bpf: stopped before everything was closed in peace", err=True)
        raise typer.Exit(1) from None
    if not fine:
        raise typer.Exit(1)
