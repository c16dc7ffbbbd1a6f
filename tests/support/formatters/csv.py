"""Flows as comma-separated values."""

from __future__ import annotations

import csv
import io

from netring_bpf.events.event import FlowEvent
from netring_bpf.formats.csv import COLUMNS

__all__ = ["csv_line"]

_ALWAYS = (
    "missing_bytes", "retransmitted", "out_of_order", "gaps", "zero_windows", "bad_checksums",
    "implausible", "fragments",
)  # fmt: skip


def csv_line(event: FlowEvent, interface: str | None = None) -> bytes:
    """The flow as one line: its record, with the counters that the record leaves out at 0."""
    record = event.to_dict()
    values = {f"{side}_{name}": 0 for side in ("orig", "resp") for name in _ALWAYS}
    values |= {"icmp_errors": 0, "mac_changes": 0}
    if event.flow.app is not None:
        values["app_count"] = 0
    for name in ("resp_name", "app_name", "app_alpn", "app_ja4"):
        if name in record:
            values[name] = ""
            record[name] = _guarded(str(record[name]))
    cells = {name: _cell(value) for name, value in {**values, **record}.items() if name in COLUMNS}
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS).writerow(cells | {"interface": interface or ""})
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "true" if value is True else value


def _guarded(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
