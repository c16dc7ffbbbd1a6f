"""From nothing to a capture, and to the first event, with an empty and a warm cache.

Each row is of processes of their own, on a veth pair in a network namespace of its own: what the
imports take, ``Capture.open()``, and in another process the time to the first event: a ``Netring``
is entered, a frame is sent at once, and its ``FlowStarted`` awaited in a coroutine. The last column
begins before Python itself has started.
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
    """Two processes; with a cold cache each has an empty one."""
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
    """Measure each backend, with and without a filter, cold and warm."""
    cases, names = [], []
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
    figures = ("import", "filter", "open", "event", "process")
    rows = tuple(
        (*words, *(results.spread(name, figure).text() for figure in figures))
        for *words, name in names
    )
    columns = (
        "backend", "filter", "cache", "import", "Filter", "open", "open to first event",
        "process start to first event",
    )  # fmt: skip
    return Report("start", (Table("Milliseconds", columns, rows, 3),), figures=results.values)
