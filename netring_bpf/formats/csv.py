"""Flows as comma-separated values (RFC 4180), for spreadsheets and data frames.

A line of names, then a line a flow, with the names and the values of the JSON records; the VLAN ids
share a cell. A field that does not apply is empty. ``app_details`` has no cell.
"""

from __future__ import annotations

from typing import Final

from netring_bpf.events.fields import FLAT
from netring_bpf.events.plain import text

__all__ = ["COLUMNS", "HEADER", "cell"]

COLUMNS: Final = (*FLAT, "interface")
HEADER: Final = (",".join(COLUMNS) + "\r\n").encode()

# A spreadsheet takes a cell that begins so for a formula, or strips it and then does (OWASP, "CSV
# Injection").
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_QUOTED: Final = frozenset(',"\r\n')


def cell(value: str) -> str:
    """Return a cell for text from outside the program: no formula, and quoted where it has to be.

    Each cell with such text is made here. All others are numbers, times, addresses and the
    program's own words, none of which begins a formula.
    """
    shown = text(value)
    if shown.startswith(_FORMULA):
        shown = f"'{shown}"
    if _QUOTED.isdisjoint(shown):
        return shown
    return '"' + shown.replace('"', '""') + '"'
