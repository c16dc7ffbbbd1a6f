"""Builds netring_bpf._core: the C files here, with api.h as the cdef."""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent.parent
_SOURCES = (
    "attach.c",
    "bpf.c",
    "checksum.c",
    "community_id.c",
    "conn_state.c",
    "csv.c",
    "decode.c",
    "dissect.c",
    "encode.c",
    "eve.c",
    "event.c",
    "extra.c",
    "fetch.c",
    "filter.c",
    "flow.c",
    "fragment.c",
    "handoff.c",
    "history.c",
    "json.c",
    "key.c",
    "link.c",
    "loop.c",
    "network.c",
    "originator.c",
    "packets.c",
    "pcap.c",
    "pcapng.c",
    "plain.c",
    "ports.c",
    "reader.c",
    "replay.c",
    "savefile.c",
    "slice.c",
    "stream.c",
    "table.c",
    "tcp.c",
    "tcp_state.c",
    "text.c",
    "timers.c",
    "timing.c",
    "tpacket.c",
    "transport.c",
    "tunnel.c",
    "words.c",
    "xsk.c",
    "zeek.c",
)
# Strict for the project's own builds and CI; a user's newer compiler must not fail on a warning.
_STRICT = ["-Wall", "-Wextra", "-Werror", "-Wno-error=cpp"] if os.environ.get("CI") else ["-Wall"]

ffibuilder = FFI()
ffibuilder.cdef((_HERE / "api.h").read_text(encoding="ascii"))
ffibuilder.set_source(
    "netring_bpf._core",
    '#include "core.h"',
    sources=[os.path.relpath(_HERE / name, _ROOT) for name in _SOURCES],
    include_dirs=[os.path.relpath(_HERE, _ROOT)],
    depends=[os.path.relpath(path, _ROOT) for path in sorted(_HERE.glob("*.h"))],
    extra_compile_args=["-std=c11", "-D_GNU_SOURCE", "-O2", "-fvisibility=hidden", *_STRICT],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(_ROOT), verbose=True)
