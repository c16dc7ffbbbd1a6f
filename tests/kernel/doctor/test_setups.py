"""Broken set-ups: the doctor names what is wrong, and its remedy mends it."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from netring_bpf import Capture, XdpMode, XdpOptions
from netring_bpf._core import ffi, lib
from netring_bpf.doctor import machine
from netring_bpf.interface import Interface
from netring_bpf.interface.netlink import RTMGRP_LINK
from netring_bpf.privileges import missing
from tests.kernel.cli.command import COMMAND, Lines
from tests.kernel.doctor.examined import MAIN, again, examine, mend, report_of
from tests.support.lab import Namespace, tap, xdp_attached
from tests.support.mounts import PrivateSystem, owner, pack
from tests.support.ordinary_user import OrdinaryUser
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, wire

pytestmark = pytest.mark.requires("root", "netns", "bcc")

XDP_PASS, XDP_FLAGS_SKB_MODE = 2, 2
WITHOUT_BPF = f"from tests.support.seccomp import BPF, deny; deny(BPF); {MAIN}"
WITHOUT_PACKETS = (
    f"from tests.support.seccomp import SOCKET, deny; deny(SOCKET, first_argument=17); {MAIN}"
)
READ_REMEDY = """
import json, sys
for finding in json.load(sys.stdin)["findings"]:
    if finding["check"] == "memory_lock":
        print(finding["remedy"] or "true")
"""


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with wire() as ns:
        yield ns


def test_a_machine_in_order_is_good_in_every_line(namespace: Namespace) -> None:
    report = examine(namespace)
    assert report.works
    assert set(report.whole) == {
        "shape", "version", "interface", "backend", "steal", "netns", "works", "findings",
    }  # fmt: skip
    assert {tuple(finding) for finding in report.whole["findings"]} == {
        ("check", "state", "found", "remedy")
    }
    assert report.not_good() <= {"kernel_options", "memory_lock", "rss"}
    assert report.found("backend") == "af_xdp, native XDP"
    for trial in ("trial_native", "trial_generic", "trial_tpacket"):
        assert report.found(trial).startswith("a frame came through, after ")


@pytest.fixture
def sudo(tmp_path: Path) -> Callable[[str], str]:
    """Makes a command run where sudo gives all rights, as it would to an administrator."""
    (tmp_path / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (tmp_path / "sudo").chmod(0o755)
    path = f"PATH={tmp_path}:{Path(COMMAND).parent}:{os.environ['PATH']}"

    def run_by(command: str) -> str:
        assert command.startswith("sudo ")
        return f"env {shlex.quote(path)} {command}"

    return run_by


def test_no_root(
    namespace: Namespace, ordinary_user: OrdinaryUser, sudo: Callable[[str], str]
) -> None:
    command = ordinary_user.command(MAIN, "doctor", "-i", PORT, "--json", capabilities=())
    report = report_of(namespace.run(command, check=False))
    assert not report.works
    assert "no backend works without CAP_NET_RAW" in report.found("capabilities")
    assert report.remedy("capabilities") == f"sudo netring-bpf doctor -i {PORT}"
    assert report.state("trial_tpacket") == "unknown"
    mended = again(namespace, sudo(report.remedy("capabilities")))
    assert mended.works
    assert mended.state("capabilities") == "good"


def test_three_capabilities_are_good(namespace: Namespace, ordinary_user: OrdinaryUser) -> None:
    held = ("net_raw", "net_admin", "bpf")
    command = ordinary_user.command(MAIN, "doctor", "-i", PORT, "--json", capabilities=held)
    report = report_of(namespace.run(command, check=False))
    assert report.works
    assert report.state("capabilities") == "good"
    assert report.found("trial_native").startswith("not tried: make a network namespace: ")


@pytest.mark.long
def test_libraries_that_are_missing_or_others() -> None:
    bcc, libpcap = "python3-bpfcc", owner("*/libpcap.so.0.8")
    # apt-get reads it as another user; the layers hide /var and all that is on /mnt.
    with (
        tempfile.TemporaryDirectory(prefix="netring-packages-", dir="/tmp") as name,
        wire() as namespace,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        pack(bcc, folder)
        pack(libpcap, folder)
        with PrivateSystem(folder, namespace.path) as system:
            system.update()
            system.remove(bcc)
            system.remove(libpcap)

            command = ["env", "NETRING_BPF_CACHE=", COMMAND, "doctor", "-i", PORT, "--json"]
            missing = report_of(system.run(command, check=False))
            assert missing.works
            assert "load BCC: not found on this machine" in missing.found("bcc")
            assert missing.found("backend").startswith("tpacket_v3: load BCC: ")
            assert "libpcap is not installed" in missing.found("libpcap")
            assert {"bcc", "libpcap", "trial_native", "trial_generic"} <= missing.not_good()
            assert missing.state("trial_tpacket") == "good"
            assert missing.remedy("bcc") == f"apt-get install --yes {bcc}"

            system.shell(
                f"cd $({sys.executable} -c 'import sysconfig; "
                'print(sysconfig.get_path("purelib"))\') && mkdir bcc && '
                "echo VERSION=1 >bcc/__init__.py"
            )
            wrong = report_of(system.run(command, check=False))
            assert "is not the BPF compiler collection" in wrong.found("bcc")
            assert "pip uninstall bcc" in wrong.found("bcc")

            system.run(["apt-get", "install", "--yes", bcc])
            system.shell("rm -r /usr/lib/python3/dist-packages/bcc")
            lost = report_of(system.run(command, check=False))
            assert lost.remedy("bcc") == f"apt-get install --reinstall --yes {bcc}"

            system.shell(lost.remedy("bcc"))
            system.shell(wrong.remedy("libpcap"))
            mended = report_of(system.run(command, check=False))
            assert mended.works
            assert {"bcc", "libpcap", "trial_native", "trial_generic"} & mended.not_good() == set()
            assert mended.found("backend") == "af_xdp, native XDP"


def test_xdp_taken_by_a_process(namespace: Namespace) -> None:
    holder = namespace.popen(
        [COMMAND, "flows", "-i", PORT, "--backend", "af_xdp", "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert holder.stderr is not None
    said = Lines(holder.stderr)
    try:
        said.wait_for(lambda line: "capturing on" in line)
        report = examine(namespace)
        assert not report.works
        assert f"of process {holder.pid}" in report.found("xdp")
        assert report.remedy("xdp") == f"kill {holder.pid}"
        assert report.state("backend") == "unknown"
        mend(namespace, report.remedy("xdp"))
        holder.wait(60)
    finally:
        holder.kill()
        holder.wait()
        said.all()
    assert examine(namespace).state("xdp") == "good"


def attach_a_foreign_program(namespace: Namespace, flags: int) -> None:
    code = (0xB7 | XDP_PASS << 32).to_bytes(8, "little") + (0x95).to_bytes(8, "little")
    program = lib.nr_program_load(6, ffi.from_buffer(code), 2, ffi.NULL, 0)
    assert program >= 0, os.strerror(-program)
    try:
        with namespace.enter():
            index = Interface.find(PORT).index
            attributes = [["IFLA_XDP_FD", program], ["IFLA_XDP_FLAGS", flags]]
            with IPRoute() as route:
                route.link("set", index=index, xdp={"attrs": attributes})
    finally:
        os.close(program)


@pytest.mark.parametrize(("flags", "word"), [(0, "xdp"), (XDP_FLAGS_SKB_MODE, "xdpgeneric")])
def test_xdp_taken_by_a_program_of_no_process(namespace: Namespace, flags: int, word: str) -> None:
    attach_a_foreign_program(namespace, flags)
    listening = examine(namespace, "--backend", "tpacket_v3")
    assert listening.works
    assert listening.state("xdp") == "warning"
    report = examine(namespace)
    assert not report.works
    assert "which no process shown by /proc holds" in report.found("xdp")
    assert report.remedy("xdp") == f"ip link set dev {PORT} {word} off"
    mend(namespace, report.remedy("xdp"))
    mended = examine(namespace)
    assert mended.works
    assert mended.found("backend") == "af_xdp, native XDP"


@pytest.mark.parametrize("mtu", [3700, 9000])
def test_an_mtu_too_large_for_native_xdp(namespace: Namespace, mtu: int) -> None:
    namespace.ip(f"link set dev {PORT} mtu {mtu}")
    report = examine(namespace)
    assert report.works
    assert report.state("mtu") == "warning"
    mend(namespace, report.remedy("mtu"))
    mended = examine(namespace)
    assert mended.state("mtu") == "good"
    assert mended.found("backend") == "af_xdp, native XDP"
    with Capture(
        PORT,
        netns=namespace.path,
        backend="af_xdp",
        xdp=XdpOptions(mode=XdpMode.NATIVE, ring_size=64, chunks=128),
    ) as capture:
        assert capture.attach == "native"


def test_a_small_memory_lock_limit(
    namespace: Namespace, ordinary_user: OrdinaryUser, sudo: Callable[[str], str]
) -> None:
    held = ("net_raw", "net_admin", "bpf")
    command = ordinary_user.command(MAIN, "doctor", "-i", PORT, "--json", capabilities=held)
    limited = ["bash", "-c", 'ulimit -l 64; exec "$@"', "bash"]
    report = report_of(namespace.run([*limited, *command], check=False))
    assert report.works
    assert report.state("memory_lock") == "warning"
    assert "the memory-lock limit is 64 KiB" in report.found("memory_lock")
    mended = again(namespace, f"{shlex.join(limited)} {sudo(report.remedy('memory_lock'))}")
    assert mended.state("memory_lock") == "good"
    assert mended.found("memory_lock") == "64 KiB, which CAP_IPC_LOCK lifts"


def test_a_small_memory_lock_limit_of_root(namespace: Namespace) -> None:
    raises = not missing("CAP_SYS_RESOURCE")
    read = shlex.join([sys.executable, "-c", READ_REMEDY])
    script = (
        'ulimit -l 64 && first=$("$@") && echo "$first" && '
        f'remedy=$(echo "$first" | {read}) && eval "$remedy" && exec "$@"'
    )
    without = "-ipc_lock"
    done = namespace.run(
        ["setpriv", "--bounding-set", without, "--inh-caps", without, "bash", "-c", script, "bash",
         COMMAND, "doctor", "-i", PORT, "--json"],
    )  # fmt: skip
    before, after = (
        report_of(subprocess.CompletedProcess([], 0, line, "")) for line in done.stdout.splitlines()
    )
    assert before.state("memory_lock") == "warning"
    assert after.state("memory_lock") == ("good" if raises else "warning")
    if raises:
        assert before.remedy("memory_lock") == "prlimit --memlock=unlimited --pid $$"


def denied(code: str, arguments: Sequence[str]) -> list[str]:
    """Return the command under a seccomp filter, outside of any service."""
    python = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-c", code]
    return ["unshare", "--cgroup", *python, *arguments]


def test_seccomp_that_denies_bpf(namespace: Namespace) -> None:
    command = denied(WITHOUT_BPF, ["doctor", "-i", PORT, "--json"])
    report = report_of(namespace.run(command, check=False))
    assert report.works
    assert "a seccomp filter denies the call" in report.found("bpf")
    assert report.remedy("bpf") == f"netring-bpf doctor -i {PORT} --backend tpacket_v3"
    assert report.found("backend").startswith("tpacket_v3: ")
    mended = again(namespace, report.remedy("bpf"), start=lambda words: denied(WITHOUT_BPF, words))
    assert mended.works
    assert mended.not_good() <= {"tcx", "kernel_options"}


@pytest.mark.parametrize("unit", ["capture.service", "capture@it's.service"])
def test_seccomp_of_a_service_gets_a_file_that_lets_bpf_through(
    unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup").write_text(f"0::/system.slice/{unit}\n")
    monkeypatch.setattr(machine, "_CONTROL_GROUP", tmp_path / "cgroup")
    remedy = machine._widen_filter()
    (tmp_path / "systemctl").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "systemctl").chmod(0o755)
    folder = f"/etc/systemd/system/{unit}.d"
    read = f"cat {shlex.quote(folder)}/*"
    script = f'mount -t tmpfs none /etc && PATH={tmp_path}:$PATH && eval "$1" && {read}'
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script, "bash", remedy],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "daemon-reload", f"restart {unit}", "[Service]", "SystemCallFilter=bpf",
    ]  # fmt: skip
    (tmp_path / "cgroup").write_text("0::/user.slice/session-1.scope\n")
    assert machine._widen_filter() == ""


def test_seccomp_that_denies_packet_sockets(namespace: Namespace) -> None:
    command = denied(WITHOUT_PACKETS, ["doctor", "-i", PORT, "--json"])
    report = report_of(namespace.run(command, check=False))
    assert not report.works
    assert "a seccomp filter denies the call" in report.found("packet_sockets")


def test_a_driver_without_native_xdp(namespace: Namespace) -> None:
    namespace.ip("link add br7 type bridge")
    namespace.ip("link set br7 up")
    report = examine(namespace, interface="br7")
    assert report.works
    assert "the driver (bridge) has no native XDP" in report.found("driver")
    assert report.remedy("driver") == f"{COMMAND} doctor -i br7 --backend tpacket_v3"
    mended = again(namespace, report.remedy("driver"))
    assert mended.works
    assert mended.state("driver") == "good"
    assert mended.found("backend") == "tpacket_v3"


def test_a_tap_is_examined(namespace: Namespace) -> None:
    with tap(namespace, "tap7"):
        namespace.ip("link set tap7 up")
        report = examine(namespace, interface="tap7")
    assert report.works
    assert report.found("interface").endswith(", tun)")
    assert report.found("backend").startswith("tpacket_v3: ")


def test_an_interface_that_is_down(namespace: Namespace) -> None:
    namespace.ip(f"link set dev {PORT} down")
    report = examine(namespace)
    assert not report.works
    assert report.remedy("link") == f"ip link set dev {PORT} up"
    mend(namespace, report.remedy("link"))
    mended = examine(namespace)
    assert mended.works
    assert mended.found("link") == "up"


def test_the_interface_of_another_namespace(namespace: Namespace) -> None:
    namespace.ip(f"link set dev {PORT} down")
    arguments = [COMMAND, "doctor", "-i", PORT, "--netns", namespace.path, "--json"]
    report = report_of(subprocess.run(arguments, capture_output=True, text=True, check=False))
    assert not report.works
    assert report.remedy("link") == f"nsenter --net={namespace.path} ip link set dev {PORT} up"
    subprocess.run(["bash", "-c", report.remedy("link")], check=True)
    assert examine(namespace).works


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("it's$(x)", "'it'\\''s$(x)'"), ("a\x1b[31m", "$'a\\x1b[31m'"), ("-i", "-i")],
)
def test_the_remedy_holds_for_a_hostile_name(namespace: Namespace, name: str, quoted: str) -> None:
    with namespace.enter(), IPRoute() as route:
        route.link("add", ifname=name, kind="bridge")
    report = examine(namespace, f"-i{name}")
    assert report.whole["interface"] == name
    assert report.remedy("link") == f"ip link set dev {quoted} up"
    mend(namespace, report.remedy("link"))
    assert examine(namespace, f"-i{name}").state("link") in {"good", "warning"}


def test_no_such_interface(namespace: Namespace) -> None:
    report = examine(namespace, interface=PORT.upper())
    assert not report.works
    assert "there is no such interface in this network namespace" in report.found("interface")
    assert report.remedy("interface") == f"{COMMAND} doctor -i {PORT}"
    assert again(namespace, report.remedy("interface")).works
    assert examine(namespace, interface="another0").remedy("interface") == "ip link"


def test_an_interface_that_is_in_use(namespace: Namespace) -> None:
    namespace.ip(f"address add 10.0.0.1/24 dev {PORT}")
    report = examine(namespace, "--backend", "af_xdp")
    assert not report.works
    assert "it has the address 10.0.0.1/24" in report.found("backend")
    mended = again(namespace, report.remedy("backend"))
    assert mended.works
    assert examine(namespace, "--backend", "af_xdp", "--steal").works


# -- what the doctor itself does --


def test_the_doctor_changes_nothing_of_the_interface(namespace: Namespace) -> None:
    with namespace.enter(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as changes:
        changes.bind((0, RTMGRP_LINK))
        changes.setblocking(False)
        examine(namespace)
        with pytest.raises(BlockingIOError):
            changes.recv(1 << 16)
        namespace.ip(f"link set dev {PORT} promisc on")
        assert changes.recv(1 << 16)
    assert not xdp_attached(namespace, PORT)


def test_a_doctor_that_is_killed_in_its_trial_leaves_nothing(namespace: Namespace) -> None:
    links = namespace.ip("-o link")
    named = subprocess.run(["ip", "netns"], check=True, capture_output=True, text=True).stdout
    process = namespace.popen([COMMAND, "doctor"], stdout=subprocess.DEVNULL)
    home, entered = namespace_of(namespace.pid), ""
    try:
        while entered in {"", home, outside()}:
            assert process.poll() is None
            time.sleep(0.001)
            entered = namespace_of(process.pid)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + PATIENCE  # a compiler that was running ends by itself
    while entered in {namespace_of(int(pid)) for pid in os.listdir("/proc") if pid.isdigit()}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert namespace.ip("-o link") == links
    again = subprocess.run(["ip", "netns"], check=True, capture_output=True, text=True).stdout
    assert again == named


def namespace_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/net")
    return ""


def outside() -> str:
    return namespace_of(os.getpid())
