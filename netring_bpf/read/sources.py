"""Opens what flows are read of: capture files and interfaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from netring_bpf.errors import OptionError
from netring_bpf.events.event import FlowEnded
from netring_bpf.read.flow_reader import FlowReader

if TYPE_CHECKING:
    from netring_bpf.capture import Backend, FilterLike, FlowOptions, TpacketOptions, XdpOptions

__all__ = ["live_flows", "read_flows"]


def read_flows(
    source: str | Path | Sequence[str | Path],
    *,
    filter: FilterLike = None,
    flow: FlowOptions | None = None,
) -> FlowReader:
    """Return a reader of the flows of capture files, without an event loop.

    ``source``: a pcap or pcapng file, packed or not, or a FIFO; ``"-"`` for standard input; a
    pattern of the shell (``"cap-*.pcap"``); or several of these, which are one capture. All as in
    ``Netring.replay``, and so are the flows. ``filter``: an expression of tcpdump's language or a
    ``Filter``. ``flow``: the options of the flow table; of its ``events`` only ``FlowEnded`` are
    made. The file is opened on entering, or at the first use. Raises ``FilterError``,
    ``OptionError``, then ``CaptureFileError``.
    """
    from netring_bpf.capture.replay import Replay

    return FlowReader(Replay(source, filter=filter, flow=_only_ended(flow)))


def live_flows(
    interface: str,
    *,
    filter: FilterLike = None,
    duration: float | None = None,
    count: int | None = None,
    backend: Backend = "auto",
    steal: bool = False,
    xdp: XdpOptions | None = None,
    tpacket: TpacketOptions | None = None,
    flow: FlowOptions | None = None,
    netns: str | None = None,
) -> FlowReader:
    """Return a reader of the flows of an interface, without an event loop.

    A flow comes when it has ended. ``duration``: the seconds after which the capture ends, and the
    flows that are live then come with the reason ``shutdown``. ``count``: the most flows to give.
    Without either it goes on until ``stop()``, ``close()`` or Ctrl-C. The other parameters are
    those of ``Netring``; of the ``events`` of ``flow`` only ``FlowEnded`` are made. The interface
    is opened on entering, or at the first use. Raises ``FilterError``, ``OptionError``, then the
    errors of opening.
    """
    if duration is not None and not 0 <= duration < math.inf:
        raise OptionError(
            f"duration={duration!r}: must be a number of seconds, 0 or more", option="duration"
        )
    if count is not None and count < 1:
        raise OptionError(f"count={count!r}: must be at least 1", option="count")
    from netring_bpf.capture.capture import Capture

    capture = Capture(
        interface,
        filter=filter,
        backend=backend,
        steal=steal,
        xdp=xdp,
        tpacket=tpacket,
        flow=_only_ended(flow),
        netns=netns,
    )
    return FlowReader(capture, count=count, duration=duration)


def _only_ended(flow: FlowOptions | None) -> FlowOptions:
    from netring_bpf.capture import FlowOptions

    return replace(flow or FlowOptions(), events=(FlowEnded,))
