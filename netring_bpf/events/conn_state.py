"""Zeek's conn_state, which sums up a connection in one word.

Source: Zeek's documentation of ``Conn::Info``; docs/flows.md has the table.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

__all__ = ["conn_state"]

_INACTIVE, _SYN_SENT, _SYN_ACK_SENT, _PARTIAL, _ESTABLISHED, _CLOSED, _RESET = range(7)
_TCP, _UDP = 6, 17
# The originator sent a SYN and later a RST, with none of the excluded letters in between.
_TAKEN_BACK: Final = re.compile(r"\^?S[^HAFGIQ]*R.*", re.DOTALL)


class _Side(Protocol):
    @property
    def packets(self) -> int: ...
    @property
    def bad_checksums(self) -> int: ...
    @property
    def payload(self) -> int: ...
    @property
    def state(self) -> int: ...


def conn_state(proto: int, orig: _Side, resp: _Side, history: str) -> str:
    """Return ``S0``, ``S1``, ``SF``, ``REJ``, ``S2``, ``S3``, ``RSTO``, ``RSTR``, … or ``OTH``."""
    if proto == _TCP:
        return _of_tcp(orig, resp, history)
    if proto == _UDP:
        sent = orig.packets > orig.bad_checksums, resp.packets > resp.bad_checksums
        return {(True, True): "SF", (True, False): "S0", (False, True): "SHR"}.get(sent, "OTH")
    return "OTH"


def _of_tcp(orig: _Side, resp: _Side, history: str) -> str:
    o, r = orig.state, resp.state
    orig_silent = o in {_INACTIVE, _PARTIAL}
    resp_silent = r in {_INACTIVE, _PARTIAL}
    if r == _RESET:
        empty = orig.payload == resp.payload == 0
        if o in {_SYN_SENT, _SYN_ACK_SENT} or (o == _RESET and empty):
            return "REJ"
        return "RSTRH" if orig_silent else "RSTR"
    if o == _RESET:
        if not resp_silent:
            return "RSTO"
        return "RSTOS0" if _TAKEN_BACK.fullmatch(history) else "OTH"
    if o == r == _CLOSED:
        return "SF"
    if o == _CLOSED:
        return "SH" if resp_silent else "S2"
    if r == _CLOSED:
        return "SHR" if orig_silent else "S3"
    if (o, r) == (_SYN_SENT, _INACTIVE):
        return "S0"
    return "S1" if o == r == _ESTABLISHED else "OTH"
