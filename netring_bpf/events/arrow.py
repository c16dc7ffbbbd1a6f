"""Flow events as a record batch of Apache Arrow: plain columns, those of ``fields.RECORD``.

Codes become words, and missing values null (docs/columns.md). Texts of addresses and of the
protocol inside are written by C.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from netring_bpf._core import ffi, lib
from netring_bpf.errors import PackageMissingError
from netring_bpf.events.app_record import LONGEST, PROTOCOLS, TextColumn, text_column
from netring_bpf.events.columns import Columns
from netring_bpf.events.event import TcpState, event_name
from netring_bpf.events.key import protocol_name
from netring_bpf.events.layout import COUNTERS, ENDS, KINDS, NO_VLAN, TUNNELS

try:
    import pyarrow as pa
except ModuleNotFoundError as _missing:
    raise PackageMissingError(
        'flow events to Arrow: pyarrow is not installed; pip install "netring-bpf[arrow]"',
        package="pyarrow",
    ) from _missing

__all__ = ["record_batch", "stream_of", "table_of"]

_ADDRESS_SIZES = np.zeros(256, np.int32)
_ADDRESS_SIZES[[0, 4, 6]] = 6, 4, 16
_TIMES = ("first", "last")  # of a side; 0: it has no packet
_ICMP = (1, 58)
_TCP = 6
_Mask = npt.NDArray[np.bool_]
_PROTOCOLS: Final = {number: protocol_name(number) for number in range(256)}
_ADDRESSES: Final[Mapping[str, int]] = {
    "orig_addr": lib.NR_ADDRESS_COLUMN_ORIG,
    "resp_addr": lib.NR_ADDRESS_COLUMN_RESP,
    "tunnel_orig_addr": lib.NR_ADDRESS_COLUMN_TUNNEL_ORIG,
    "tunnel_resp_addr": lib.NR_ADDRESS_COLUMN_TUNNEL_RESP,
    "orig_mac": lib.NR_ADDRESS_COLUMN_ORIG_MAC,
    "resp_mac": lib.NR_ADDRESS_COLUMN_RESP_MAC,
}


def record_batch(table: Columns, data: bytes, *, raw: bool = False) -> pa.RecordBatch:
    """Return the events as a ``pyarrow.RecordBatch``; the values are copied, column by column.

    ``data``: the bytes of the batch, which have the application records. ``raw``: leave addresses
    and the protocol as they are in memory, and have words as dictionaries.
    """
    columns = dict(_event(table, data, raw))
    if not raw:
        columns = {name: _readable(table, name, made) for name, made in columns.items()}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def table_of(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Return all of the batches as one table."""
    return pa.Table.from_batches(batches, schema)


def stream_of(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
    """Return a stream of the batches, each of which is made when it is asked for."""
    return pa.RecordBatchReader.from_batches(schema, batches)


def _readable(table: Columns, name: str, made: pa.Array | None) -> pa.Array:
    """Return a column for people; ``made`` is the raw one, None if only C can make it."""
    if name == "proto":
        made = _named(table["proto"], _PROTOCOLS)
    if made is None:
        made = _address_text(table, _ADDRESSES[name])
    return made.dictionary_decode() if pa.types.is_dictionary(made.type) else made


def _event(table: Columns, data: bytes, raw: bool) -> Iterator[tuple[str, pa.Array | None]]:
    conn_states, community_ids = _derived(table)
    start = table["start"]
    last = np.maximum(start, np.maximum(table["orig_last"], table["resp_last"]))
    yield "event", _named(table["event"], {code: event_name(kind) for code, kind in KINDS.items()})
    yield "ts", _time(table["ts"])
    yield "id", pa.array(table["id"])
    yield "proto", pa.array(table["proto"])
    for side in ("orig", "resp"):
        address = f"{side}_addr"
        yield address, _address(table[address], table["family"]) if raw else None
        yield f"{side}_port", pa.array(table[f"{side}_port"])
    yield "vlans", _lists(table["vlans"], table["vlans"] != NO_VLAN)
    yield "icmp_id", pa.array(table["icmp_id"], mask=~np.isin(table["proto"], _ICMP))
    yield "network", pa.array(table["network"] - np.uint32(1), mask=table["network"] == 0)
    yield "start", _time(start)
    yield "last", _time(last)
    yield "duration", _duration(last - start)
    for side in ("orig", "resp"):
        yield from _side(table, side)
    yield "history", _text(table["history"])
    yield "conn_state", _text(conn_states)
    yield "community_id", _text(community_ids, table["family"] == 0)
    yield "reason", _named(table["reason"], {code: end.value for code, end in ENDS.items()})
    yield from _rarely(table, raw)
    yield "one_sided", pa.array(table["one_sided"] != 0)
    yield from _app(table, data, raw)
    yield from _measured(table)


def _side(table: Columns, side: str) -> Iterator[tuple[str, pa.Array]]:
    no_tcp = table["proto"] != _TCP
    for name in COUNTERS:
        values = table[f"{side}_{name}"]
        if name in _TIMES:
            made = _time(values)
        elif name == "rtt":
            made = _duration(values, values == 0)
        elif name == "state":
            made = _named(values, {state.value: state.name.lower() for state in TcpState}, no_tcp)
        elif name == "tcp_flags":
            made = pa.array(values, mask=no_tcp)
        else:
            made = pa.array(values != 0 if name == "fin_acked" else values)
        yield f"{side}_{name}", made


def _derived(table: Columns) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bytes_]]:
    """Return the conn_state and the Community ID of each event, which C derives."""
    events = np.ascontiguousarray(table)
    states = np.empty(len(events), f"S{lib.NR_CONN_STATE_SIZE}")
    ids = np.empty(len(events), f"S{lib.NR_COMMUNITY_ID_SIZE}")
    places = [ffi.from_buffer(array) for array in (events, states, ids)]
    lib.nr_derive(places[0], table.dtype.itemsize, len(events), places[1], places[2])
    return states, ids


def _rarely(table: Columns, raw: bool) -> Iterator[tuple[str, pa.Array | None]]:
    """Yield the columns that are null or 0 for most flows."""
    errors = table["icmp_errors"]
    yield "icmp_errors", pa.array(errors)
    yield "icmp_error_type", pa.array(table["icmp_error_type"], mask=errors == 0)
    yield "icmp_error_code", pa.array(table["icmp_error_code"], mask=errors == 0)
    names = {code: tunnel.value for code, tunnel in TUNNELS.items()}
    yield "tunnel_kind", _named(table["tunnel_kind"], names)
    none = table["tunnel_kind"] == 0
    yield "tunnel_id", pa.array(table["tunnel_id"], mask=none)
    yield "tunnel_flow_id", pa.array(table["tunnel_flow_id"], mask=table["tunnel_flow_id"] == 0)
    for side in ("tunnel_orig", "tunnel_resp"):
        address = f"{side}_addr"
        yield address, _address(table[address], table["tunnel_family"], none) if raw else None
        yield f"{side}_port", pa.array(table[f"{side}_port"], mask=none)


def _app(table: Columns, data: bytes, raw: bool) -> Iterator[tuple[str, pa.Array | None]]:
    """Yield the MAC addresses and the protocol inside, whose texts C writes."""
    events = np.ascontiguousarray(table)
    yield "resp_name", _app_text(events, data, TextColumn.RESP_NAME)
    for side in ("orig", "resp"):
        yield f"{side}_mac", _mac(table, f"{side}_mac") if raw else None
    yield "mac_changes", pa.array(table["mac_changes"])
    yield "app_protocol", _named(table["app_protocol"], dict(enumerate(PROTOCOLS[1:], 1)))
    for column in TextColumn:
        if column < TextColumn.RESP_NAME:
            yield f"app_{column.name.lower()}", _app_text(events, data, column)
    yield "app_count", pa.array(table["app_count"])
    yield "app_cut", pa.array(_app_text(events, data, TextColumn.CUT).is_valid())


def _app_text(events: Columns, data: bytes, column: TextColumn) -> pa.Array:
    """Return text of the events' application records."""
    size = events.dtype.itemsize
    room = int(np.minimum(events["app_size"], LONGEST).sum())
    texts, ends, there = text_column(column, ffi.from_buffer(events), size, len(events), data, room)
    return _texts(texts, np.frombuffer(ends, np.uint64), np.frombuffer(there, np.uint8))


def _address_text(table: Columns, column: int) -> pa.Array:
    """Return addresses as text, null where there is none."""
    events = np.ascontiguousarray(table)
    texts = np.empty(max(1, len(events) * lib.NR_ADDRESS_SIZE), np.uint8)
    ends = np.empty(len(events), np.uint64)
    made = lib.nr_address_column(
        column,
        ffi.from_buffer(events),
        events.dtype.itemsize,
        len(events),
        ffi.from_buffer("char[]", texts),
        ffi.from_buffer("uint64_t[]", ends),
    )
    sizes = np.diff(ends, prepend=np.uint64(0))
    return _texts(texts[:made].tobytes(), ends, sizes != 0)


def _texts(texts: bytes, ends: npt.NDArray[np.uint64], there: npt.NDArray[Any]) -> pa.Array:
    """Return a text for each row, of texts that lie one behind the other."""
    offsets = np.zeros(len(ends) + 1, np.int64)
    offsets[1:] = ends
    validity = np.packbits(there, bitorder="little")
    buffers = map(pa.py_buffer, (validity, offsets, texts))
    made = pa.Array.from_buffers(pa.large_string(), len(ends), list(buffers))
    return made.cast(pa.string())


def _mac(table: Columns, name: str) -> pa.Array:
    macs = np.ascontiguousarray(table[name])
    return _address(macs, np.zeros(len(macs), np.uint8), table["has_macs"] == 0)


def _measured(table: Columns) -> Iterator[tuple[str, pa.Array]]:
    """Yield the columns that ``FlowOptions`` turns on."""
    names = table.dtype.names or ()
    for side in ("orig", "resp"):
        if f"{side}_size_min" not in names:
            continue
        packets = table[f"{side}_packets"]
        for of, count in (("size", packets), ("gap", np.maximum(packets, 1) - 1)):
            for name in ("min", "mean", "max"):
                yield f"{side}_{of}_{name}", pa.array(table[f"{side}_{of}_{name}"])
            variance = np.where(count > 0, table[f"{side}_{of}_m2"] / np.maximum(count, 1), 0.0)
            yield f"{side}_{of}_deviation", pa.array(np.sqrt(variance))
    if "first_packets" in names:
        packets = table["first_packets"]
        there = np.arange(packets.shape[1]) < table["first_packet_count"][:, None]
        for name in ("size", "gap"):
            yield f"first_packet_{name}s", _lists(packets[name], there)


def _time(values: npt.NDArray[np.uint64]) -> pa.Array:
    """Return times in UTC, null for 0, of nanoseconds since the epoch."""
    return pa.array(values.astype(np.int64), type=pa.timestamp("ns", tz="UTC"), mask=values == 0)


def _duration(values: npt.NDArray[np.uint64], none: _Mask | None = None) -> pa.Array:
    """Return durations, of nanoseconds."""
    return pa.array(values.astype(np.int64), type=pa.duration("ns"), mask=none)


def _named(
    codes: npt.NDArray[np.uint8], names: Mapping[int, str], none: _Mask | None = None
) -> pa.Array:
    """Return the codes' names, null for a code without one."""
    places = np.full(256, -1, np.int16)
    places[list(names)] = range(len(names))
    found = places[codes]
    indices = pa.array(found, mask=found < 0 if none is None else (found < 0) | none)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(names.values())))


def _offsets(sizes: npt.NDArray[Any]) -> pa.Buffer:
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return pa.py_buffer(offsets)


def _lists(values: npt.NDArray[Any], there: _Mask) -> pa.Array:
    """Return a list for each row, of those of its values that are there."""
    items = pa.array(values[there])
    buffers = [None, _offsets(there.sum(axis=1))]
    return pa.Array.from_buffers(pa.list_(items.type), len(values), buffers, children=[items])


def _address(
    packed: npt.NDArray[np.uint8], family: npt.NDArray[np.uint8], none: _Mask | None = None
) -> pa.Array:
    """Return bytes in network order: 4 or 16, or the 6 of a station."""
    sizes = _ADDRESS_SIZES[family]
    validity = None
    if none is not None:
        sizes = np.where(none, 0, sizes)
        validity = pa.py_buffer(np.packbits(~none, bitorder="little"))
    data = packed[np.arange(packed.shape[1]) < sizes[:, None]]
    buffers = [validity, _offsets(sizes), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(packed), buffers)


def _text(values: npt.NDArray[np.bytes_], none: _Mask | None = None) -> pa.Array:
    """Return text of values that NUL bytes pad."""
    rows = np.ascontiguousarray(values)
    letters = rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize)
    there = letters != 0
    validity = None if none is None else pa.py_buffer(np.packbits(~none, bitorder="little"))
    buffers = [validity, _offsets(there.sum(axis=1)), pa.py_buffer(letters[there])]
    return pa.Array.from_buffers(pa.string(), len(rows), buffers)
