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
from netring_bpf.errors import NetringError

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


@app.command()
def flows(
    interface: Annotated[str, typer.Option("--interface", "-i", help="The interface to capture.")],
    expression: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="A filter in tcpdump's language."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="JSON lines, also on a terminal (in a pipe: always).")
    ] = False,
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
    duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.0, help="Stop after so long.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("-c", metavar="N", min=1, help="Stop after N flow events.")
    ] = None,
) -> None:
    """Print flow events as they happen; Ctrl-C ends with a summary."""
    logging.basicConfig(format="netring-bpf: %(message)s", level=logging.WARNING)
    if sys.stdout is None:
        typer.echo("netring-bpf: standard output is closed; there is nowhere to print to", err=True)
        raise typer.Exit(1)
    request = FlowsRequest(
        interface=interface,
        expression=" ".join(expression or ()) or None,
        json=json or not sys.stdout.isatty(),
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
