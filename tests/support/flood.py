"""UDP at a high rate, made in the kernel: run by the distribution's Python, inside a namespace.

    /usr/bin/python3 -m tests.support.flood INTERFACE PACKETS_PER_SECOND SECONDS PORT...

An XDP program rewrites one frame over and over and redirects it out of the interface (live
frames): the destination ports in turn, and as the source address the clock (CLOCK_MONOTONIC, in
units of 2**22 ns), so that a receiver knows when each frame was sent.
Says "ready" when it begins, and at the end how many frames it offered in how many ns. It ends
after so many seconds, or with its standard input.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

from benchmarks.live_run import LiveRun
from tests.support.paths import ROOT

SOURCE = """
struct state { u64 start; u64 sent; };
BPF_ARRAY(states, struct state, 1);
int flood(struct xdp_md *ctx) {
    u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
    u32 zero = 0, port;
    u64 now = bpf_ktime_get_ns();
    struct state *s = states.lookup(&zero);
    if (!s || data + 60 > end) {
        return XDP_DROP;
    }
    if (s->start == 0) {
        s->start = now;
    }
    /* Ahead of the schedule: not yet. */
    if (s->sent * 1000000000ull > (now - s->start) * RATE) {
        return XDP_DROP;
    }
    port = s->sent % PORTS;
    s->sent++;
    *(u32 *)(data + 26) = bpf_htonl((u32)(now >> 22));
    *(u16 *)(data + 36) = bpf_htons(CHOOSE);
    return bpf_redirect(OUT, 0);
}
"""
BATCH = 1 << 16


def _frame() -> bytes:
    ethernet = bytes.fromhex("02000000000b02000000000a0800")
    ip = bytes.fromhex("4500002e00004000401100000a0000010a000002")
    udp = bytes.fromhex("0fa00000001a0000")
    return (ethernet + ip + udp).ljust(60, b"\0")


def main() -> None:
    headers = ROOT / "netring_bpf" / "bpf" / "headers"
    os.environ["BCC_KERNEL_SOURCE"] = str(headers)
    import bcc  # only the distribution's Python has it

    name, rate, seconds, *ports = sys.argv[1:]
    choose = "".join(f"port == {n} ? {port} : " for n, port in enumerate(ports)) + "0"
    flags = [f"-DRATE={rate}", f"-DPORTS={len(ports)}", f"-DCHOOSE=({choose})",
             f"-DOUT={socket.if_nametoindex(name)}"]  # fmt: skip
    bpf = bcc.BPF(text=SOURCE.encode(), cflags=flags)
    function = bpf.load_func(b"flood", bcc.BPF.XDP)
    flood = LiveRun(function.fd, _frame())
    print("ready", flush=True)
    begin = time.monotonic_ns()
    while time.monotonic_ns() - begin < float(seconds) * 1e9:
        flood.run(BATCH)
        if select.select([0], [], [], 0)[0]:
            break
    took = time.monotonic_ns() - begin
    state = next(iter(bpf[b"states"].values()))
    print(state.sent, took, flush=True)


if __name__ == "__main__":
    main()
