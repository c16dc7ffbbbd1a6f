"""Programs for live traffic, kept: libpcap needs an open interface to make one, and 40 ms.

The key has the program that libpcap makes of the same expression for a file, which it makes at
once: host names are resolved anew each time, and another answer is another key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from netring_bpf.filter.libpcap import Instruction, compile_for_interface, version
from netring_bpf.program_cache import Cache, directory

__all__ = ["live_program"]


def live_program(
    expression: str, interface: str, snaplen: int, netmask: int, for_file: Sequence[Instruction]
) -> tuple[Instruction, ...]:
    """Return what tcpdump would compile on ``interface``: as ``compile_for_interface``."""
    cache = Cache(directory())
    parts = ["live", version(), expression, snaplen, netmask, list(for_file)]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    if kept := _program(cache.get(key)):
        return kept
    program = compile_for_interface(expression, interface, snaplen, netmask)
    cache.put(key, json.dumps(program).encode())
    return program


def _program(entry: bytes | None) -> tuple[Instruction, ...]:
    """The entry has a digest and is our own: it is what was put there."""
    return () if entry is None else tuple(Instruction(*insn) for insn in json.loads(entry))
