"""Flow events made by hand, for what is tested above the capture."""

from __future__ import annotations

import ipaddress

from netring_bpf import Counters, Endpoint, FiveTuple, Flow, FlowEnd, FlowEnded, FlowStarted


def flow(number: int, *, proto: int = 6, vlans: tuple[int, ...] = ()) -> Flow:
    """A flow that differs from every other by its number."""
    return Flow(
        id=number,
        key=FiveTuple(
            proto=proto,
            orig=Endpoint(ipaddress.ip_address("10.0.0.1").packed, number & 0xFFFF),
            resp=Endpoint(ipaddress.ip_address("10.0.0.2").packed, 80),
            vlans=vlans,
        ),
        start=number,
        last=number + 5,
        orig=Counters(3, 300 + number),
        resp=Counters(2, 200),
        history="ShADd",
    )


def ended(number: int, **options: object) -> FlowEnded:
    """The end of flow ``number``."""
    return FlowEnded(number + 10, flow(number, **options), FlowEnd.FIN)  # type: ignore[arg-type]


def started(number: int) -> FlowStarted:
    """The start of flow ``number``."""
    return FlowStarted(number, flow(number))
