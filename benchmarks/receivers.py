"""The receivers of ``live``: this library, the floors in C and the peers, each in a process.

A receiver is ready before anything is sent. The end of its standard input stops it; it then prints
lines of a name and a number, ``received``, ``lost`` and ``reader_ns`` among them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.generator import Load
from benchmarks.peers import install
from benchmarks.processor import RECEIVER, command_on, favour, python_on
from tests.support.lab import Namespace

__all__ = ["WAYS", "Receiver", "Running", "build", "floor", "ours", "peer"]

_HERE = Path(__file__).resolve().parent
_RING = _HERE.parent / "netring_bpf" / "ring"
_PATIENCE = 30.0  # seconds for a receiver to end
_SCAPY = """
import resource, sys, threading
from scapy.all import AsyncSniffer
count = [0]
def seen(packet): count[0] += 1
sniffer = AsyncSniffer(iface=sys.argv[1], store=False, prn=seen, started_callback=lambda: print("ready", flush=True))
sniffer.start()
sys.stdin.read()
used = resource.getrusage(resource.RUSAGE_SELF)
print("received", count[0]); print("reader_ns", int(1e9 * (used.ru_utime + used.ru_stime)), flush=True)
import os; os._exit(0)
"""  # noqa: E501
_NFSTREAM = """
import sys, threading, time
from nfstream import NFStreamer
def wait_for_socket():
    while len(open("/proc/self/net/packet").readlines()) < 2:
        time.sleep(0.02)
    time.sleep(2)  # it opens its socket before it reads
    print("ready", flush=True)
threading.Thread(target=wait_for_socket, daemon=True).start()
streamer = NFStreamer(source=sys.argv[1], n_dissections=0, n_meters=1, statistical_analysis=False,
                      idle_timeout=1, active_timeout=2)
print("received", sum(flow.bidirectional_packets for flow in streamer), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A command that runs in the namespace of the interface; ``read`` parses its output.

    ``ask`` runs before the receiver is stopped, and its output is added. ``signal`` stops the
    receiver; without one, the end of its standard input does.
    """

    name: str
    command: Sequence[str]
    ready: str = "ready"
    ask: Sequence[str] = ()
    signal: int | None = None
    read: Callable[[str], dict[str, float]] | None = None
    settle: float = 0.1  #: seconds from the last frame to the stop: five times a block's wait
    trail: Load | None = None  #: sent afterwards, to a receiver whose clock is the frames' times
    exact: bool = True  #: it counts every frame it is given
    favoured: bool = True  #: its threads run before all else on its CPU
    native: bool = False  #: it takes frames by native XDP; for others the veth needs GRO


class Running:
    """A receiver that is ready. A context manager; ``stop()`` returns its figures."""

    def __init__(self, receiver: Receiver, namespace: Namespace) -> None:
        self._receiver, self._namespace = receiver, namespace
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by close()
        self._process = namespace.popen(
            receiver.command,
            stdin=subprocess.PIPE, stdout=self._output, stderr=self._output,
        )  # fmt: skip
        if receiver.favoured:
            favour(self._process.pid)
        deadline = time.monotonic() + _PATIENCE
        while receiver.ready not in self._said():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._said()
                self.close()
                raise RuntimeError(f"{receiver.name} did not start: {said}")
            time.sleep(0.02)

    def _said(self) -> str:
        return os.pread(self._output.fileno(), 1 << 20, 0).decode(errors="replace")

    def stop(self) -> dict[str, float]:
        """Stop it and read its figures; ``reader_ns`` defaults to the process's CPU time."""
        asked = ""
        if self._receiver.ask:
            asked = self._namespace.run(self._receiver.ask).stdout
        if self._receiver.signal is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
        else:
            os.killpg(self._process.pid, self._receiver.signal)
        used = self._wait()
        return {"reader_ns": used, **(self._receiver.read or _lines)(self._said() + asked)}

    def _wait(self) -> float:
        """Wait for its end; returns its CPU time in ns."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                return 1e9 * (usage.ru_utime + usage.ru_stime)
            if time.monotonic() > deadline:
                if self._receiver.exact:
                    raise RuntimeError(f"{self._receiver.name} does not end: {self._said()}")
                # A peer that hangs has no output, and that is its result.
                os.killpg(self._process.pid, signal.SIGKILL)
                deadline = float("inf")
            time.sleep(0.01)

    def close(self) -> None:
        """Kill it and the processes it has started. Idempotent."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lines(said: str) -> dict[str, float]:
    words = (line.split() for line in said.splitlines())
    return {pair[0]: float(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}


def _found(**patterns: str) -> Callable[[str], dict[str, float]]:
    """Parse the last match of each pattern; a pattern without a match gives no figure."""

    def read(said: str) -> dict[str, float]:
        found = {name: re.findall(text, said) for name, text in patterns.items()}
        return {name: float(numbers[-1]) for name, numbers in found.items() if numbers}

    return read


# -- the receivers --

WAYS = ("af_xdp native", "af_xdp generic", "tpacket_v3")


def ours(interface: str, way: str, flows: int, names: str = "all") -> Receiver:
    """This library: a subscriber reads its flow events. ``names``: as in FlowOptions, or off."""
    backend, _, mode = way.partition(" ")
    arguments = [interface, backend, mode or "native", str(flows), names]
    command = python_on(RECEIVER, "benchmarks.live_capture", *arguments)
    name = way if names == "all" else f"{way}, names {names}"
    return Receiver(name, command, native=mode == "native")


def floor(interface: str, way: str, program: Path, how: str = "pass") -> Receiver:
    """A loop in C that reads the same ring; ``floor.c`` has the other ways, "look" and "age".

    ``way``: one of ``WAYS``, or TPACKET_V3 with its latency preset.
    """
    backend, _, mode = way.partition(" ")
    kind = "tpacket" if backend == "tpacket_v3" else "xsk"
    arguments = [kind, interface, how, *([mode] if mode else ())]
    name = f"floor, {how}: {way}"
    command = command_on(RECEIVER, str(program), *arguments)
    return Receiver(name, command, native=mode == "native")


def build(folder: Path, name: str, *flags: str, core: bool = True) -> Path:
    """Compile a program of this folder, with the C core or without."""
    program = folder / name
    sources = [str(_HERE / f"{name}.c"), *(map(str, sorted(_RING.rglob("*.c"))) if core else ())]
    warnings = ["-Wall", "-Wextra", "-Werror", f"-I{_RING}"]
    command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", *warnings, "-o", str(program), *sources]
    subprocess.run([*command, "-lpthread", "-ldl", *flags], check=True)
    return program


def peer(interface: str, name: str, folder: Path) -> Receiver:
    """Another tool, installed when it is missing."""
    program = str(install(name))
    match name:
        case "libpcap":
            loop = build(folder, "pcap_loop", "-lpcap", core=False)
            return Receiver("libpcap loop in C", command_on(RECEIVER, str(loop), interface))
        case "tcpdump":
            arguments = ["-n", "-i", interface, "-w", "/dev/null", "-B", "65536"]
            return Receiver(
                "tcpdump -w /dev/null", command_on(RECEIVER, program, *arguments),
                ready="listening on", signal=signal.SIGINT, exact=False, settle=1.2,
                read=_found(received=r"(\d+) packets captured", lost=r"(\d+) packets dropped"),
            )  # fmt: skip
        case "softflowd":
            control = str(folder / "softflowd.ctl")
            arguments = ["-d", "-i", interface, "-c", control, "-p", f"{folder}/softflowd.pid",
                         "-m", "1000000", "-B", str(64 << 20)]  # fmt: skip
            return Receiver(
                "softflowd", command_on(RECEIVER, program, *arguments),
                ready="starting data collection", signal=signal.SIGTERM, exact=False,
                trail=Load(2000, rate=10_000),  # full blocks wake it up
                ask=["softflowctl", "-c", control, "statistics"],
                read=_found(received=r"Packets processed: (\d+)"),
            )  # fmt: skip
        case "nfstream":
            command = command_on(RECEIVER, program, "-c", _NFSTREAM, interface)
            # It reports a flow when the times of later frames show that the flow is over.
            return Receiver(
                "nfstream", command, signal=signal.SIGINT, settle=1.5, exact=False, favoured=False,
                trail=Load(60, rate=20),
            )  # fmt: skip
        case "scapy":
            command = command_on(RECEIVER, program, "-c", _SCAPY, interface)
            return Receiver("scapy sniff", command, exact=False)
        case _:
            raise ValueError(f"{name} does not read from an interface here")
