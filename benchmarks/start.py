"""From nothing to a capture, and to the first event, with an empty and a warm cache.

Each row has processes and a network namespace with a veth pair of its own. One process times the
imports and ``Capture.open()``. Another times the first event: it enters a ``Netring``, sends a
frame at once, and awaits its ``FlowStarted`` in a coroutine. The last column begins before Python
starts. The floor does as much with a raw socket and asyncio, without this library.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Case, Options, Report, Table, interleave

__all__ = ["run"]

_ROOT = Path(__file__).resolve().parents[1]
_OPEN = """
import sys, time
begin = time.perf_counter()
import netring_bpf
from netring_bpf import Capture
imported = time.perf_counter()
capture = Capture("nrb1", filter=sys.argv[1] or None, backend=sys.argv[2])
made = time.perf_counter()
capture.open()
attached = time.perf_counter()
capture.close()
print("import", imported - begin)
print("filter", made - imported)
print("open", attached - made)
"""
_FIRST_EVENT = """
import sys, time
begin = time.time_ns()
import asyncio, os, socket
import netring_bpf as nr

async def main():
    ring = nr.Netring("nrb1", filter=sys.argv[1] or None, backend=sys.argv[2])
    events = ring.subscribe(kinds=nr.FlowStarted)
    opening = time.time_ns()
    async with ring:
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender.bind(("nrb0", 0))
        opened = time.time_ns()
        sender.send(bytes.fromhex(os.environ["FRAME"]))
        await asyncio.wait_for(anext(events), 5)
        heard = time.time_ns()
        sender.close()
    print("opened", (opened - opening) / 1e9)
    print("event", (heard - opening) / 1e9)
    print("process", (heard - int(os.environ["BORN"])) / 1e9)

asyncio.run(main())
"""
_SOCKET = """
import asyncio, os, socket, time

async def main():
    receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    receiver.bind(("nrb1", 3))
    receiver.setblocking(False)
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sender.bind(("nrb0", 0))
    sender.send(bytes.fromhex(os.environ["FRAME"]))
    await asyncio.wait_for(asyncio.get_running_loop().sock_recv(receiver, 2048), 5)
    heard = time.time_ns()
    print("process", (heard - int(os.environ["BORN"])) / 1e9)

asyncio.run(main())
"""
_FLOOR = "floor: a raw socket"
_EXPRESSIONS = ("", "tcp port 80", "vlan 100 and tcp port 80")
_TCP = "4500002800000000400600000a0000010a0000020400005000000001000000005002ffff".ljust(92, "0")
_MACS = "02000000000b02000000000a"
_FRAMES = dict.fromkeys(_EXPRESSIONS, f"{_MACS}0800{_TCP}") | {
    _EXPRESSIONS[2]: f"{_MACS}810000640800{_TCP}"
}
_SETUP = """
set -e
ip link add nrb0 type veth peer name nrb1
for end in nrb0 nrb1; do
    echo 1 >/proc/sys/net/ipv6/conf/$end/disable_ipv6
    ip link set $end arp off up
done
for end in nrb0 nrb1; do
    until ip link show $end | grep -q 'noqueue state UP'; do sleep 0.01; done
done
BORN=$(date +%s%N) exec "$@"
"""


def _child(cache: str, code: str, expression: str, backend: str) -> dict[str, float]:
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", _SETUP, "sh", sys.executable, "-c", code,
         expression, backend],
        env={
            "NETRING_BPF_CACHE": cache, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(_ROOT), "FRAME": _FRAMES[expression],
        },
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {name: 1000 * float(value) for name, value in map(str.split, done.stdout.splitlines())}


def _measure(expression: str, backend: str, *, warm: bool) -> dict[str, float]:
    """Run both processes; without a warm cache, each has an empty one."""
    figures: dict[str, float] = {}
    cache = tempfile.mkdtemp(prefix="netring-bench-")
    try:
        for number, code in enumerate((_OPEN, _FIRST_EVENT)):
            place = os.path.join(cache, "0" if warm else str(number))
            if warm and number == 0:
                _child(place, _OPEN, expression, backend)
            figures |= _child(place, code, expression, backend)
    finally:
        shutil.rmtree(cache)
    return figures


def run(options: Options) -> Report:
    """Measure each backend, with and without a filter, cold and warm, beside the floor."""
    cases = [Case(_FLOOR, functools.partial(_child, "", _SOCKET, "", ""))]
    names = []
    for backend in ("af_xdp", "tpacket_v3"):
        for expression in _EXPRESSIONS[:1] if options.quick else _EXPRESSIONS:
            for warm in (False, True) if backend == "af_xdp" else (True,):
                shown = f"`{expression}`" if expression else "none"
                state = {"af_xdp": "warm" if warm else "cold"}.get(backend, "-")
                name = f"{backend}, {shown}, {state}"
                run_once = functools.partial(_measure, expression, backend, warm=warm)
                cases.append(Case(name, run_once))
                names.append((backend, shown, state, name))
    results = interleave(cases, options.rounds)
    figures = ("process", "import", "filter", "open", "event")
    rows = [(_FLOOR, "", "-", "", results.spread(_FLOOR, "process").text(), *[""] * 4)]
    for *words, name in names:
        ratio = results.ratio(name, _FLOOR, "process").text(1)
        rows.append((*words, ratio, *(results.spread(name, figure).text() for figure in figures)))
    columns = (
        "backend", "filter", "cache", "times the floor", "process start to first event", "import",
        "Filter", "open", "open to first event",
    )  # fmt: skip
    note = (
        "The floor is a process of Python with asyncio and a raw socket, from its start to its "
        "first frame; it is compared with the whole way, the column beside it."
    )
    return Report(
        "start", (Table("Milliseconds", columns, tuple(rows), 3),), (note,), results.values
    )
