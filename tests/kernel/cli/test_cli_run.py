"""``netring-bpf run``: several interfaces in one process, and what changes while they run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from netring_bpf.filter.libpcap import Savefile
from tests.kernel.cli.command import COMMAND, LIMIT, Lines, query, run
from tests.support.lab import Namespace, VethPair
from tests.support.patience import wait_until
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns")

PAIRS = {"pa": "sa", "pb": "sb", "pc": "sc"}


@pytest.fixture(scope="module")
def net() -> Iterator[Namespace]:
    """A namespace with the ports pa, pb and pc, each with a sender at its other end."""
    with Namespace() as namespace:
        namespace.ip("link set lo up")
        for port, sender in PAIRS.items():
            VethPair(namespace, sender, namespace, port)
        yield namespace


def captures(*ports: str, more: str = "") -> str:
    """Return the tables of captures that are named as their ports."""
    return "".join(
        f'[captures.{port}]\ninterface = "{port}"\nbackend = "tpacket_v3"\n{more}\n'
        for port in ports
    )


class Service:
    """``netring-bpf run`` with a file of this text, and what it tells systemd."""

    def __init__(self, net: Namespace, folder: Path, text: str, *environment: str) -> None:
        self.net = net
        self.file = folder / "net.toml"
        self.file.write_text(text)
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(folder / "notify"))
        self._ear.settimeout(LIMIT)
        self.process = net.popen(
            ["env", f"NOTIFY_SOCKET={folder / 'notify'}", *environment,
             COMMAND, "run", "-c", str(self.file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.err = Lines(self.process.stderr)

    def told(self, state: str) -> None:
        """Wait until systemd is told this."""
        while state not in self._ear.recv(4096).decode().split("\n"):
            pass

    def says(self, text: str) -> None:
        """Wait for a line with this text."""
        self.err.wait_for(lambda line: text in line)

    def reload(self, text: str) -> None:
        """Change the file, and wait until it is read again."""
        self.file.write_text(text)
        self.process.send_signal(signal.SIGHUP)
        self.told("RELOADING=1")
        self.told("READY=1")

    def send(self, port: str, *frames: bytes) -> None:
        assert send_frames(self.net, PAIRS[port], frames) == len(frames)

    def finish(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, list[str]]:
        """End it; return its exit status and its lines."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT), self.err.all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._ear.close()
        self.err.all()


def summary_of(lines: list[str], name: str) -> list[str]:
    """Return the last summary of a capture, from its name to its flows."""
    start = max(n for n, line in enumerate(lines) if line.startswith(f"{name} on "))
    found = []
    for line in lines[start:]:
        if not line.startswith("losses: 0 "):
            found.append(line)
        if line.endswith(" ended"):
            break
    return found


def summary(name: str, frames: int, flows: int) -> list[str]:
    return [
        f"captures.{name} on {name}:",
        f"{frames} frames received, {frames} with a flow",
        f"{frames} frames seen, {frames} passed to the host",
        "0 frames dropped by the kernel, 0 events lost",
        f"{flows} flows started, {flows} ended",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_several_interfaces_run_in_one_process(
    net: Namespace, tmp_path: Path, number: signal.Signals
) -> None:
    with Service(net, tmp_path, captures("pa", "pb")) as service:
        service.told("READY=1")
        service.send("pa", query(1), query(2), query(2))
        service.send("pb", query(3))
        status, lines = service.finish(number)
        service.told("STOPPING=1")
    assert status == 0
    assert sorted(lines[:2]) == [
        f"netring-bpf: captures.{port}: capturing on {port} (tpacket_v3)" for port in ("pa", "pb")
    ]
    assert summary_of(lines, "captures.pa") == summary("pa", 3, 2)
    assert summary_of(lines, "captures.pb") == summary("pb", 1, 1)
    assert not any("books off" in line for line in lines)


def test_what_does_not_change_keeps_running_through_sighup(net: Namespace, tmp_path: Path) -> None:
    with Service(net, tmp_path, captures("pa", "pb")) as service:
        service.told("READY=1")
        service.send("pa", query(1))
        service.send("pb", query(1))
        service.reload(captures("pa", "pc"))
        service.send("pa", query(1), query(2))
        service.send("pc", query(4))
        status, lines = service.finish()
    assert status == 0
    assert "netring-bpf: captures.pb: removed" in lines
    assert "netring-bpf: captures.pc: added" in lines
    assert [line for line in lines if line.startswith("netring-bpf: captures.pa")] == [
        "netring-bpf: captures.pa: capturing on pa (tpacket_v3)"
    ]
    # One flow holds packets from before and after the change.
    assert summary_of(lines, "captures.pa") == summary("pa", 3, 2)
    assert summary_of(lines, "captures.pb") == summary("pb", 1, 1)
    assert summary_of(lines, "captures.pc") == summary("pc", 1, 1)


def test_no_frame_is_lost_while_the_file_is_read_again(net: Namespace, tmp_path: Path) -> None:
    with Service(net, tmp_path, captures("pa")) as service:
        service.told("READY=1")
        for round_ in range(10):
            service.file.write_text(captures("pa", *(["pb"] if round_ % 2 else [])))
            service.process.send_signal(signal.SIGHUP)
            service.send("pa", *(query(1000 + n) for n in range(200)))
            service.told("RELOADING=1")
            service.told("READY=1")
        status, lines = service.finish()
    assert status == 0
    assert summary_of(lines, "captures.pa") == summary("pa", 2000, 200)


def test_a_filter_changes_without_the_end_of_a_flow(net: Namespace, tmp_path: Path) -> None:
    with Service(net, tmp_path, captures("pa")) as service:
        service.told("READY=1")
        service.send("pa", query(1))
        service.reload(captures("pa", more='filter = "udp src port 1"'))
        service.says("captures.pa: filter changed")
        service.send("pa", query(1), query(2))
        service.reload(captures("pa", more='filter = "udp src port 2"\n'))
        service.send("pa", query(1), query(2), query(2))
        status, lines = service.finish()
    assert status == 0
    assert lines.count("netring-bpf: captures.pa: capturing on pa (tpacket_v3)") == 1
    assert summary_of(lines, "captures.pa")[1] == "4 frames received, 4 with a flow"
    assert summary_of(lines, "captures.pa")[-1] == "2 flows started, 2 ended"


def test_what_no_running_capture_can_change_begins_again(net: Namespace, tmp_path: Path) -> None:
    with Service(net, tmp_path, captures("pa")) as service:
        service.told("READY=1")
        service.send("pa", query(1))
        service.reload(captures("pa", more="[captures.pa.flow]\nidle_udp = 5\n"))
        service.says("captures.pa: begins again, for flow changed")
        wait_until(
            lambda: service.err._lines.count(
                "netring-bpf: captures.pa: capturing on pa (tpacket_v3)"
            ) == 2
        )  # fmt: skip
        service.send("pa", query(2), query(3))
        status, lines = service.finish()
    assert status == 0
    assert lines.count("1 flows started, 1 ended") == 1
    assert summary_of(lines, "captures.pa") == summary("pa", 2, 2)


def test_what_sighup_removes_ends_well_at_a_signal(net: Namespace, tmp_path: Path) -> None:
    pytest.importorskip("aiomqtt")
    hub = '[mqtt.hub]\nurl = "mqtt://127.0.0.1:1"\ndrain_timeout = 1\ncaptures = ["pa"]\n'
    with Service(net, tmp_path, captures("pa", "pb", "pc") + hub) as service:
        service.told("READY=1")
        service.send("pa", query(1))
        service.file.write_text(captures("pc"))
        service.process.send_signal(signal.SIGHUP)
        service.says("captures.pb on pb:")  # pb has ended, and pa waits for its broker
        status, lines = service.finish()
    assert status == 0
    assert "netring-bpf: mqtt://127.0.0.1:1: closed with 1 flows not sent" in lines


def test_an_invalid_file_is_told_and_the_one_of_before_stays(
    net: Namespace, tmp_path: Path
) -> None:
    with Service(net, tmp_path, captures("pa")) as service:
        service.told("READY=1")
        service.reload(captures("pa", more="[captures.pa.flow]\nidle_tpc = 1\n[broken"))
        service.reload(captures("pa", more="stael = true"))
        service.file.unlink()
        service.process.send_signal(signal.SIGHUP)
        service.told("READY=1")
        service.send("pa", query(1))
        status, lines = service.finish()
    assert status == 0
    path = service.file
    assert [line for line in lines if str(path) in line] == [
        f"{path}:6: not TOML: expected ']' at the end of a table declaration",
        f"netring-bpf: {path}: not taken; all goes on as before",
        f"{path}:4: captures.pa.stael: unknown key; did you mean steal?",
        f"netring-bpf: {path}: not taken; all goes on as before",
        f"{path}: No such file or directory",
        f"netring-bpf: {path}: not taken; all goes on as before",
    ]
    assert summary_of(lines, "captures.pa") == summary("pa", 1, 1)


def test_a_file_with_mistakes_starts_nothing(net: Namespace, tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    path.write_text('[captures.a]\ninterface = "pa"\nbuffer = 0\n[mqtt.hub]\nurl = "x"\n')
    done = run(net, "run", "-c", str(path))
    assert (done.status, done.out) == (2, [])
    assert done.err == [
        f"{path}:3: captures.a.buffer: 0: must be 2 to 16777216",
        f"{path}:5: mqtt.hub.url: MQTT URL: must be mqtt://HOST[:PORT], mqtts://HOST[:PORT], "
        "ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH",
    ]
    assert run(net, "config", "--check", str(path)) == done
    path.write_text(captures("pa"))
    done = run(net, "config", "--check", str(path))
    assert (done.status, done.err) == (
        0, [f"netring-bpf: {path}: good: 1 captures, 0 sinks, 0 recorders"]
    )  # fmt: skip


# -- captures that end --


@pytest.fixture
def spare(net: Namespace) -> Iterator[VethPair]:
    """The port px, which can go away."""
    pair = VethPair(net, "sx", net, "px")
    yield pair
    net.run(["ip", "link", "del", "sx"], check=False)


def test_a_capture_that_dies_ends_no_other(net: Namespace, tmp_path: Path, spare: VethPair) -> None:
    text = captures("pa") + captures("px", more="restart = false")
    with Service(net, tmp_path, text) as service:
        service.told("READY=1")
        spare.delete()
        service.says("captures.px: capture on px: the interface is gone")
        service.send("pa", query(1))
        status, lines = service.finish()
    assert status == 1
    assert (
        "netring-bpf: captures.px: capture on px: the interface is gone (deleted, or moved to "
        "another namespace); it has ended, and the others go on"
    ) in lines
    assert summary_of(lines, "captures.pa") == summary("pa", 1, 1)


def test_a_capture_begins_again_when_its_interface_is_back(
    net: Namespace, tmp_path: Path, spare: VethPair
) -> None:
    text = captures("pa") + captures("px", more="restart_delay = 0.1\nrestart_max = 0.4")
    with Service(net, tmp_path, text) as service:
        service.told("READY=1")
        spare.delete()
        service.says("trying again, first in 0.1 s")
        service.says("there is no such interface")
        VethPair(net, "sx", net, "px")
        wait_until(lambda: sum("capturing on px" in line for line in service.err._lines) == 2)
        assert send_frames(net, "sx", [query(7)]) == 1
        status, lines = service.finish()
    assert status == 0
    assert summary_of(lines, "captures.px") == summary("px", 1, 1)
    assert re.findall(r"trying again, first in (\S+) s", "\n".join(lines))[:2] == ["0.1", "0.2"]


def test_an_interface_that_is_absent_is_waited_for(net: Namespace, tmp_path: Path) -> None:
    text = captures("pa") + captures("none", more="restart_delay = 0.1")
    with Service(net, tmp_path, text) as service:
        service.told("READY=1")
        service.says("captures.none: ")
        service.send("pa", query(1))
        status, lines = service.finish()
    assert status == 1  # it did not run at the end
    assert summary_of(lines, "captures.pa") == summary("pa", 1, 1)


def test_a_capture_that_has_changed_tells_its_error_again(net: Namespace, tmp_path: Path) -> None:
    pause = "restart_delay = 600\nrestart_max = 600\n"
    with Service(net, tmp_path, captures("pa") + captures("none", more=pause)) as service:
        service.told("READY=1")
        service.says("captures.none: ")
        service.reload(captures("pa") + captures("none", more=f'{pause}filter = "udp"'))
        wait_until(lambda: sum("no such interface" in line for line in service.err._lines) == 2)
        status, lines = service.finish()
    assert status == 1
    first, changed, second = (line for line in lines if "captures.none: " in line)
    assert first.endswith("trying again, first in 600 s")
    assert changed == "netring-bpf: captures.none: changed; trying again"
    assert second == first


def test_the_process_ends_when_nothing_runs_any_more(net: Namespace, tmp_path: Path) -> None:
    with Service(net, tmp_path, captures("none", more="restart = false")) as service:
        assert service.process.wait(LIMIT) == 1
        assert service.err.all()[-1] == "netring-bpf: nothing runs any more"


# -- recorders --


def frames_of(path: Path) -> int:
    with Savefile(path) as file:
        return sum(1 for _ in file)


def test_recorders_run_beside_captures(net: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "all.pcap"
    ring = tmp_path / "ring.pcap"
    text = captures("pa")
    for name, path, more in (("all", file, ""), ("ring", ring, "ring_time = 60\n")):
        port = "pb" if name == "all" else "pc"
        text += (
            f'[recorders.{name}]\ninterface = "{port}"\npath = "{path}"\n'
            f'backend = "tpacket_v3"\n{more}'
        )
    with Service(net, tmp_path, text) as service:
        service.told("READY=1")
        service.send("pa", query(1))
        service.send("pb", query(1), query(2))
        service.send("pc", query(1), query(2), query(3))
        service.reload(text.replace('path = "', 'filter = "src port 9"\npath = "', 1))
        service.says("recorders.all: filter changed")
        service.send("pb", query(9), query(10))
        wait_until(lambda: "3" in service_frames(service))
        service.process.send_signal(signal.SIGUSR1)
        service.says("recorders.ring: wrote ")
        status, lines = service.finish()
    assert status == 0
    assert frames_of(file) == 3
    assert sum(map(frames_of, tmp_path.glob("ring-*.pcap"))) == 3
    start = max(n for n, line in enumerate(lines) if line == "recorders.all on pb:")
    assert lines[start + 1].startswith("3 frames written to 1 files, ")


def test_a_recorder_of_one_file_goes_on_through_a_change_that_needs_another(
    net: Namespace, tmp_path: Path
) -> None:
    file = tmp_path / "all.pcap"
    text = f'[recorders.all]\ninterface = "pb"\npath = "{file}"\nbackend = "tpacket_v3"\n'
    with Service(net, tmp_path, text) as service:
        service.told("READY=1")
        service.send("pb", query(1))
        service.reload(f"{text}steal = true\n")
        service.says(
            "recorders.all: goes on as before: its file exists, so this change needs another path"
        )
        service.send("pb", query(2), query(3))
        service.reload(text)
        service.says("read again, no changes")
        status, lines = service.finish()
    assert status == 0
    assert frames_of(file) == 3
    assert lines.count("recorders.all on pb:") == 1


def service_frames(service: Service) -> list[str]:
    """Ask for the counters, and return the frames that recorders hold or have written."""
    before = len(service.err._lines)
    service.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: any("recorders.ring on" in line for line in service.err._lines[before:]))
    return re.findall(r"^(\d+) frames seen", "\n".join(service.err._lines[before:]), re.MULTILINE)


# -- sinks --


def test_sinks_come_and_go_while_a_capture_runs(net: Namespace, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    metrics = '[metrics.m]\naddress = "127.0.0.1:9561"\n'
    with Service(net, tmp_path, captures("pa")) as service:
        service.told("READY=1")
        service.send("pa", query(1))
        service.reload(captures("pa") + metrics)
        service.says("captures.pa: metrics.m added")
        service.send("pa", query(1))
        wait_until(lambda: 'interface="pa"' in scrape(net, 9561))
        service.reload(captures("pa") + metrics.replace("9561", "9562"))
        wait_until(lambda: 'interface="pa"' in scrape(net, 9562))
        assert scrape(net, 9561) == ""
        service.reload(captures("pa"))
        service.says("captures.pa: metrics.m removed")
        assert scrape(net, 9562) == ""
        status, lines = service.finish()
    assert status == 0
    assert summary_of(lines, "captures.pa") == summary("pa", 2, 1)


def test_a_sink_moves_from_one_capture_to_another(net: Namespace, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    metrics = '[metrics.m]\naddress = "127.0.0.1:9563"\ncapture = "pb"\n'
    with Service(net, tmp_path, captures("pa", "pb") + metrics) as service:
        service.told("READY=1")
        wait_until(lambda: 'interface="pb"' in scrape(net, 9563))
        service.reload(captures("pa", "pb") + metrics.replace("pb", "pa"))
        service.says("captures.pa: metrics.m added")
        wait_until(lambda: 'interface="pa"' in scrape(net, 9563))
        status, lines = service.finish()
    assert status == 0
    assert not any("Address already in use" in line for line in lines)


def scrape(net: Namespace, port: int) -> str:
    """Return the metrics at a port of the namespace; empty if nobody listens."""
    with net.enter():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT) as page:
                return page.read().decode()  # type: ignore[no-any-return]
        except OSError:
            return ""


def test_a_sink_that_fails_ends_no_capture(net: Namespace, tmp_path: Path) -> None:
    pytest.importorskip("aiomqtt")
    secret = tmp_path / "secret"
    secret.write_text("me\nhunter2\n")
    secret.chmod(0o644)
    text = captures("pa") + f'[mqtt.hub]\nurl = "mqtt://127.0.0.1"\ncredentials_file = "{secret}"\n'
    with Service(net, tmp_path, text) as service:
        service.told("READY=1")
        service.says("captures.pa: mqtt.hub: MQTT credentials in ")
        service.send("pa", query(1))
        status, lines = service.finish()
    assert status == 1
    assert summary_of(lines, "captures.pa") == summary("pa", 1, 1)
    assert "hunter2" not in "\n".join(lines)


def test_a_second_signal_ends_what_still_waits(net: Namespace, tmp_path: Path) -> None:
    pytest.importorskip("aiomqtt")
    text = captures("pa") + '[mqtt.hub]\nurl = "mqtt://127.0.0.1:1"\ndrain_timeout = 600\n'
    with Service(net, tmp_path, text) as service:
        service.told("READY=1")
        service.send("pa", query(1))
        service.process.send_signal(signal.SIGTERM)
        service.told("STOPPING=1")
        status, lines = service.finish()
    assert status == 1
    assert lines[-1] == "netring-bpf: stopped by a second signal, before everything was closed"


# -- systemd --


def test_the_watchdog_gets_signs_of_life(net: Namespace, tmp_path: Path) -> None:
    with Service(net, tmp_path, captures("pa"), "WATCHDOG_USEC=200000") as service:
        for _ in range(3):
            service.told("WATCHDOG=1")
        assert service.finish()[0] == 0


def test_another_process_is_watched(net: Namespace, tmp_path: Path) -> None:
    watched = f"WATCHDOG_PID={os.getpid()}"
    with Service(net, tmp_path, captures("pa"), "WATCHDOG_USEC=1000", watched) as service:
        service.told("READY=1")
        assert service.finish()[0] == 0
        service._ear.setblocking(False)
        told = []
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(service._ear.recv(4096))
    assert b"WATCHDOG=1" not in told
