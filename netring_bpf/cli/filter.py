"""``netring-bpf filter``: what an expression compiles to, and what it says of a capture file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from netring_bpf.bpf.engines import EngineName, open_engine
from netring_bpf.filter.filter import Filter
from netring_bpf.filter.libpcap import Savefile

__all__ = ["FilterRequest", "run_filter"]


@dataclass(frozen=True, slots=True)
class FilterRequest:
    """The flags of the command."""

    expression: str
    file: Path | None
    interface: str | None
    engine: EngineName
    count: bool
    explain: bool


def run_filter(request: FilterRequest) -> Iterator[str]:
    """Yield the lines to print. Raises ``NetringError``."""
    if request.file is not None:
        yield from _on_file(request, request.file)
        return
    program = Filter(request.expression)
    if request.interface is not None:
        program = program.for_interface(request.interface)
    if request.explain:
        yield program.explain()
    if request.count or not request.explain:
        yield str(len(program.instructions))


def _on_file(request: FilterRequest, path: Path) -> Iterator[str]:
    with Savefile(path) as savefile:
        program = Filter(request.expression, linktype=savefile.linktype, snaplen=savefile.snaplen)
        if request.explain:
            yield program.explain()
        if request.count or not request.explain:
            with open_engine(request.engine, program) as engine:
                yield str(sum(engine.matches(*frame) for frame in savefile))
