"""The wire format: events as JSON objects. No I/O.

C encodes the batches of a capture (``batch_text.py``). This file encodes all events that are not of
flows, by Python's own means, and hands flow events that somebody else has made and published to
``json_flow.py``.

Every object has ``event`` and ``ts`` (nanoseconds since the Unix epoch). The flow events,
``started``, ``established``, ``updated`` and ``ended``, have besides, in this order:

- ``id``: the flow's, unique within the capture
- ``proto``: the protocol's name, or its number as text
- ``orig``, ``resp``: originator and responder, each ``{"addr": "10.0.0.1", "port": 1}``
- ``vlans``: the VLAN ids, outermost first
- ``icmp_id``: of ICMP only
- ``start``, ``last``: the times of the first and the latest packet, as ``ts``
- ``orig_packets``, ``orig_bytes``, ``resp_packets``, ``resp_bytes``: the frames of each side
- ``orig_ip_bytes``, ``orig_payload``, ``resp_ip_bytes``, ``resp_payload``: the IP packets and the
  transport's payload of each side
- ``history``, ``conn_state``: the flow's life in Zeek's words, as in ``Flow``
- ``community_id``: the flow's name in other tools; not of pairs of stations
- ``network``: the VNI, ``tunnel``: the kind of tunnel around it, ``icmp_errors``: the number that
  quoted it; each only if there is one
- ``one_sided``: true if the capture sees one direction only, else left out
- ``reason``: of ``ended`` only, a value of ``FlowEnd``
- ``interface``: of the capture, if the caller gives it
- ``capture``, ``seq``: if the caller gives them; they tell one record from every other

``link_down`` and ``link_up`` have ``interface``, ``backend_changed`` has besides ``backend`` and
``reason``, ``error`` has ``message``, ``sink_failed`` has ``sink`` and ``message``, ``lagged`` has
``missed``, the number of events. Fields may be added; these keep their names and meanings.
"""

from __future__ import annotations

import json
import re
from typing import Final

from netring_bpf.events.event import (
    BackendChanged,
    CaptureError,
    Event,
    Lagged,
    LinkDown,
    LinkUp,
    SinkFailed,
)

__all__ = ["encode_event"]

# A terminal may obey these, and JSON need not escape them: DEL and the controls of ISO 6429.
_CONTROLS: Final = re.compile("[\x7f-\x9f]")


def encode_event(
    event: Event,
    *,
    interface: str | None = None,
    capture: str | None = None,
    seq: int | None = None,
) -> bytes:
    """Return the event as one JSON object, without a newline.

    Raises ``PackageMissingError`` for a flow event if msgspec is not installed.
    """
    fields: dict[str, str | int]
    match event:
        case LinkDown(ts=ts, interface=interface):
            fields = {"event": "link_down", "ts": ts, "interface": _text(interface)}
        case LinkUp(ts=ts, interface=interface):
            fields = {"event": "link_up", "ts": ts, "interface": _text(interface)}
        case BackendChanged(ts=ts, interface=interface, backend=backend, reason=reason):
            fields = {
                "event": "backend_changed",
                "ts": ts,
                "interface": _text(interface),
                "backend": backend,
                "reason": _text(reason),
            }
        case CaptureError(ts=ts, error=error):
            fields = {"event": "error", "ts": ts, "message": _text(str(error))}
        case SinkFailed(ts=ts, sink=sink, error=error):
            fields = {
                "event": "sink_failed",
                "ts": ts,
                "sink": _text(sink),
                "message": _text(str(error)),
            }
        case Lagged(ts=ts, missed=missed):
            fields = {"event": "lagged", "ts": ts, "missed": missed}
        case _:
            from netring_bpf.formats.json_flow import (  # noqa: PLC0415 - msgspec is optional
                encode_flow_event,
            )

            shown = None if interface is None else _text(interface)
            return encode_flow_event(event, interface=shown, capture=capture, seq=seq)
    if interface is not None:
        fields.setdefault("interface", _text(interface))
    if capture is not None:
        fields["capture"] = capture
    if seq is not None:
        fields["seq"] = seq
    return _encode(fields)


def _encode(fields: dict[str, str | int]) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def _text(text: str) -> str:
    """Return the text as JSON can hold it: an interface's name may have bytes that are no UTF-8."""
    return text.encode(errors="backslashreplace").decode()
