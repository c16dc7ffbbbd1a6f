"""The configuration: each mistake with its line and key, and values as the options have them."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies

from netring_bpf import (
    DeviceOptions,
    FlowEnded,
    FlowKey,
    FlowOptions,
    MqttOptions,
    RecordOptions,
    StatsOptions,
    TpacketOptions,
    XdpOptions,
)
from netring_bpf.config import (
    CaptureConfig,
    Configuration,
    MetricsConfig,
    MqttConfig,
    RecorderConfig,
    RestartOptions,
    RunConfig,
    default_text,
    parse,
    read,
)
from netring_bpf.errors import ConfigError
from netring_bpf.events.event import TunnelKind
from netring_bpf.ring.flow_options import PortTimeout, TunnelPort
from netring_bpf.ring.options import BusyPoll
from netring_bpf.sinks.home_assistant import HomeAssistantOptions
from netring_bpf.sinks.mqtt_topics import TopicOptions

FILE = Path("net.toml")
LAN = '[captures.lan]\ninterface = "eth1"\n'


def mistakes(text: str, **more: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE, **more)  # type: ignore[arg-type]
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return [mistake.removeprefix("net.toml:") for mistake in caught.value.mistakes]


def mistakes_or_none(text: str) -> tuple[str, ...]:
    try:
        parse(text, FILE)
    except ConfigError as error:
        return error.mistakes
    return ()


def test_all_that_a_file_can_say_comes_to_the_options() -> None:
    whole = parse(
        """
        [run]
        report_interval = 60
        [captures.lan]
        interface = "eth1"
        filter = "tcp port 443"
        backend = "tpacket_v3"
        buffer = 8192
        restart = false
        restart_delay = 2
        [captures.lan.flow]
        idle_tcp = 60
        update_interval = "none"
        max_flows = 1000
        key = "host_pair"
        port_timeouts = [{ proto = "udp", port = 53, timeout = 3 }]
        tunnel_ports = [{ kind = "vxlan", port = 8472 }]
        events = ["ended"]
        [captures.lan.xdp]
        preset = "latency"
        queues = [0, 1]
        busy_poll = { budget = 32 }
        [captures.lan.tpacket]
        preset = "small-memory"
        threads = 2
        cpus = [0, 1]
        [captures.lan.stats]
        interval = 1
        local = ["10.0.0.0/8"]
        [captures.lan.devices]
        state = "devices.json"
        gone_after = "none"
        [captures.wan]
        interface = "eth2"
        [mqtt.hub]
        url = "mqtts://broker.example"
        captures = ["lan"]
        qos = 0
        kinds = ["ended"]
        credentials_file = "secret"
        stats = { enabled = false }
        [mqtt.hub.home_assistant]
        devices = 3
        [metrics.here]
        address = "127.0.0.1:9560"
        capture = "wan"
        [recorders.all]
        interface = "eth3"
        path = "/var/all.pcapng"
        rotate_size = 1000000
        max_files = 3
        """,
        FILE,
    )
    assert whole == Configuration(
        run=RunConfig(report_interval=60),
        captures={
            "lan": CaptureConfig(
                "eth1",
                filter="tcp port 443",
                backend="tpacket_v3",
                buffer=8192,
                restart=RestartOptions(restart=False, restart_delay=2),
                flow=FlowOptions(
                    idle_tcp=60,
                    update_interval=None,
                    max_flows=1000,
                    key=FlowKey.HOST_PAIR,
                    port_timeouts=(PortTimeout("udp", 53, 3),),
                    tunnel_ports=(TunnelPort(TunnelKind.VXLAN, 8472),),
                    events=(FlowEnded,),
                ),
                xdp=XdpOptions(queues=(0, 1), busy_poll=BusyPoll(budget=32)),
                tpacket=TpacketOptions.small_memory(threads=2, cpus=(0, 1)),
                stats=StatsOptions(interval=1, local=("10.0.0.0/8",)),
                devices=DeviceOptions(state=Path("devices.json"), gone_after=None),
            ),
            "wan": CaptureConfig("eth2"),
        },
        mqtt={
            "hub": MqttConfig(
                "mqtts://broker.example",
                captures=("lan",),
                options=MqttOptions(
                    qos=0,
                    kinds=(FlowEnded,),
                    credentials_file=Path("secret"),
                    stats=TopicOptions(enabled=False, interval=1.0),
                    home_assistant=HomeAssistantOptions(devices=3),
                ),
            )
        },
        metrics={"here": MetricsConfig("127.0.0.1:9560", "wan")},
        recorders={
            "all": RecorderConfig(
                "eth3",
                Path("/var/all.pcapng"),
                options=RecordOptions(rotate_size=1_000_000, max_files=3),
            )
        },
    )
    assert list(whole.sinks_of("lan")) == ["mqtt.hub"]
    assert list(whole.sinks_of("wan")) == ["metrics.here"]


# -- the default --


def test_the_default_is_one_capture_with_all_defaults() -> None:
    assert parse(default_text(), FILE) == Configuration(captures={"lan": CaptureConfig("eth1")})


def test_each_setting_of_the_default_says_the_default() -> None:
    uncommented = re.sub(r"^#(?=[a-z\[\]{])", "", default_text(), flags=re.MULTILINE)
    # The recorder would contend with the capture for the interface.
    uncommented = uncommented.replace('interface = "eth1"\n# the file', 'interface = "eth2"\n#')
    whole = parse(uncommented, FILE)
    assert whole == Configuration(
        captures={
            "lan": CaptureConfig(
                "eth1", devices=DeviceOptions(), xdp=XdpOptions(busy_poll=BusyPoll())
            )
        },
        mqtt={
            "hub": MqttConfig(
                "mqtts://broker.example",
                options=MqttOptions(home_assistant=HomeAssistantOptions()),
            )
        },
        metrics={"prometheus": MetricsConfig("127.0.0.1:9560")},
        recorders={"all": RecorderConfig("eth2", Path("/var/log/netring-bpf/eth1.pcapng"))},
    )


@pytest.mark.parametrize(
    "cls",
    [FlowOptions, XdpOptions, TpacketOptions, StatsOptions, DeviceOptions, MqttOptions, BusyPoll,
     RecordOptions, TopicOptions, HomeAssistantOptions],
)  # fmt: skip
def test_the_default_has_each_option_with_words_before_it(cls: type) -> None:
    text = default_text()
    for field in dataclasses.fields(cls):
        if not field.init or field.name in {"info", "link", "events", "stats", "top", "devices"}:
            continue  # tables of their own
        if field.name in {"home_assistant", "busy_poll"}:
            assert re.search(rf"^#\[.*\.{field.name}\]$", text, re.MULTILINE)
        else:
            assert re.search(rf"^#{field.name} = ", text, re.MULTILINE)
    for table in text.split("\n\n"):
        settings = [n for n, line in enumerate(table.splitlines()) if re.match(r"#?\w+ = ", line)]
        assert all(table.splitlines()[0].startswith("# ") for _ in settings)


# -- mistakes --


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["1: nothing to do: give a [captures.NAME] or a [recorders.NAME]"]),
        ("[capture.lan]\n", ["1: capture: unknown key; did you mean captures?"]),
        ("\ncaptures = 1\n", ["2: captures: must be tables with names, as [captures.NAME]"]),
        (
            '[captures]\ninterface = "eth1"\n',
            ["2: captures.interface: must be a table with a name of its own, as [captures.NAME] "
             "with interface in it"],
        ),
        (
            '[captures."a b"]\ninterface = "eth1"\n',
            ['1: captures."a b": the name must be 1 to 64 letters, digits, - _ and .'],
        ),
        ("[captures.lan]\n", ["1: captures.lan: interface is missing, and must be given"]),
        ("run = 1\n" + LAN, ["1: run: must be a table: [run]"]),
        (
            LAN + "intreface = 1\n",
            ["3: captures.lan.intreface: unknown key; did you mean interface?"],
        ),
        (LAN + "zzz = 1\n", ["3: captures.lan.zzz: unknown key"]),
        (LAN + "steal = 1\n", ["3: captures.lan.steal: must be true or false, not a whole number"]),
        (LAN + "buffer = 4e3\n", ["3: captures.lan.buffer: must be a whole number, not a number"]),
        (
            LAN + "buffer = true\n",
            ["3: captures.lan.buffer: must be a whole number, not true or false"],
        ),
        (LAN + "buffer = 1\n", ["3: captures.lan.buffer: 1: must be 2 to 16777216"]),
        (
            LAN + "buffer = 9223372036854775808\n",
            ["3: captures.lan.buffer: must be a number of at most 64 bits"],
        ),
        (
            LAN + 'backend = "afxdp"\n',
            ["3: captures.lan.backend: 'afxdp': must be one of auto, af_xdp, tpacket_v3; did you "
             "mean af_xdp?"],
        ),
        (LAN + "hosts = 'f'\n", ["3: captures.lan.hosts: must be a list, not a text"]),
        (
            LAN + "hosts = [\n'',\n3]\n",
            ["4: captures.lan.hosts[0]: must be a path, not an empty text"],
        ),
        (LAN + "flow = 1\n", ["3: captures.lan.flow: must be a table, [captures.lan.flow]"]),
        (
            LAN + "[captures.lan.flow]\nidle_udp = -1\nidle_tcp = nan\nidle_icmp = inf\n",
            ["4: captures.lan.flow.idle_udp: -1.0: must be from 0.001 to 1000000 seconds",
             "5: captures.lan.flow.idle_tcp: nan: must be from 0.001 to 1000000 seconds",
             "6: captures.lan.flow.idle_icmp: inf: must be from 0.001 to 1000000 seconds"],
        ),
        (
            LAN + '[captures.lan.flow]\nupdate_interval = "never"\n',
            ['4: captures.lan.flow.update_interval: must be a number, or "none", not a text'],
        ),
        (
            LAN + "[captures.lan.flow]\nidle_tcp = 2026-01-01\n",
            ["4: captures.lan.flow.idle_tcp: must be a number, not a date or time"],
        ),
        (
            LAN + '[captures.lan.flow]\nport_timeouts = [\n  { proto = "udp", prt = 53 },\n]\n',
            ["5: captures.lan.flow.port_timeouts[0].prt: unknown key; did you mean port?"],
        ),
        (
            LAN + '[captures.lan.flow]\nport_timeouts = [\n  { proto = "udp", port = 70000,'
            " timeout = 1 },\n]\n",
            ["5: captures.lan.flow.port_timeouts[0].port: 70000: must be from 0 to 65535"],
        ),
        (
            LAN + '[captures.lan.flow]\nevents = ["ended", "end"]\n',
            ["4: captures.lan.flow.events[1]: 'end': must be one of started, established, updated, "
             "ended, app, neighbour; did you mean ended?"],
        ),
        (
            LAN + "[captures.lan.xdp]\nchunks = 64\nring_size = 128\n",
            ["4: captures.lan.xdp.chunks: 64: must be a power of two from ring_size to 1048576"],
        ),
        (
            LAN + "[captures.lan.tpacket]\nthreads = 2\ncpus = [1]\n",
            ["5: captures.lan.tpacket.cpus: (1,): must be the number of a CPU for each thread, of "
             "which there are 2"],
        ),
        (
            LAN + "restart_delay = 99\n",
            ["1: captures.lan: restart_max=60.0: must be from restart_delay to 86400 seconds"],
        ),
        (
            LAN + "restart_delay = 9\nrestart_max = 3\n",
            ["4: captures.lan.restart_max: 3.0: must be from restart_delay to 86400 seconds"],
        ),
        (
            LAN + '[recorders.x]\ninterface = "e"\npath = "a"\nmax_files = 3\n',
            ["6: recorders.x.max_files: needs rotate_size or rotate_time"],
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_key(text: str, told: list[str]) -> None:
    assert mistakes(text) == told


def test_a_flood_of_mistakes_is_told_in_part() -> None:
    told = mistakes(LAN + "".join(f"key{n} = {n}\n" for n in range(30_000)))
    assert len(told) == 101
    assert told[0] == "3: captures.lan.key0: unknown key"
    assert told[-1] == " 29900 more mistakes"


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    told = mistakes(
        LAN + 'steel = 1\n[mqtt.a]\nurl = "mqtt://"\nqos = 3\n[metrics.m]\naddress = 1\n'
    )
    assert [line.partition(": ")[0] + ":" + line.split(": ")[1] for line in told] == [
        "3:captures.lan.steel", "5:mqtt.a.url", "6:mqtt.a.qos", "8:metrics.m.address",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            LAN + 'interface = "eth2"\n',
            ["3: captures.lan.interface: given twice; line 2 has it already"],
        ),
        (LAN + "[captures.lan]\n", ["3: captures.lan: given twice; line 1 has it already"]),
        (LAN + "steal = yes\n", ["3: captures.lan.steal: not TOML: invalid value"]),
        (LAN + "steal = \n", ["3: captures.lan.steal: not TOML: invalid value"]),
        ("x = " + "[" * 100_000, ["1: not TOML: lists or tables are nested too deeply"]),
        ("x = " + "1" * 9999, ["1: x: not TOML: a number has too many digits"]),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(text: str, told: list[str]) -> None:
    assert mistakes(text) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            LAN + '[captures.b]\ninterface = "eth1"\n',
            ["4: captures.b.interface: 'eth1' is the interface of captures.lan too: both need "
             'backend = "tpacket_v3", as AF_XDP takes all frames for one of them'],
        ),
        (
            LAN + '[mqtt.hub]\nurl = "mqtt://h"\ncaptures = ["lam"]\n',
            ["5: mqtt.hub.captures[0]: there is no capture 'lam'; did you mean lan?"],
        ),
        (
            '[recorders.r]\ninterface = "eth1"\npath = "a"\n[mqtt.hub]\nurl = "mqtt://h"\n',
            ["4: mqtt.hub: there is no capture that could publish there"],
        ),
        (
            LAN + '[mqtt.a]\nurl = "mqtt://h"\n[mqtt.b]\nurl = "mqtt://h:1883"\n',
            ["5: mqtt.b: mqtt.b of captures.lan and mqtt.a of captures.lan would publish on the "
             "same topics: give one a node or a prefix of its own, in a table of its own"],
        ),
        (
            LAN + '[captures.wan]\ninterface = "eth2"\n[mqtt.a]\nurl = "mqtt://h"\nnode = "n"\n',
            ["7: mqtt.a.node: mqtt.a of captures.wan and mqtt.a of captures.lan would publish on "
             "the same topics: give one a node or a prefix of its own, in a table of its own"],
        ),
        (
            LAN + '[captures.wan]\ninterface = "eth2"\n[mqtt.a]\nurl = "mqtt://h"\n'
            'client_id = "n"\n',
            ["7: mqtt.a.client_id: only one capture can have it, and 2 publish there: name one in "
             "captures, and give the others tables of their own"],
        ),
        (
            LAN + '[captures.lan.flow]\nevents = ["started"]\n[mqtt.a]\nurl = "mqtt://h"\n'
            'kinds = ["ended"]\n',
            ["7: mqtt.a.kinds: captures.lan.flow.events does not make all of these events"],
        ),
        (
            LAN + '[captures.wan]\ninterface = "eth2"\n[metrics.m]\naddress = "127.0.0.1:1"\n',
            ["5: metrics.m: capture is missing: it must name one of the 2 captures"],
        ),
        (
            LAN + '[metrics.m]\naddress = "127.0.0.1:1"\n[metrics.n]\naddress = "127.0.0.1:1"\n',
            ["6: metrics.n.address: metrics.m listens there already"],
        ),
        (
            '[recorders.a]\ninterface = "e"\npath = "f"\n[recorders.b]\ninterface = "g"\n'
            'path = "f"\n',
            ["6: recorders.b.path: recorders.a writes this file already"],
        ),
    ],
)  # fmt: skip
def test_what_contradicts_is_told(text: str, told: list[str]) -> None:
    assert mistakes(text) == told


def test_a_filter_that_libpcap_refuses_is_told() -> None:
    (told,) = mistakes(LAN + 'filter = "tcp prot 443"\n')
    assert told.startswith("3: captures.lan.filter: ")
    assert "prot" in told


def test_a_list_of_hosts_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("10.0.0.1\nno address\n")
    (told,) = mistakes(LAN + f"hosts = ['{tmp_path / 'bad'}']\n")
    assert told.startswith("3: captures.lan.hosts[0]: ")


# -- secrets --


@pytest.mark.parametrize(
    "line", ['url = "mqtt://me:hunter2@h"', 'url = ["hunter2"]', 'password = "hunter2"\nurl = "mqtt://h"']
)  # fmt: skip
def test_no_message_shows_a_secret(line: str) -> None:
    text = LAN + f"[mqtt.hub]\n{line}\n"
    (told,) = mistakes(text)
    assert told.startswith("4: mqtt.hub.")
    assert "hunter2" not in told
    (told,) = mistakes(text, exposed="its mode is 0644, every user can read or change it")
    assert ("of this file, its mode is 0644" in told) is ("url = [" not in line)


def test_a_path_may_begin_with_a_folder_of_the_service() -> None:
    text = (
        LAN + '[mqtt.hub]\nurl = "mqtt://h"\ncredentials_file = "${CREDENTIALS_DIRECTORY}/mqtt"\n'
    )
    for written in (text, text.replace("${CREDENTIALS_DIRECTORY}", "$CREDENTIALS_DIRECTORY")):
        parse(written, FILE)
        whole = parse(written, FILE, {"CREDENTIALS_DIRECTORY": "/run/credentials/x"})
        assert whole.mqtt["hub"].options.credentials_file == Path("/run/credentials/x/mqtt")
        assert mistakes(written, environment={}) == [
            "5: mqtt.hub.credentials_file: $CREDENTIALS_DIRECTORY is not set; systemd sets it for "
            "a service that asks for it"
        ]
    (told,) = mistakes(text.replace("CREDENTIALS_DIRECTORY", "HOME"))
    assert told.startswith("5: mqtt.hub.credentials_file: $HOME: a path may begin with ")


# -- files --


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * ((1 << 20) + 1))
    (tmp_path / "open").write_text(LAN)
    (tmp_path / "open").chmod(0o666)
    (tmp_path / "latin").write_bytes(b"[captures.lan]\n# caf\xe9\n")
    for name, told in (
        ("absent", "absent: No such file or directory"),
        (".", f"{tmp_path}: Is a directory"),
        ("fifo", "fifo:1: nothing to do: "),
        ("large", "large: it has more than 1048576 bytes"),
        ("open", "open: every user can change it, and with it what this process does; chmod o-w "),
        ("latin", "latin:2: not TOML: byte 0xe9 is no UTF-8"),
    ):
        with pytest.raises(ConfigError) as caught:
            read(tmp_path / name)
        assert told in str(caught.value)
        assert caught.value.path == tmp_path / name


@given(strategies.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for whole in (text, LAN + text, LAN + f"filter = {text}"):
        assert all(mistake.isprintable() for mistake in mistakes_or_none(whole))


VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats()
    | strategies.text(max_size=8),
    lambda inner: strategies.lists(inner, max_size=2)
    | strategies.dictionaries(strategies.sampled_from(["port", "proto", "kind", "x"]), inner),
    max_leaves=4,
)  # fmt: skip


@given(strategies.sampled_from(sorted(re.findall(r"^#(\w+) = ", default_text(), re.MULTILINE))),
       strategies.sampled_from(["", ".flow", ".xdp", ".stats", ".devices"]), VALUES)  # fmt: skip
def test_any_value_of_a_key_is_taken_or_refused(key: str, table: str, value: object) -> None:
    text = f"{LAN}[captures.lan{table}]\n" if table else LAN
    told = mistakes_or_none(f"{text}{key} = {_toml(value)}\n")
    assert all(mistake.startswith("net.toml:") for mistake in told)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    return "1979-05-27" if value is None else str(value).lower()
