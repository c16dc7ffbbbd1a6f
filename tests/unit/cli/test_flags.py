"""The flags of the command line: the places of a filter's words, and the options of the rings."""

from __future__ import annotations

import argparse

import pytest

from netring_bpf import FlowOptions, TpacketOptions, TunnelKind, TunnelPort, XdpOptions
from netring_bpf.cli import flags, flows
from netring_bpf.cli.app import parser
from netring_bpf.errors import OptionError
from netring_bpf.ring.options import PRESETS


def parsed(*words: str) -> argparse.Namespace:
    return parser().parse_args(words)


@pytest.mark.parametrize(
    ("line", "expression", "flags"),
    [
        ("flows -i eth1", [], {}),
        ("flows -i eth1 tcp port 443", ["tcp", "port", "443"], {}),
        ("flows tcp port 443 -i eth1", ["tcp", "port", "443"], {}),
        ("flows tcp -i eth1 port 443", ["tcp", "port", "443"], {}),
        ("flows -i eth1 tcp -c 5 port 443", ["tcp", "port", "443"], {"count": 5}),
        ("flows -ieth1 -c5 tcp --json port 443", ["tcp", "port", "443"],
         {"count": 5, "json": True}),
        ("flows -i eth1 --half-open 40 tcp --one-sided", ["tcp"],
         {"half_open": 40.0, "one_sided": True}),
        ("flows -i eth1 -- tcp port 443", ["tcp", "port", "443"], {}),
        ("flows -i eth1 tcp -- port 443", ["tcp", "port", "443"], {}),
        ("flows tcp -i eth1 -- port 443", ["tcp", "port", "443"], {}),
        ("flows -i eth1 tcp -- -c 1", ["tcp", "-c", "1"], {"count": None}),
        ("flows -i eth1 tcp --", ["tcp"], {}),
        ("flows -i eth1 len - 5 > 20", ["len", "-", "5", ">", "20"], {}),
        ("flows -i eth1 len -5", ["len", "-5"], {}),
        ("flows -i eth1 -- len > -1", ["len", ">", "-1"], {}),
        ("flows -i eth1 flows", ["flows"], {}),
        ("filter tcp -i eth1 port 443", ["tcp", "port", "443"], {}),
        ("filter -i eth1 tcp --explain port 443", ["tcp", "port", "443"], {"explain": True}),
        ("filter tcp -i eth1 -- -x", ["tcp", "-x"], {}),
        ("record udp -i eth1 -w a.pcapng port 53", ["udp", "port", "53"], {}),
        ("record -i eth1 udp -w a.pcapng --max-files 3 port 53", ["udp", "port", "53"],
         {"max_files": 3}),
    ],
)  # fmt: skip
def test_the_words_of_a_filter_stand_anywhere(
    line: str, expression: list[str], flags: dict[str, object]
) -> None:
    given = parsed(*line.split())
    assert (given.interface, given.expression) == ("eth1", expression)
    assert {name: getattr(given, name) for name in flags} == flags


def test_a_word_of_a_filter_may_have_spaces_and_begin_with_a_dash() -> None:
    given = parsed("flows", "-x y", "-i", "eth1", "tcp or udp")
    assert given.expression == ["-x y", "tcp or udp"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("flows -i eth1 -x tcp", "flows: error: unrecognized arguments: -x"),
        ("flows -i eth1 tcp -x", "flows: error: unrecognized arguments: -x"),
        ("flows -i", "flows: error: argument --interface/-i: expected one argument"),
        ("flows -i eth1 --form json",
         "flows: error: unrecognized arguments: --form; did you mean --format?"),
        ("flows --key-vlan --ignore-vlan",
         "flows: error: argument --ignore-vlan: not allowed with argument --key-vlan"),
        ("flows --tunnel-depth 5", "flows: error: argument --tunnel-depth: 5: must be 0 to 4"),
        ("flows --tunnel-port vxlan",
         "flows: error: argument --tunnel-port: vxlan: must be KIND=PORT, as vxlan=8472, where "
         "KIND is vxlan, vxlan-gpe, geneve, gtpu, gre, mpls, l2tp, capwap, lisp, teredo, ayiya or "
         "none"),
        ("flows --events begun", "flows: error: argument --events: begun: must be some of "
         "started,established,updated,ended,app, as started,ended"),
        ("filter tcp -x", "filter: error: unrecognized arguments: -x"),
        ("record", "record: error: the following arguments are required: -w"),
        ("record -i eth1 udp", "record: error: the following arguments are required: -w"),
    ],
)  # fmt: skip
def test_wrong_usage_names_the_command(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        parsed(*line.split())
    assert exited.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    command = line.split(maxsplit=1)[0]
    assert err == f"netring-bpf {message}\ntry: netring-bpf {command} --help\n"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_the_library_s(preset: str) -> None:
    method = preset.replace("-", "_")
    expected = (
        (XdpOptions(), TpacketOptions())
        if preset == "default"
        else (getattr(XdpOptions, method)(), getattr(TpacketOptions, method)())
    )
    assert flags.ring_options(parsed("flows", "-i", "eth1", "--preset", preset)) == expected


def test_threads_are_of_tpacket_and_of_af_xdp_only_where_rss_is_symmetric() -> None:
    line = ("flows", "-i", "eth1", "--threads", "2", "--cpus", "0,1")
    assert flags.ring_options(parsed(*line)) == (
        XdpOptions(cpus=(0,)),
        TpacketOptions(threads=2, cpus=(0, 1)),
    )
    assert flags.ring_options(parsed(*line, "--symmetric-rss")) == (
        XdpOptions(threads=2, cpus=(0, 1), symmetric_rss=True),
        TpacketOptions(threads=2, cpus=(0, 1)),
    )


def test_ports_of_tunnels_are_added_moved_and_taken_away() -> None:
    def ports(*words: str) -> set[TunnelPort]:
        given = parsed("flows", "-r", "file", *words)
        return set(flows.flow_options_of(given, "json").tunnel_ports)

    usual = set(FlowOptions().tunnel_ports)
    assert ports() == usual
    vxlan, gre = TunnelPort(TunnelKind.VXLAN, 9999), TunnelPort(TunnelKind.GRE, 8472)
    assert ports("--tunnel-port", "vxlan=9999") == {*usual, vxlan}
    moved = {vxlan, gre, *(tunnel for tunnel in usual if tunnel.port != 8472)}
    assert ports("--tunnel-port", "vxlan=9999", "--tunnel-port", "gre=8472") == moved
    assert ports("--tunnel-port", "none=8472", "--tunnel-port", "none=9") == moved - {vxlan, gre}


@pytest.mark.parametrize("text", ["", "vxlan", "vxlan=", "vxlan=0", "vxlan=65536", "erspan=5"])
def test_a_wrong_port_of_a_tunnel_is_refused(text: str) -> None:
    with pytest.raises(SystemExit):
        parsed("flows", "-r", "file", "--tunnel-port", text)


def test_cpus_are_one_for_each_thread() -> None:
    given = parsed("flows", "-i", "eth1", "--threads", "2", "--cpus", "0")
    with pytest.raises(OptionError, match="a CPU for each thread"):
        flags.ring_options(given)
