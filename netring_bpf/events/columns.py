"""Flow events as a structured array of NumPy over their own bytes.

The columns are the fields of ``nr_event``, as the C core declares them, flat and under the names of
``fields.RECORD`` (docs/columns.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from netring_bpf._core import ffi
from netring_bpf.errors import PackageMissingError
from netring_bpf.events.layout import COUNTERS, Layout, slice_of

try:
    import numpy as np
    import numpy.typing as npt
except ModuleNotFoundError as _missing:
    raise PackageMissingError(
        'columns of flow events: NumPy is not installed; pip install "netring-bpf[numpy]"',
        package="numpy",
    ) from _missing

__all__ = ["Columns", "columns_of"]

Columns: TypeAlias = npt.NDArray[np.void]

_TYPES = {
    "uint64_t": "u8", "uint32_t": "u4", "int32_t": "i4", "uint16_t": "u2", "uint8_t": "u1",
    "double": "f8",
}  # fmt: skip
_NOT_OF_FLOWS = frozenset({"reserved", "how", "prefix_length"})
_NAMES = {
    "kind": "event", "flow_id": "id", "start_ts": "start", "parent_id": "tunnel_flow_id",
    "orig_h": "orig_addr", "orig_p": "orig_port", "resp_h": "resp_addr", "resp_p": "resp_port",
    "tunnel_orig_h": "tunnel_orig_addr", "tunnel_orig_p": "tunnel_orig_port",
    "tunnel_resp_h": "tunnel_resp_addr", "tunnel_resp_p": "tunnel_resp_port",
    "vlan": "vlans", "end_reason": "reason", "first_packets": "first_packet_count",
    "gap_ns": "gap", "gap_mean_ns": "gap_mean", "gap_min_ns": "gap_min", "gap_max_ns": "gap_max",
}  # fmt: skip


def _type_of(c_type: Any) -> Any:
    """Return NumPy's name of a C type."""
    if c_type.kind == "struct":
        return _struct(c_type)
    if c_type.kind == "array":
        if c_type.item.cname == "char":
            return f"S{c_type.length}"
        return _type_of(c_type.item), (c_type.length,)
    return _TYPES[c_type.cname]


def _struct(c_type: Any) -> np.dtype[np.void]:
    fields = [
        (name, field)
        for name, field in c_type.fields
        if not name.startswith("reserved") and name not in _NOT_OF_FLOWS
    ]
    return np.dtype(
        {
            "names": [_NAMES.get(name, name) for name, _ in fields],
            "formats": [_type_of(field.type) for _, field in fields],
            "offsets": [field.offset for _, field in fields],
            "itemsize": ffi.sizeof(c_type),
        }
    )


def _fields(kind: np.dtype[np.void]) -> Iterator[tuple[str, Any, int]]:
    """Yield the name, type and offset of each field."""
    assert kind.fields is not None
    for name, field in kind.fields.items():
        yield name, field[0], field[1]


@lru_cache(maxsize=16)
def _dtype(layout: Layout) -> np.dtype[np.void]:
    """Return the type of an event of this layout, with the parts after it."""
    fields: list[tuple[str, Any, int]] = []
    for name, kind, offset in _fields(_struct(ffi.typeof("nr_event"))):
        if kind.fields is None:
            fields.append((name, kind, offset))
            continue
        in_c = {of_c: counter for counter, of_c in COUNTERS.items()}
        fields += [(f"{name}_{in_c[of_c]}", k, offset + at) for of_c, k, at in _fields(kind)]
    behind = ffi.sizeof("nr_event")
    if layout.statistics:
        statistics = _struct(ffi.typeof("nr_packet_statistics"))
        for side in ("orig", "resp"):
            fields += [(f"{side}_{name}", k, behind + at) for name, k, at in _fields(statistics)]
            behind += statistics.itemsize
    if layout.first_packets:
        packet = _struct(ffi.typeof("nr_first_packet"))
        fields.append(("first_packets", (packet, (layout.first_packets,)), behind))
    names, formats, offsets = zip(*fields, strict=True)
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": layout.size}
    )


def columns_of(raw: bytes, layout: Layout, count: int, rows: Sequence[int]) -> Columns:
    """Return the events of these rows, read-only; a view if the rows are a ``range``.

    ``count``: the events in ``raw``; their application records follow them.
    """
    table: Columns = np.frombuffer(raw, _dtype(layout), count)
    if isinstance(rows, range):
        return table[slice_of(rows)]
    chosen: Columns = table[np.asarray(rows, np.intp)]
    chosen.flags.writeable = False
    return chosen
