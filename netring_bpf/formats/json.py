"""The wire format: events as JSON objects. No I/O.

C encodes the batches of a capture (``batch_text.py``). This file encodes what C does not: events
that are not of flows, those that somebody else has made and published, and those with packet
statistics or first packets.

The object is ``event.to_dict()``, with the names of ``events/fields.py`` (docs/events.md). The
caller may add three more fields at its end: ``interface``, the interface (or file) of the capture,
and ``capture`` and ``seq``, which tell one record from every other. Fields may be added; these keep
their names and meanings.
"""

from __future__ import annotations

from netring_bpf.events.event import Event
from netring_bpf.events.plain import count, json_text, text

__all__ = ["encode_event"]


def encode_event(
    event: Event,
    *,
    interface: str | None = None,
    capture: str | None = None,
    seq: int | None = None,
) -> bytes:
    """Return the event as one JSON object, without a newline."""
    record = event.to_dict()
    if interface is not None:
        record.setdefault("interface", text(interface))
    if capture is not None:
        record["capture"] = text(capture)
    if seq is not None:
        record["seq"] = count(seq)
    return json_text(record).encode()
