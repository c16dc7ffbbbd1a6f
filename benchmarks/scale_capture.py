"""A capture with so many threads, for ``scale.py``.

    python -m benchmarks.scale_capture INTERFACE af_xdp|tpacket_v3 THREADS CPU,…

Says "ready", ends when its standard input does, and prints "name value" lines.
"""

from __future__ import annotations

import select
import sys
import threading
import time

from netring_bpf import Capture, FlowOptions, TpacketOptions, XdpMode, XdpOptions

_FLOWS = 200_000


def _cpu_ns() -> int:
    """The CPU time of the readers' threads."""
    readers = [t for t in threading.enumerate() if t.name.startswith("netring-reader")]
    return sum(time.clock_gettime_ns(time.pthread_getcpuclockid(t.ident or 0)) for t in readers)


def _take_until_told(port: Capture) -> None:
    waiter = select.poll()
    waiter.register(port.fileno(), select.POLLIN)
    waiter.register(sys.stdin.fileno(), select.POLLIN)
    while True:
        for descriptor, _ in waiter.poll():
            if descriptor == sys.stdin.fileno():
                return
            port.take(4096)


def main() -> None:
    """Capture until standard input ends, then print the figures."""
    interface, backend, threads, cpus = sys.argv[1:]
    each = {"threads": int(threads), "cpus": tuple(map(int, cpus.split(",")))}
    port = Capture(
        interface,
        backend="af_xdp" if backend == "af_xdp" else "tpacket_v3",
        xdp=XdpOptions(mode=XdpMode.NATIVE, symmetric_rss=True, **each),  # type: ignore[arg-type]
        tpacket=TpacketOptions(**each),  # type: ignore[arg-type]
        flow=FlowOptions(max_flows=_FLOWS, event_slots=1 << 18, update_interval=None),
    )
    with port:
        port.start(lambda _: None)
        print("ready", flush=True)
        _take_until_told(port)
        reader_ns = _cpu_ns()
        port.stop()
        ids = {e.flow.id % int(threads) for batch in port.finish(4096) for e in batch}
    books = port.statistics()
    for equation in books.equations():
        if not equation.holds:
            print(equation, file=sys.stderr)
    print("received", books.received)
    print("lost", books.lost)
    print("flows", books.flows.started)
    print("tables", len(ids))
    print("reader_ns", reader_ns)
    print("balanced", int(books.balanced))


if __name__ == "__main__":
    main()
