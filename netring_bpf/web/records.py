"""What the page is told, as plain values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from netring_bpf.events.event import Device, FlowEnded, StatsUpdated
from netring_bpf.events.plain import count, seconds, time_text
from netring_bpf.web.clean import clean, clean_text

__all__ = ["COLUMNS", "FlowRecord", "columns_of", "device_record", "flow_record", "stats_record"]

FlowRecord = dict[str, object]
_MAX_ADDRESSES: Final = 8
#: The columns of the history: one value for each interval.
COLUMNS: Final = (
    "ts", "seconds", "bits_in", "bits_out", "bits_other", "packets", "flows", "received", "lost",
)  # fmt: skip


def columns_of(stats: StatsUpdated) -> tuple[object, ...]:
    """Return the interval's values, in the order of ``COLUMNS``; traffic as rates a second."""
    traffic = stats.traffic
    other = traffic.internal.bytes + traffic.transit.bytes
    return (
        time_text(stats.ts),
        stats.seconds,
        count(round(stats.per_second(traffic.inbound.bytes * 8))),
        count(round(stats.per_second(traffic.outbound.bytes * 8))),
        count(round(stats.per_second(other * 8))),
        round(stats.per_second(traffic.total.packets), 3),
        round(stats.per_second(traffic.total.flows), 3),
        count(stats.health.received),
        count(stats.health.lost),
    )


def stats_record(stats: StatsUpdated) -> dict[str, object]:
    """Return the interval without its tables."""
    record = stats.to_dict()
    del record["top"], record["top_since_start"]
    cleaned = clean(record)
    assert isinstance(cleaned, dict)
    return cleaned


def device_record(device: Device) -> dict[str, object]:
    """Return the device, with a bounded number of addresses and without where its names are of."""
    record = device.to_dict()
    record["addresses"] = [str(known.address) for known in device.addresses[:_MAX_ADDRESSES]]
    del record["names"]
    cleaned = clean(record)
    assert isinstance(cleaned, dict)
    return cleaned


def flow_record(event: FlowEnded, name_of: Callable[[str], str | None]) -> FlowRecord:
    """Return the fields of an ended flow that people look for.

    ``name_of``: returns the name of the device with a MAC address.
    """
    flow = event.flow
    key, app = flow.key, flow.app
    record: FlowRecord = {
        "id": count(flow.id),
        "ts": time_text(event.ts),
        "start": time_text(flow.start),
        "duration": seconds(flow.duration),
        "proto": key.proto_name,
        "orig_addr": key.orig.text,
        "orig_port": key.orig.port,
        "resp_addr": key.resp.text,
        "resp_port": key.resp.port,
        "orig_bytes": count(flow.orig.bytes),
        "resp_bytes": count(flow.resp.bytes),
        "orig_packets": count(flow.orig.packets),
        "resp_packets": count(flow.resp.packets),
        "conn_state": flow.conn_state,
        "history": clean_text(flow.history),
        "reason": event.reason.value,
    }
    if app is not None and app.protocol:
        record["service"] = clean_text(app.protocol)
    if name := (app and app.name) or flow.resp.name:
        record["name"] = clean_text(name)
    if flow.macs is not None:
        macs = [mac.hex(":") for mac in flow.macs]
        record["orig_mac"], record["resp_mac"] = macs
        if device := name_of(macs[0]):
            record["orig_name"] = clean_text(device)
    return record
