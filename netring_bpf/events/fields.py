"""The fields of an event as a record: the one table of their names and order.

The command line's JSON and CSV, MQTT, ``to_dict()``, ``to_json()``, columns and Arrow use these
names; docs/events.md says what each means.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DERIVED", "FLAT", "MEASURED", "RECORD", "SECONDS", "TIMES"]

_OF_A_SIDE: Final = (
    "packets", "bytes", "ip_bytes", "payload", "first", "last", "rtt", "missing_bytes",
    "retransmitted", "out_of_order", "gaps", "zero_windows", "bad_checksums", "implausible",
    "state", "tcp_flags", "fin_acked", "fragments",
)  # fmt: skip
_SIDES: Final = ("orig", "resp")
_OF_A_SPREAD: Final = ("min", "mean", "max", "deviation")

#: The record of a flow event. Text leaves out what does not apply; Arrow has null there.
RECORD: Final = (
    "event", "ts", "id", "proto", "orig_addr", "orig_port", "resp_addr", "resp_port", "vlans",
    "icmp_id", "network", "start", "last", "duration",
    *(f"{side}_{name}" for side in _SIDES for name in _OF_A_SIDE),
    "history", "conn_state", "community_id", "reason",
    "icmp_errors", "icmp_error_type", "icmp_error_code",
    "tunnel_kind", "tunnel_id", "tunnel_flow_id", "tunnel_orig_addr", "tunnel_orig_port",
    "tunnel_resp_addr", "tunnel_resp_port",
    "one_sided", "resp_name", "orig_mac", "resp_mac", "mac_changes",
    "app_protocol", "app_name", "app_name_from", "app_alpn", "app_version", "app_ja4",
    "app_carrier", "app_count", "app_cut", "app_details",
)  # fmt: skip
#: The fields that are no objects: those of CSV and Arrow.
FLAT: Final = tuple(name for name in RECORD if name != "app_details")
#: Behind them, if ``FlowOptions`` asks for them.
MEASURED: Final = (
    *(f"{side}_{of}_{name}"
      for side in _SIDES for of in ("size", "gap") for name in _OF_A_SPREAD),
    "first_packet_sizes", "first_packet_gaps",
)  # fmt: skip
#: Those that follow from others, or are text: an event in memory does not have them.
DERIVED: Final = frozenset(
    {
        "last", "duration", "conn_state", "community_id", "resp_name", "app_name", "app_name_from",
        "app_alpn", "app_version", "app_ja4", "app_carrier", "app_cut", "app_details",
    }
)  # fmt: skip
#: Those that are times, and those that are durations.
TIMES: Final = frozenset(
    {"ts", "start", "last", *(f"{side}_{name}" for side in _SIDES for name in ("first", "last"))}
)
SECONDS: Final = frozenset(
    {
        "duration", "first_packet_gaps",
        *(f"{side}_rtt" for side in _SIDES),
        *(f"{side}_gap_{name}" for side in _SIDES for name in _OF_A_SPREAD),
    }
)  # fmt: skip
