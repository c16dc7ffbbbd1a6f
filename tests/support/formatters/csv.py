"""Flows as comma-separated values."""

from __future__ import annotations

import csv
import io

from netring_bpf.events.event import Counters, FlowEnded
from netring_bpf.formats.csv import COLUMNS

__all__ = ["csv_line"]


def csv_line(event: FlowEnded) -> bytes:
    """The flow as one line."""
    flow = event.flow
    key = flow.key
    vlans = (*key.vlans, None, None)
    values = {
        "start": flow.start,
        "last": flow.last,
        "duration": flow.duration,
        "proto": key.proto_name,
        "orig_addr": key.orig.text,
        "orig_port": key.orig.port,
        "resp_addr": key.resp.text,
        "resp_port": key.resp.port,
        "vlan": vlans[0],
        "inner_vlan": vlans[1],
        "icmp_id": key.icmp_id,
        "network": key.network,
        "conn_state": flow.conn_state,
        "history": flow.history,
        "reason": event.reason.value,
        **_side("orig", flow.orig),
        **_side("resp", flow.resp),
        "icmp_errors": flow.icmp_errors,
        "tunnel": flow.tunnel.kind.value if flow.tunnel else None,
        "tunnel_id": flow.tunnel.id if flow.tunnel else None,
        "community_id": key.community_id() if len(key.orig.packed) != 6 else None,
        "id": flow.id,
        "one_sided": int(flow.one_sided),
    }
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS).writerow(values)
    return text.getvalue().encode()


def _side(side: str, counters: Counters) -> dict[str, object]:
    values = counters._asdict() | {"state": counters.tcp_state.name.lower()}
    return {f"{side}_{name}": value for name, value in values.items()}
