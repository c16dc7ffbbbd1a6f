"""Wrong usage in two lines, the options of the library as flags, and what each flag sets."""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import (
    BusyPoll,
    FlowEnded,
    FlowKey,
    FlowOptions,
    PortTimeout,
    TpacketOptions,
    XdpMode,
    XdpOptions,
)
from netring_bpf.cli import flags
from netring_bpf.cli.app import COMMANDS, parser, run
from netring_bpf.cli.parsers import Parser
from netring_bpf.cli.values import OptionReader, OrNever
from netring_bpf.errors import FilterError
from tests.support.frames import udp
from tests.support.replay import Frame
from tests.support.savefiles import pcap

COMMAND = str(Path(sys.executable).with_name("netring-bpf"))
CAPTURING = ("flows", "devices", "top", "serve", "record")
WITH_FLOWS = ("flows", "devices", "top", "serve")


def subparsers() -> dict[str, Parser]:
    [commands] = [one for one in parser()._actions if one.nargs == argparse.PARSER]
    assert isinstance(commands.choices, dict)
    return commands.choices


def parsed(*words: str) -> argparse.Namespace:
    return parser().parse_args(words)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The two lines of a usage error."""
    with pytest.raises(SystemExit) as exited:
        run(words)
    out, err = capsys.readouterr()
    assert (exited.value.code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 2
    return lines


# -- did you mean --


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("flow", "netring-bpf: error: there is no command flow; did you mean flows?"),
        ("recrod", "netring-bpf: error: there is no command recrod; did you mean record?"),
        ("zzz", f"netring-bpf: error: there is no command zzz; there are {', '.join(COMMANDS[:-1])}"
         f" and {COMMANDS[-1]}"),
        ("--versoin",
         "netring-bpf: error: unrecognized arguments: --versoin; did you mean --version?"),
        ("flows -i x --fromat json",
         "netring-bpf flows: error: unrecognized arguments: --fromat; did you mean --format?"),
        ("flows -i x --idle-tpc=3",
         "netring-bpf flows: error: unrecognized arguments: --idle-tpc=3; did you mean "
         "--idle-tcp?"),
        ("devices -i x --event",
         "netring-bpf devices: error: unrecognized arguments: --event; did you mean --events?"),
        ("flows -i x --format tabel", "netring-bpf flows: error: argument --format: tabel: must be "
         "table, json, zeek, zeek-json, eve, csv, zeek-ssl, zeek-http, zeek-dns, zeek-quic, "
         "zeek-dhcp or zeek-ssh; did you mean table?"),
        ("record -i x -w a --backend tpacket", "netring-bpf record: error: argument --backend: "
         "tpacket: must be auto, af_xdp or tpacket_v3; did you mean tpacket_v3?"),
        ("serve -i x --preset latancy", "netring-bpf serve: error: argument --preset: latancy: "
         "must be default, throughput, latency or small-memory; did you mean latency?"),
        ("flows -i x --key host", "netring-bpf flows: error: argument --key: host: must be "
         "five-tuple, host-pair or mac-pair; did you mean host-pair?"),
        ("flows -i x --events stared,ended", "netring-bpf flows: error: argument --events: "
         "stared,ended: must be some of started,established,updated,ended,app, as started,ended; "
         "did you mean started?"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_told_with_the_right_one(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error, hint = refused(capsys, *line.split())
    assert error == told
    assert hint == f"try: {error.partition(': ')[0]} --help"


def test_a_word_like_no_other_has_no_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    [error, _] = refused(capsys, "flows", "-i", "x", "--qqqqqq")
    assert error == "netring-bpf flows: error: unrecognized arguments: --qqqqqq"


def test_a_usage_error_has_two_lines_whatever_is_quoted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["--no\nsuch"], ["a\nb"], ["flows", "-i", "x", "--format", "a\nb\x1b[2J"]):
        error, _ = refused(capsys, *words)
        assert "\x1b" not in error


# -- what goes together --


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("flows", "give either -i and an interface, or -r and a file"),
        ("flows -i a -r b", "give either -i and an interface, or -r and a file"),
        ("flows -i a -i b",
         "argument --interface/-i: b: may be given once, and a was given before"),
        ("record -r a -r b -w c", "argument -r: b: may be given once, and a was given before"),
        ("flows -r a --cpus 1", "--cpus is for -i and an interface, not for -r and a file"),
        ("devices -r a --netns b", "--netns is for -i and an interface, not for -r and a file"),
        ("serve -r a -s 96", "--snaplen is for -i and an interface, not for -r and a file"),
        ("record -r a -w b --backend auto",
         "--backend is for -i and an interface, not for -r and a file"),
        ("flows -r a --steal", "--steal is for -i and an interface, not for -r and a file"),
        ("flows -r a --ring-size 1024",
         "--ring-size is for -i and an interface, not for -r and a file"),
        ("flows -r a --retire-timeout 1",
         "--retire-timeout is for -i and an interface, not for -r and a file"),
        ("flows -i a --backend tpacket_v3 --queues 0", "--queues is not for --backend tpacket_v3"),
        ("flows -i a --backend af_xdp --block-count 4",
         "--block-count is not for --backend af_xdp"),
        ("flows -i a --backend af_xdp --threads 2",
         "argument --threads: 2: must be 1 with --backend af_xdp, unless the card brings both "
         "directions of a flow to one queue and --symmetric-rss says so"),
        ("flows -i a --threads 2 --cpus 1", "argument --cpus: 1: must be the number of a CPU for "
         "each thread, of which there are 2"),
        ("flows -i a --ring-size 4096 --chunks 1024", "argument --chunks: 1024: must be a power of "
         "two from --ring-size to 1048576"),
        ("flows -i a -F b tcp", "-F and the words of a filter exclude each other"),
        ("flows -r - -F -", "-F - and -r - exclude each other: there is one standard input"),
        ("filter -F a tcp", "-F and the words of a filter exclude each other"),
        ("filter", "give the words of a filter, or -F and a file that has them"),
        ("flows -i a --format zeek --update-interval 3",
         "--update-interval is of updated flows, and here only ended ones are wanted"),
        ("devices -r a --update-interval 3",
         "--update-interval is of updated flows, and here only ended ones are wanted"),
        ("flows -i a -q -v", "argument --verbose/-v: not allowed with argument --quiet/-q"),
        ("devices -i a --prefix x/y",
         "argument --prefix: x/y: 'x/y' does not appear to be an IPv4 or IPv6 network; a "
         "network is written as 192.168.1.0/24"),
        ("record -i a -w b --ring-bytes 9999", "--ring-bytes needs --ring-time"),
        ("record -i a -w b --max-files 3",
         "argument --max-files: needs --rotate-size or --rotate-time"),
        ("top --mqtt mqtt://x tcp",
         "--mqtt shows what was captured elsewhere: a filter is set there"),
        ("top --mqtt mqtt://x --idle-tcp 3",
         "--mqtt shows what was captured elsewhere: --idle-tcp is set there"),
        ("top -i a --mqtt-node b", "--mqtt-node needs --mqtt and a URL"),
    ],
)  # fmt: skip
def test_what_excludes_each_other_is_told(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *_ = line.split()
    assert refused(capsys, *line.split()) == [
        f"netring-bpf {command}: error: {told}",
        f"try: netring-bpf {command} --help",
    ]


def test_each_flag_of_an_interface_is_refused_with_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = {
        "queues": "0", "ring_size": "1024", "chunk_size": "2048", "chunks": "2048",
        "mode": "native", "busy_poll": "5", "block_size": "65536", "block_count": "4",
        "retire_timeout": "0.1", "netns": "x", "snaplen": "96", "backend": "auto",
        "preset": "default", "threads": "2", "cpus": "0",
    }  # fmt: skip
    for option in flags._OF_AN_INTERFACE:
        flag = subparsers()["flows"].flag_of(option)
        assert flag is not None
        value = [good[option]] if option in good else []
        error, _ = refused(capsys, "flows", "-r", "file", flag, *value)
        assert error.endswith(f": {flag} is for -i and an interface, not for -r and a file")


# -- the options of the library --


def readers(command: str) -> Iterator[tuple[argparse.Action, OptionReader[Any] | OrNever]]:
    for action in subparsers()[command]._actions:
        if isinstance(action.type, OptionReader | OrNever):
            yield action, action.type


def test_a_number_out_of_its_range_is_told_with_the_flag_and_the_range(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = 0
    for command in CAPTURING:
        for action, reader in readers(command):
            if not reader.rule:
                continue
            flag = max(action.option_strings, key=len)
            shown = "/".join(action.option_strings)
            # What has no highest value may be infinite, which is never.
            endless = () if reader.rule.startswith("at least") else ("1e400",)
            for wrong in ("-1", *endless, "nan", "many", ""):
                error, _ = refused(capsys, command, f"{flag}={wrong}")
                start = f"netring-bpf {command}: error: argument {shown}: {wrong}: must be "
                assert error.startswith(start)
                assert error.endswith(reader.rule)
            seen += 1
    assert seen > 100


@pytest.mark.parametrize("command", WITH_FLOWS)
def test_each_option_of_the_flow_table_has_a_flag(command: str) -> None:
    named = {
        "key_vlan": "--key-vlan", "server_ports": "--no-server-ports",
        "port_timeouts": "--port-timeout", "tunnel_ports": "--tunnel-port",
    }  # fmt: skip
    found = {flag for action in subparsers()[command]._actions for flag in action.option_strings}
    options = {field.name for field in dataclasses.fields(FlowOptions)} - {"events"}
    assert {named.get(name, f"--{name.replace('_', '-')}") for name in options} <= found


@pytest.mark.parametrize("command", CAPTURING)
def test_each_option_of_the_rings_has_a_flag(command: str) -> None:
    found = {flag for action in subparsers()[command]._actions for flag in action.option_strings}
    fields = (*dataclasses.fields(XdpOptions), *dataclasses.fields(TpacketOptions))
    options = {field.name for field in fields}
    if command == "record":  # one thread reads
        options -= {"threads", "symmetric_rss"}
    wanted = {"--xdp-mode" if o == "mode" else f"--{o.replace('_', '-')}" for o in options}
    also = {"--backend", "--steal", "--netns", "--snaplen", "--preset", "--filter-file", "--quiet",
            "--verbose", "--stats-interval", "-i", "-r", "-F", "-q", "-v", "-s"}  # fmt: skip
    assert wanted | also <= found


@pytest.mark.parametrize(
    "command", ["flows", "devices", "top", "filter", "record", "serve", "mqtt"]
)
def test_every_command_may_be_quiet_or_verbose(command: str) -> None:
    found = {flag for action in subparsers()[command]._actions for flag in action.option_strings}
    assert {"-q", "--quiet", "-v", "--verbose"} <= found


def test_every_command_has_the_same_flags_of_a_capture() -> None:
    def of(command: str) -> dict[str, str]:
        return {
            flag: str(action.help)
            for group in subparsers()[command]._action_groups
            if group.title in {"capture of an interface", "rings", "filter", "messages",
                               "which packets make a flow"}
            for action in group._group_actions
            for flag in action.option_strings
        }  # fmt: skip

    usual = of("devices")
    assert len(usual) > 30
    assert of("top") == of("serve") == usual
    assert list(of("flows")) == list(usual)
    record = of("record")
    assert set(record) < set(usual)


def test_the_defaults_are_the_library_s() -> None:
    given = parsed("flows", "-i", "eth1")
    assert flags.ring_options(given) == (XdpOptions(), TpacketOptions())
    assert flags.flow_options(given, events=FlowOptions().events) == FlowOptions()
    text = " ".join(subparsers()["flows"].format_help().split())
    usual = FlowOptions()
    for flag, value in (
        ("--idle-tcp", usual.idle_tcp), ("--idle-udp", usual.idle_udp),
        ("--half-open", usual.half_open), ("--update-interval", usual.update_interval),
        ("--names-memory", usual.names_memory), ("--event-slots", usual.event_slots),
    ):  # fmt: skip
        shown = text[text.index(f"{flag} ", text.index("FILTER the words")) :].partition("]")[0]
        assert shown.endswith(f"[default: {value:g}" if value < 1000 else f"[default: {value}")
    assert "(from 0.001 to 1000000 seconds) [default: 300]" in text
    assert "0.001 to 1000000 seconds, or never) [default: 30]" in text


def test_flags_set_the_options_of_the_flow_table() -> None:
    words = (
        "--idle-tcp 1 --idle-udp 2 --idle-icmp 3 --idle-other 4 --half-open 5 --close-delay 6 "
        "--active-timeout 7 --update-interval never --port-timeout udp/53=8 --port-timeout "
        "tcp/22=none --port-timeout tcp/80=9 --max-flows 10 --event-slots 2048 --key host-pair "
        "--ignore-vlan --directional --tunnel-depth 0 --verify-checksums --fragment-timeout 11 "
        "--max-fragmented 12 --reassembled --packet-statistics --first-packets 13 "
        "--no-server-ports --one-sided --sliced trust --names off --names-memory 65536"
    )
    usual = {(t.proto, t.port): t for t in FlowOptions().port_timeouts}
    del usual["udp", 53], usual["tcp", 22]
    expected = FlowOptions(
        idle_tcp=1, idle_udp=2, idle_icmp=3, idle_other=4, half_open=5, close_delay=6,
        active_timeout=7, update_interval=None,
        port_timeouts=(*usual.values(), PortTimeout("udp", 53, 8), PortTimeout("tcp", 80, 9)),
        max_flows=10, event_slots=2048, key=FlowKey.HOST_PAIR, key_vlan=False, directional=True,
        tunnel_depth=0, verify_checksums=True, fragment_timeout=11, max_fragmented=12,
        reassembled=True, packet_statistics=True, first_packets=13, server_ports=False,
        one_sided=True, sliced="trust", names="off", names_memory=65536, events=(FlowEnded,),
    )  # fmt: skip
    for command in WITH_FLOWS:
        given = parsed(command, "-i", "eth1", *words.split())
        assert flags.flow_options(given, events=(FlowEnded,), update_interval=2.0) == expected


def test_flags_set_the_options_of_the_rings() -> None:
    words = (
        "--preset throughput --queues 0,2 --ring-size 512 --chunk-size 4096 --chunks 1024 "
        "--xdp-mode generic --huge-pages --busy-poll 20,8 --block-size 65536 --block-count 5 "
        "--retire-timeout 0.5 --cpus 3"
    )
    for command in CAPTURING:
        more = ["-w", "x"] if command == "record" else []
        given = parsed(command, "-i", "eth1", *more, *words.split())
        cpus = None if command == "record" else (3,)
        assert flags.ring_options(given) == (
            XdpOptions(
                queues=(0, 2), ring_size=512, chunk_size=4096, chunks=1024, mode=XdpMode.GENERIC,
                huge_pages=True, busy_poll=BusyPoll(20, 8), cpus=cpus,
            ),
            TpacketOptions(block_size=65536, block_count=5, retire_timeout=0.5, cpus=cpus),
        )  # fmt: skip
    assert flags.ring_options(parsed("flows", "-i", "a", "--busy-poll", "7"))[0].busy_poll == (
        BusyPoll(7)
    )


@pytest.mark.parametrize(
    ("flag", "value", "rule"),
    [
        ("--port-timeout", "udp/53", "must be PROTO/PORT=SECONDS, as udp/53=10 or tcp/22=none"),
        ("--port-timeout", "x/53=1", "PROTO must be 'tcp' or 'udp'"),
        ("--port-timeout", "tcp/70000=1", "PORT must be from 0 to 65535"),
        ("--port-timeout", "tcp/70000=none", "PORT must be from 0 to 65535"),
        ("--port-timeout", "tcp/1=0", "SECONDS must be from 0.001 to 1000000 seconds"),
        ("--busy-poll", "0", "MICROSECONDS must be from 1 to 1000000"),
        ("--busy-poll", "1,0", "FRAMES must be from 1 to 512"),
        ("--busy-poll", "1,2,3", "must be MICROSECONDS or both, as 200,64"),
        ("--queues", "0,0", "must be distinct queue numbers from 0 to 63"),
        ("--queues", "x", "must be numbers of queues, as 2,3"),
        ("--cpus", "1,", "must be numbers of CPUs, as 2,3"),
        ("--snaplen", "262145", "must be from 1 to 262144 bytes"),
    ],
)
def test_a_value_of_another_form_is_told_with_its_rule(
    flag: str, value: str, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error, _ = refused(capsys, "flows", "-i", "a", flag, value)
    assert error.endswith(f": {value}: {rule}")
    assert f"argument {flag}" in error


def test_more_timeouts_of_ports_than_there_is_room_for_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = [word for port in range(9) for word in ("--port-timeout", f"tcp/{port}=1")]
    error, _ = refused(capsys, "flows", "-i", "a", *many)
    assert "error: argument --port-timeout: " in error
    assert error.endswith("must be at most 16, each of another port")


# -- a filter in a file --


def words_in(path: Path) -> str | None:
    found = flags.filter_of(parsed("flows", "-i", "eth1", "-F", str(path)))
    assert found is None or isinstance(found, str)
    return found


def test_a_filter_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "filter"
    for text, words in (
        ("tcp port 443", "tcp port 443"),
        ("tcp\nport 443 # of the web\n# and nothing else\r\n", "tcp port 443"),
        ("  # all\n\n", None),
        ("", None),
    ):
        path.write_text(text)
        assert words_in(path) == words


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b"tcp \xff"), "byte 4 is no UTF-8"),
        (lambda path: path.write_bytes(b"tcp\0"), "byte 3 is a NUL"),
        (lambda path: path.write_bytes(b"x" * (1 << 20) + b"y"), "it is longer than 1048576 bytes"),
        (lambda path: path.symlink_to("/dev/zero"), "it is longer than 1048576 bytes"),
    ],
    ids=["absent", "folder", "latin", "nul", "long", "endless"],
)
def test_a_file_that_is_no_filter_is_told(
    make: Callable[[Path], object], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "fil\x1bter"
    make(path)
    with pytest.raises(FilterError) as raised:
        words_in(path)
    shown = str(path).replace("\x1b", "\\x1b")
    assert str(raised.value) == f"read the filter from {shown}: {told}"


def test_a_filter_of_a_file_comes_from_standard_input_too(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([Frame(udp("10.0.0.1", "10.0.0.2", n, 53)) for n in (1, 2, 3)]))
    for command in (
        [COMMAND, "flows", "-r", path, "-F", "-"],
        [sys.executable, "-m", "netring_bpf", "flows", "-r", path, "-F", "-"],
    ):
        done = subprocess.run(
            command, input="src port 2 # one", capture_output=True, text=True, check=True
        )
        assert "3 frames read, 2 filtered out, 1 with a flow" in done.stderr
        assert "filter 'src port 2'" in done.stderr
    counted = subprocess.run(
        [COMMAND, "filter", "-r", path, "-F", "-"], input="src port 2 or src port 3",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert counted.stdout == "2\n"


def test_a_snaplen_holds_with_words_and_with_sets(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("10.0.0.1\n")
    for more in ([], ["tcp"], ["--hosts", str(tmp_path / "hosts")]):
        wanted = flags.filter_of(parsed("flows", "-i", "eth1", "--snaplen", "96", *more))
        assert wanted is not None
        assert not isinstance(wanted, str)
        assert wanted.snaplen == 96
        assert wanted.instructions[-1].k in {0, 96}


# -- messages --


def told(path: Path, *words: str) -> tuple[str, str]:
    command = [COMMAND, "flows", "-r", str(path), "--format", "csv", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


def test_quiet_says_nothing_but_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([Frame(udp("10.0.0.1", "10.0.0.2", 1, 53))]))
    assert told(path, "-q") == (told(path)[0], "")
    path.write_bytes(path.read_bytes()[:-1])
    out, err = told(path, "--quiet")
    assert len(out.splitlines()) == 1
    assert err.splitlines() == [line for line in err.splitlines() if "at byte" in line]
    assert err.startswith(f"netring-bpf: read capture file {path}: at byte")


def test_verbose_tells_of_the_files(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b.pcap"
    path.write_bytes(pcap([]))
    shown = str(path).replace("\x1b", "\\x1b")
    assert f"netring-bpf: {shown}: 24 bytes, not packed\n" in told(path, "-v")[1]
    assert "24 bytes" not in told(path)[1]


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "netring_bpf"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("netring-bpf ")
    wrong = subprocess.run([*command, "flows"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.endswith("\ntry: netring-bpf flows --help\n")
    ended = subprocess.run(
        [*command, "flows", "-r", os.devnull], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
