"""Flows of capture files and interfaces without an event loop: by loops, and as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netring_bpf.lazy import hand_on

if TYPE_CHECKING:
    from netring_bpf.read.flow_reader import FlowReader
    from netring_bpf.read.sources import live_flows, read_flows

__all__ = ["FlowReader", "live_flows", "read_flows"]

if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    __getattr__ = hand_on(
        __name__,
        {
            "FlowReader": "netring_bpf.read.flow_reader",
            "live_flows": "netring_bpf.read.sources",
            "read_flows": "netring_bpf.read.sources",
        },
    )
