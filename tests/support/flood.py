"""UDP at a high rate, made in the kernel: run by the distribution's Python, inside a namespace.

    /usr/bin/python3 flood.py INTERFACE PACKETS_PER_SECOND SECONDS PORT...

An XDP program rewrites one frame over and over (BPF_F_TEST_XDP_LIVE_FRAMES) and redirects it out
of the interface: the destination ports in turn, and as the source address the clock
(CLOCK_MONOTONIC, in units of 2**22 ns), so that a receiver knows when each frame was sent.
Says "ready" when it begins, and at the end how many frames it offered in how many ns. It ends
after so many seconds, or with its standard input.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import socket
import sys
import time
from pathlib import Path

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
_LIVE_FRAMES = 2
_RUN = 10
_SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]


class _Attr(ctypes.Structure):
    _fields_ = (
        ("prog_fd", ctypes.c_uint32), ("retval", ctypes.c_uint32),
        ("size_in", ctypes.c_uint32), ("size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_uint64), ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32), ("duration", ctypes.c_uint32),
        ("ctx_size_in", ctypes.c_uint32), ("ctx_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_uint64), ("ctx_out", ctypes.c_uint64),
        ("flags", ctypes.c_uint32), ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32), ("pad", ctypes.c_uint32),
    )  # fmt: skip


def _frame() -> bytes:
    ethernet = bytes.fromhex("02000000000b02000000000a0800")
    ip = bytes.fromhex("4500002e00004000401100000a0000010a000002")
    udp = bytes.fromhex("0fa00000001a0000")
    return (ethernet + ip + udp).ljust(60, b"\0")


def main() -> None:
    headers = Path(__file__).resolve().parents[2] / "netring_bpf" / "bpf" / "headers"
    os.environ["BCC_KERNEL_SOURCE"] = str(headers)
    import bcc  # only the distribution's Python has it

    name, rate, seconds, *ports = sys.argv[1:]
    choose = "".join(f"port == {n} ? {port} : " for n, port in enumerate(ports)) + "0"
    flags = [f"-DRATE={rate}", f"-DPORTS={len(ports)}", f"-DCHOOSE=({choose})",
             f"-DOUT={socket.if_nametoindex(name)}"]  # fmt: skip
    bpf = bcc.BPF(text=SOURCE.encode(), cflags=flags)
    function = bpf.load_func(b"flood", bcc.BPF.XDP)
    frame = ctypes.create_string_buffer(_frame(), 60)
    libc = ctypes.CDLL(None, use_errno=True)
    print("ready", flush=True)
    begin = time.monotonic_ns()
    while time.monotonic_ns() - begin < float(seconds) * 1e9:
        attr = _Attr(
            prog_fd=function.fd, size_in=60, data_in=ctypes.addressof(frame), repeat=BATCH,
            flags=_LIVE_FRAMES,
        )  # fmt: skip
        if libc.syscall(_SYSCALL, _RUN, ctypes.byref(attr), ctypes.sizeof(attr)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if select.select([0], [], [], 0)[0]:
            break
    took = time.monotonic_ns() - begin
    state = next(iter(bpf[b"states"].values()))
    print(state.sent, took, flush=True)


if __name__ == "__main__":
    main()
