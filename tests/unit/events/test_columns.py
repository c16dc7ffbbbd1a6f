"""Columns and Arrow beside the decoded events, field by field, on real replays."""

from __future__ import annotations

import math
import struct
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from netring_bpf import (
    EventBatch,
    FlowEnded,
    FlowEvent,
    FlowKey,
    FlowOptions,
    FlowStarted,
)
from netring_bpf._core import lib
from netring_bpf.events.app import App
from netring_bpf.events.app_record import PROTOCOLS
from netring_bpf.events.event import event_name
from netring_bpf.events.layout import COUNTERS, ENDS, KINDS, TUNNELS
from netring_bpf.ring.reader import Reader
from tests.support.frames import icmp_echo, ip, tcp, udp
from tests.support.replay import START, Frame, one_batch

A, B = "10.0.0.1", "10.0.0.2"
FULL = FlowOptions(update_interval=None, packet_statistics=True, first_packets=4)


def frames() -> list[bytes]:
    """TCP with its handshake, both IP versions, VLANs, ICMP and its errors, a tunnel, VNIs."""
    asked = udp(A, B, 1000, 53, b"question")
    inner = tcp("10.9.0.1", "10.9.0.2", 40_000, 50_000, b"x" * 30)
    vxlan = udp("192.0.2.1", "192.0.2.2", 5555, 4789, struct.pack("!II", 0x08000000, 77 << 8))
    return [
        tcp(A, B, 4000, 80, flags="S", seq=1),
        tcp(B, A, 80, 4000, flags="SA", seq=9, ack=2),
        tcp(A, B, 4000, 80, flags="A", seq=2, ack=10),
        tcp(A, B, 4000, 80, b"hello" * 20, flags="PA", seq=2, ack=10),
        tcp(B, A, 80, 4000, b"there", flags="PA", seq=10, ack=102),
        tcp(A, B, 4000, 80, flags="R", seq=102),
        udp("2001:db8::1", "2001:db8::2", 5, 6, b"six"),
        udp(A, B, 7, 8, vlans=(100,)),
        udp(A, B, 7, 8, vlans=(200, 100)),
        icmp_echo(A, B, 7777, 1),
        icmp_echo("2001:db8::1", "2001:db8::2", 7, 1),
        asked,
        ip(B, A, 1, struct.pack("!BBHI", 3, 3, 0, 0) + asked[14:42]),
        udp("192.0.2.1", "192.0.2.2", 5555, 4789, vxlan[42:50] + inner),
        ip("192.0.2.1", "192.0.2.2", 47, struct.pack("!HH", 0, 0x0800) + inner[14:]),
    ]


def batch_of(options: FlowOptions) -> EventBatch:
    return one_batch((Frame(f, START + n * 1_234_567) for n, f in enumerate(frames())), options)


def as_row(event: FlowEvent) -> dict[str, object]:
    """The row of columns for an event, made from the event."""
    flow, key, tunnel = event.flow, event.flow.key, event.flow.tunnel
    families = {4: 4, 16: 6, 6: 0}
    none = (bytes(16), 0)
    tunnel_orig, tunnel_resp = (tunnel.orig, tunnel.resp) if tunnel else (none, none)
    code = {end: code for code, end in ENDS.items()}
    return {
        "ts": event.ts,
        "event": {kind: number for number, kind in KINDS.items()}[type(event)],
        "reason": code[event.reason] if isinstance(event, FlowEnded) else 0,
        "id": flow.id,
        "start": flow.start,
        **{f"orig_{name}": getattr(flow.orig, name) for name in COUNTERS},
        **{f"resp_{name}": getattr(flow.resp, name) for name in COUNTERS},
        "orig_addr": key.orig.packed.ljust(16, b"\0"),
        "orig_port": key.orig.port,
        "resp_addr": key.resp.packed.ljust(16, b"\0"),
        "resp_port": key.resp.port,
        "family": families[len(key.orig.packed)],
        "proto": key.proto,
        "vlans": [*key.vlans, lib.NR_NO_VLAN, lib.NR_NO_VLAN][:2],
        "icmp_id": key.icmp_id,
        "network": 0 if key.network is None else key.network + 1,
        "history": flow.history.encode(),
        "icmp_errors": flow.icmp_errors,
        "icmp_error_type": flow.icmp_error[0] if flow.icmp_error else 0,
        "icmp_error_code": flow.icmp_error[1] if flow.icmp_error else 0,
        "tunnel_kind": {k: c for c, k in TUNNELS.items()}[tunnel.kind] if tunnel else 0,
        "tunnel_family": families[len(tunnel.orig.packed)] if tunnel else 0,
        "tunnel_id": tunnel.id if tunnel else 0,
        "tunnel_flow_id": tunnel.flow_id if tunnel else 0,
        "tunnel_orig_addr": tunnel_orig[0].ljust(16, b"\0"),
        "tunnel_orig_port": tunnel_orig[1],
        "tunnel_resp_addr": tunnel_resp[0].ljust(16, b"\0"),
        "tunnel_resp_port": tunnel_resp[1],
        "first_packet_count": len(flow.first_packets),
        "one_sided": int(flow.one_sided),
        "has_macs": int(flow.macs is not None),
        "orig_mac": flow.macs[0] if flow.macs else bytes(6),
        "resp_mac": flow.macs[1] if flow.macs else bytes(6),
        "mac_changes": flow.mac_changes,
        "app_protocol": PROTOCOLS.index(flow.app.protocol if flow.app else ""),
        "app_count": flow.app.count if flow.app else 0,
    }


def plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.dtype == np.uint8 else value.tolist()
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize(
    "options",
    [
        FlowOptions(update_interval=None),
        FULL,
        FlowOptions(update_interval=None, first_packets=3, one_sided=True),
        FlowOptions(update_interval=None, key=FlowKey.MAC_PAIR),
    ],
)
def test_columns_say_what_the_events_say(options: FlowOptions) -> None:
    batch = batch_of(options)
    table = batch.columns()
    assert len(table) == len(batch) > 1
    for row, event in zip(table, batch, strict=True):
        expected = as_row(event)
        assert {name: plain(row[name]) for name in expected} == expected
    assert set(table.dtype.names or ()) - set(as_row(batch[0])) <= {
        "first_packets", "app_at", "app_size",
        *(f"{side}_{of}_{name}"
          for side in ("orig", "resp") for of in ("size", "gap")
          for name in ("min", "mean", "max", "m2")),
    }  # fmt: skip


def test_statistics_and_first_packets_are_columns_too() -> None:
    batch = batch_of(FULL)
    table = batch.columns()
    for row, event in zip(table, batch, strict=True):
        assert event.flow.statistics is not None
        for side, statistics in zip(("orig", "resp"), event.flow.statistics, strict=True):
            packets = int(row[f"{side}_packets"])
            for name, spread, count in (
                ("size", statistics.size, packets),
                ("gap", statistics.gap, packets - 1),
            ):
                assert row[f"{side}_{name}_min"] == spread.min
                assert row[f"{side}_{name}_mean"] == spread.mean
                assert row[f"{side}_{name}_max"] == spread.max
                if count > 0:
                    assert math.sqrt(row[f"{side}_{name}_m2"] / count) == spread.deviation
        first = row["first_packets"][: row["first_packet_count"]]
        assert [(int(p["size"]), int(p["gap"])) for p in first] == list(event.flow.first_packets)
    assert table["first_packet_count"].max() == 4


def test_columns_are_a_read_only_view_of_the_batch_itself() -> None:
    batch = batch_of(FULL)
    whole = np.frombuffer(batch.raw, np.uint8)
    assert np.shares_memory(batch.columns(), whole)
    assert np.shares_memory(batch[2:5].columns(), whole)
    for table in (batch.columns(), batch[1:3].columns(), batch.of_kinds(FlowEnded).columns()):
        with pytest.raises(ValueError, match="read-only"):
            table["ts"][0] = 1


def test_columns_of_parts_are_those_of_their_events() -> None:
    batch = batch_of(FULL)
    table = batch.columns()
    for part in (slice(2, 9), slice(None, None, -1), slice(None, None, 3), slice(4, 4)):
        assert batch[part].columns()["ts"].tolist() == table[part]["ts"].tolist()
        assert batch[part].columns()["id"].tolist() == [e.flow.id for e in batch[part]]
    ends = batch.of_kinds(FlowEnded)
    assert ends.columns()["id"].tolist() == [event.flow.id for event in ends]
    assert len(batch.of_kinds((FlowStarted,))[:0].columns()) == 0


def test_an_empty_batch_has_columns() -> None:
    with Reader(FULL) as reader:
        empty = reader.take(10)
    assert empty.columns().shape == (0,)
    assert empty.to_arrow().num_rows == 0


def arrow_row(event: FlowEvent) -> dict[str, object]:
    """The row of the record batch for an event, made from the event."""
    flow, key, tunnel = event.flow, event.flow.key, event.flow.tunnel
    is_tcp = key.proto == 6
    row: dict[str, object] = {
        "event": event_name(type(event)),
        "ts": event.ts,
        "reason": event.reason.value if isinstance(event, FlowEnded) else None,
        "id": flow.id,
        "proto": key.proto,
        "orig_addr": key.orig.packed,
        "orig_port": key.orig.port,
        "resp_addr": key.resp.packed,
        "resp_port": key.resp.port,
        "vlans": list(key.vlans),
        "icmp_id": key.icmp_id if key.proto in {1, 58} else None,
        "network": key.network,
        "start": flow.start,
        "last": flow.last,
        "duration": flow.duration,
        "history": flow.history,
        "conn_state": flow.conn_state,
        "community_id": key.community_id() if len(key.orig.packed) != 6 else None,
        "one_sided": flow.one_sided,
        "icmp_errors": flow.icmp_errors,
        "icmp_error_type": flow.icmp_error and flow.icmp_error[0],
        "icmp_error_code": flow.icmp_error and flow.icmp_error[1],
        "tunnel_kind": tunnel and tunnel.kind.value,
        "tunnel_id": tunnel and tunnel.id,
        "tunnel_flow_id": (tunnel and tunnel.flow_id) or None,
        "tunnel_orig_addr": tunnel and tunnel.orig.packed,
        "tunnel_orig_port": tunnel and tunnel.orig.port,
        "tunnel_resp_addr": tunnel and tunnel.resp.packed,
        "tunnel_resp_port": tunnel and tunnel.resp.port,
        "resp_name": flow.resp.name,
        "orig_mac": flow.macs and flow.macs[0],
        "resp_mac": flow.macs and flow.macs[1],
        "mac_changes": flow.mac_changes,
        **{f"app_{name}": getattr(flow.app, name, None) for name in App.FIELDS[:7]},
        "app_count": flow.app.count if flow.app else 0,
        "app_cut": flow.app is not None and flow.app.is_cut,
    }
    for side, counters in (("orig", flow.orig), ("resp", flow.resp)):
        for name in COUNTERS:
            value = getattr(counters, name)
            row[f"{side}_{name}"] = (value or None) if name in {"first", "last", "rtt"} else value
        row[f"{side}_state"] = counters.tcp_state.name.lower() if is_tcp else None
        row[f"{side}_tcp_flags"] = counters.tcp_flags if is_tcp else None
        row[f"{side}_fin_acked"] = counters.fin_acked != 0
    if flow.statistics is not None:
        for side, measured in zip(("orig", "resp"), flow.statistics, strict=True):
            for name, value in measured.size._asdict().items():
                row[f"{side}_size_{name}"] = value
            for name, value in measured.gap._asdict().items():
                row[f"{side}_gap_{name}"] = value
        row["first_packet_sizes"] = [p.size for p in flow.first_packets]
        row["first_packet_gaps"] = [p.gap for p in flow.first_packets]
    return row


def as_integers(column: pa.Array) -> pa.Array:
    """Times and durations as nanoseconds."""
    is_time = pa.types.is_timestamp(column.type) or pa.types.is_duration(column.type)
    return column.cast(pa.int64()) if is_time else column


@pytest.mark.parametrize("options", [FULL, FlowOptions(update_interval=None, key=FlowKey.MAC_PAIR)])
def test_arrow_says_what_the_events_say(options: FlowOptions) -> None:
    batch = batch_of(options)
    for part in (batch, batch[1:7], batch.of_kinds(FlowEnded)):
        arrow = part.to_arrow(raw=True)
        arrow.validate(full=True)
        numbers = list(map(as_integers, arrow.columns))
        rows = pa.RecordBatch.from_arrays(numbers, names=arrow.schema.names).to_pylist()
        assert rows == [arrow_row(event) for event in part]


def test_arrow_can_be_had_by_its_own_protocol() -> None:
    batch = batch_of(FULL)
    assert pa.record_batch(batch).equals(batch.to_arrow())


@pytest.mark.parametrize(("package", "call"), [("numpy", "columns"), ("pyarrow", "to_arrow")])
def test_without_the_package_the_error_says_what_to_install(package: str, call: str) -> None:
    code = f"""
import sys
sys.modules[{package!r}] = None
from netring_bpf import FlowOptions
from netring_bpf.errors import NetringError, PackageMissingError
from netring_bpf.ring.reader import Reader
with Reader(FlowOptions()) as reader:
    batch = reader.take(1)
try:
    batch.{call}()
except PackageMissingError as error:
    assert isinstance(error, ImportError) and isinstance(error, NetringError)
    print(error.package, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{package} ")
    assert "pip install" in done.stdout


def test_the_replay_has_something_of_everything() -> None:
    flows = [event.flow for event in batch_of(FULL) if isinstance(event, FlowEnded)]
    assert {len(flow.key.orig.packed) for flow in flows} == {4, 16}
    assert {flow.key.vlans for flow in flows} == {(), (100,), (200, 100)}
    assert {flow.tunnel.kind.value for flow in flows if flow.tunnel} == {"vxlan", "gre"}
    assert {flow.key.network for flow in flows} == {None, 77}
    assert {flow.icmp_error for flow in flows} == {None, (3, 3)}
