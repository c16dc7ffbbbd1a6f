"""A cache of programs for live traffic, as libpcap needs an open interface to make one.

The key has the program that libpcap makes of the same expression for a file, without an interface.
libpcap resolves host names in it anew each time, so another answer gives another key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from netring_bpf.filter.libpcap import Instruction, compile_for_interface, version
from netring_bpf.program_cache import Cache, directory

__all__ = ["live_program"]


def live_program(
    expression: str,
    interface: str,
    snaplen: int,
    netmask: int,
    for_file: Sequence[Instruction],
    *,
    optimize: bool = True,
) -> tuple[Instruction, ...]:
    """Return the program of ``compile_for_interface``, from the cache if it is there."""
    cache = Cache(directory())
    parts = ["live", version(), expression, snaplen, netmask, list(for_file), optimize]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    if kept := _program(cache.get(key)):
        return kept
    program = compile_for_interface(expression, interface, snaplen, netmask, optimize=optimize)
    cache.put(key, json.dumps(program).encode())
    return program


def _program(entry: bytes | None) -> tuple[Instruction, ...]:
    # The cache has checked the entry's digest, so it is a program that was put there.
    return () if entry is None else tuple(Instruction(*insn) for insn in json.loads(entry))
