"""Opens interfaces and capture files, and hands out their packets and flow events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netring_bpf.lazy import hand_on

if TYPE_CHECKING:
    from netring_bpf.capture.backend import Backend
    from netring_bpf.capture.capture import Capture
    from netring_bpf.capture.replay import Replay
    from netring_bpf.capture.source import Source
    from netring_bpf.filter.filter_set import FilterLike
    from netring_bpf.interface import LinkChange
    from netring_bpf.ring.flow_options import FlowOptions
    from netring_bpf.ring.names import AddressNames
    from netring_bpf.ring.options import TpacketOptions, XdpOptions

__all__ = [
    "AddressNames",
    "Backend",
    "Capture",
    "FilterLike",
    "FlowOptions",
    "LinkChange",
    "Replay",
    "Source",
    "TpacketOptions",
    "XdpOptions",
]

if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    __getattr__ = hand_on(
        __name__,
        {
            "AddressNames": "netring_bpf.ring.names",
            "Backend": "netring_bpf.capture.backend",
            "Capture": "netring_bpf.capture.capture",
            "FilterLike": "netring_bpf.filter.filter_set",
            "FlowOptions": "netring_bpf.ring.flow_options",
            "LinkChange": "netring_bpf.interface",
            "Replay": "netring_bpf.capture.replay",
            "Source": "netring_bpf.capture.source",
            "TpacketOptions": "netring_bpf.ring.options",
            "XdpOptions": "netring_bpf.ring.options",
        },
    )
