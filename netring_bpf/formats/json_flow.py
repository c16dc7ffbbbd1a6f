"""Flow events that somebody else than the capture has made, as JSON: ``json.py`` says of what form.

Only this file knows msgspec. No I/O.
"""

from __future__ import annotations

from typing import Final

from netring_bpf.errors import PackageMissingError
from netring_bpf.events.event import (
    Endpoint,
    FlowEnded,
    FlowEstablished,
    FlowEvent,
    FlowStarted,
    FlowUpdated,
)

try:
    import msgspec
    from msgspec import UNSET, UnsetType
except ModuleNotFoundError as missing:
    raise PackageMissingError(
        "encode flow events that the capture did not make: msgspec is not installed; "
        'pip install "netring-bpf[mqtt]"',
        package="msgspec",
    ) from missing

__all__ = ["encode_flow_event"]

_ICMP: Final = (1, 58)
_MAC: Final = 6  # bytes of a station's address
_FLOW_EVENTS: Final = {
    FlowStarted: "started",
    FlowEstablished: "established",
    FlowUpdated: "updated",
    FlowEnded: "ended",
}


class _Endpoint(msgspec.Struct, gc=False):
    addr: str
    port: int


class _FlowRecord(msgspec.Struct, gc=False):
    event: str
    ts: int
    id: int
    proto: str
    orig: _Endpoint
    resp: _Endpoint
    vlans: tuple[int, ...]
    icmp_id: int | UnsetType
    start: int
    last: int
    orig_packets: int
    orig_bytes: int
    resp_packets: int
    resp_bytes: int
    orig_ip_bytes: int
    orig_payload: int
    resp_ip_bytes: int
    resp_payload: int
    history: str
    conn_state: str
    community_id: str | UnsetType
    network: int | UnsetType
    tunnel: str | UnsetType
    icmp_errors: int | UnsetType
    one_sided: bool | UnsetType
    reason: str | UnsetType
    interface: str | UnsetType
    capture: str | UnsetType
    seq: int | UnsetType


_encode = msgspec.json.Encoder().encode


def encode_flow_event(
    event: FlowEvent,
    *,
    interface: str | None = None,
    capture: str | None = None,
    seq: int | None = None,
) -> bytes:
    """Return the event as one JSON object, without a newline."""
    return _encode(_flow_record(event, interface, capture, seq))


def _flow_record(
    event: FlowEvent, interface: str | None, capture: str | None, seq: int | None
) -> _FlowRecord:
    flow = event.flow
    key = flow.key
    return _FlowRecord(
        _FLOW_EVENTS[type(event)],
        event.ts,
        flow.id,
        key.proto_name,
        _endpoint(key.orig),
        _endpoint(key.resp),
        key.vlans,
        key.icmp_id if key.proto in _ICMP else UNSET,
        flow.start,
        flow.last,
        flow.orig.packets,
        flow.orig.bytes,
        flow.resp.packets,
        flow.resp.bytes,
        flow.orig.ip_bytes,
        flow.orig.payload,
        flow.resp.ip_bytes,
        flow.resp.payload,
        flow.history,
        flow.conn_state,
        UNSET if len(key.orig.packed) == _MAC else key.community_id(),
        UNSET if key.network is None else key.network,
        UNSET if flow.tunnel is None else flow.tunnel.kind.value,
        flow.icmp_errors or UNSET,
        flow.one_sided or UNSET,
        event.reason.value if isinstance(event, FlowEnded) else UNSET,
        UNSET if interface is None else interface,
        UNSET if capture is None else capture,
        UNSET if seq is None else seq,
    )


def _endpoint(endpoint: Endpoint) -> _Endpoint:
    return _Endpoint(endpoint.text, endpoint.port)
