"""Flows as tables: columns for people, the same as JSON, read by DuckDB, Polars and pandas."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import netring_bpf as nr
from netring_bpf import EventBatch, FlowKey, FlowOptions
from netring_bpf.errors import CaptureFileError, ClosedError
from netring_bpf.events.fields import FLAT, MEASURED, SECONDS, TIMES
from netring_bpf.events.plain import time_text
from tests.support.frames import udp
from tests.support.replay import START, Frame
from tests.support.savefiles import pcap
from tests.support.sizes import size
from tests.unit.events.test_columns import FULL, frames

A, B = "10.0.0.1", "10.0.0.2"
FLOWS = 5000


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    """Both IP versions, VLANs, ICMP, tunnels, a protocol without a name."""
    path = tmp_path / "varied.pcap"
    path.write_bytes(pcap([Frame(f, START + n * 1_234_567) for n, f in enumerate(frames())]))
    return path


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.pcap"
    path.write_bytes(pcap([Frame(udp(A, B, n + 1, 53), START + n * 1000) for n in range(FLOWS)]))
    return path


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row of Arrow as the record of JSON: without what does not apply."""
    made = {}
    for name, value in row.items():
        if value is None or (name in _RARE and not value):
            continue
        made[name] = value
    return made


_RARE = {
    "mac_changes", "icmp_errors", "one_sided", "app_count", "app_cut",
    *(f"{side}_{name}" for side in ("orig", "resp") for name in (
        "missing_bytes", "retransmitted", "out_of_order", "gaps", "zero_windows", "bad_checksums",
        "implausible", "fin_acked", "fragments",
    )),
}  # fmt: skip


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows, with times as text and durations in seconds, as JSON has them."""
    columns = {}
    for name in table.schema.names:
        column = table[name]
        if name in TIMES:
            numbers = column.cast(pa.int64()).to_pylist()
            columns[name] = [None if n is None else time_text(n) for n in numbers]
        elif pa.types.is_duration(column.type):
            numbers = column.cast(pa.int64()).to_pylist()
            columns[name] = [None if n is None else n / 1e9 for n in numbers]
        elif name in SECONDS and not pa.types.is_list(column.type):
            columns[name] = [n / 1e9 for n in column.to_pylist()]
        elif name == "first_packet_gaps":
            columns[name] = [[n / 1e9 for n in gaps] for gaps in column.to_pylist()]
        else:
            columns[name] = column.to_pylist()
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


@pytest.mark.parametrize(
    "options", [FlowOptions(), FULL, FlowOptions(key=FlowKey.MAC_PAIR), FlowOptions(names="off")]
)
def test_a_row_has_the_words_of_the_json_record(varied: Path, options: FlowOptions) -> None:
    table = nr.read_flows(varied, flow=options).to_arrow()
    table.validate(full=True)
    measured = MEASURED if options.packet_statistics else ()
    assert table.schema.names == [*FLAT, *measured]
    batches = list(nr.read_flows(varied, flow=options).batches())
    records = [json.loads(event.to_json()) for batch in batches for event in batch]
    rows = rows_of(table)
    assert len(rows) == len(records) > 0
    for row, record in zip(rows, records, strict=True):
        record.pop("app_details", None)
        assert as_json(row) == {k: v for k, v in record.items() if v or k not in _RARE}


def test_columns_have_types_for_people(varied: Path) -> None:
    schema = nr.read_flows(varied).to_arrow().schema
    for name in (
        "event", "proto", "orig_addr", "resp_addr", "orig_mac", "tunnel_orig_addr", "orig_state",
        "conn_state", "community_id", "reason", "app_protocol", "app_name", "resp_name", "app_ja4",
    ):  # fmt: skip
        assert schema.field(name).type == pa.string(), name
    for name in ("ts", "start", "last", "orig_first"):
        assert schema.field(name).type == pa.timestamp("ns", tz="UTC"), name
    assert schema.field("duration").type == pa.duration("ns")
    raw = nr.read_flows(varied).to_arrow(raw=True)
    assert raw.schema.names == schema.names
    assert (raw.schema.field("orig_addr").type, raw.schema.field("proto").type) == (
        pa.binary(),
        pa.uint8(),
    )


def test_a_protocol_without_a_name_is_its_number(tmp_path: Path) -> None:
    from tests.support.frames import ip

    path = tmp_path / "odd.pcap"
    numbers = [*range(0, 256, 51)]
    path.write_bytes(pcap([Frame(ip(A, B, n, bytes(8)), START) for n in numbers]))
    names = {flow.key.proto: flow.key.proto_name for flow in nr.read_flows(path)}
    found = nr.read_flows(path).to_arrow()["proto"].to_pylist()
    assert sorted(found) == sorted(names.values())
    assert len(found) >= 4


def test_the_table_is_all_of_the_flows(many: Path) -> None:
    flows = nr.read_flows(many)
    table = flows.to_arrow()
    assert table.num_rows == FLOWS
    assert table["orig_port"].to_pylist() == list(range(1, FLOWS + 1))
    assert flows.statistics().flows.ended_packets == FLOWS
    with pytest.raises(ClosedError):
        flows.to_arrow()


# -- libraries --


def test_pyarrow_reads_a_stream_batch_by_batch(many: Path) -> None:
    with nr.read_flows(many) as flows:
        reader = pa.RecordBatchReader.from_stream(flows)
        sizes = [batch.num_rows for batch in reader]
    assert sum(sizes) == FLOWS
    assert max(sizes) <= 4096
    assert pa.table(nr.read_flows(many)).equals(nr.read_flows(many).to_arrow())


def test_pandas_has_the_flows(many: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = nr.read_flows(many).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == FLOWS
    assert frame["orig_addr"].unique().tolist() == [A]
    assert frame.groupby("proto")["orig_packets"].sum().to_dict() == {"udp": FLOWS}
    assert frame["ts"].dt.tz is not None
    assert frame["start"].min() == pandas.Timestamp(START, tz="UTC")


def test_polars_has_the_flows(many: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = nr.read_flows(many).to_polars()
    assert frame.height == FLOWS
    assert frame.group_by("proto", "orig_addr").len().rows() == [("udp", A, FLOWS)]
    assert polars.DataFrame(nr.read_flows(many)).equals(frame)
    assert frame["start"].dtype == polars.Datetime("ns", "UTC")


def test_polars_has_a_batch(varied: Path) -> None:
    polars = pytest.importorskip("polars")
    for batch in nr.read_flows(varied).batches():
        frame = polars.DataFrame(batch)
        assert frame.columns == batch.to_arrow().schema.names
        assert frame["orig_addr"].to_list() == [event.flow.key.orig.text for event in batch]
        assert polars.DataFrame(batch[:2]).height == 2


def test_a_batch_is_a_sequence_all_the_same(many: Path) -> None:
    batch = next(nr.read_flows(many).batches())
    assert isinstance(batch, EventBatch)
    events = list(batch)
    assert list(reversed(batch)) == events[::-1]
    assert (batch.index(events[3]), batch.count(events[3])) == (3, 1)
    assert events[5] in batch
    assert None not in batch


@pytest.fixture
def connection() -> Iterator[Any]:
    """DuckDB without threads of its own, which would stay in the list of Python's."""
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


def test_duckdb_reads_the_flows_themselves(many: Path, connection: Any) -> None:
    flows = nr.read_flows(many)
    query = "select proto, orig_addr, count(*), sum(orig_packets) from flows group by all"
    assert connection.sql(query).fetchall() == [("udp", A, FLOWS, FLOWS)]
    assert flows.statistics().balanced
    three = nr.read_flows(many)  # noqa: F841 - DuckDB finds it by its name
    assert connection.sql("select orig_port from three limit 3").fetchall() == [(1,), (2,), (3,)]


def test_duckdb_says_that_the_flows_were_read(many: Path, connection: Any) -> None:
    flows = nr.read_flows(many)  # noqa: F841
    assert connection.sql("select count(*) from flows").fetchall() == [(FLOWS,)]
    with pytest.raises(Exception, match=r"read and closed|were read"):
        connection.sql("select count(*) from flows").fetchall()


def test_the_error_of_a_broken_file_comes_through_every_library(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap([Frame(udp(A, B, n + 1, 9), START + n) for n in range(50)])[:-3])
    for read in (
        nr.FlowReader.to_arrow, nr.FlowReader.to_pandas, nr.FlowReader.to_polars,
    ):  # fmt: skip
        with pytest.raises(CaptureFileError, match="was cut"):
            read(nr.read_flows(path))
    flows = nr.read_flows(path)
    with pytest.raises(Exception, match="was cut"):
        pa.table(flows)
    assert isinstance(flows.error, CaptureFileError)
    stream = nr.read_flows(path).record_batches()
    assert stream.read_next_batch().num_rows == 49
    with pytest.raises(CaptureFileError, match="was cut"):
        stream.read_next_batch()


@pytest.mark.parametrize("package", ["pyarrow", "pandas", "polars"])
def test_a_package_that_is_missing_is_told_before_anything_is_read(
    many: Path, package: str
) -> None:
    call = {"pyarrow": "to_arrow", "pandas": "to_pandas", "polars": "to_polars"}[package]
    code = f"""
import sys
sys.modules[{package!r}] = None
import netring_bpf as nr
from netring_bpf.errors import PackageMissingError
flows = nr.read_flows({str(many)!r})
try:
    flows.{call}()
except PackageMissingError as error:
    print(error)
print(sum(1 for _ in flows))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told, count = done.stdout.splitlines()
    extra = "arrow" if package == "pyarrow" else package
    assert told.endswith(f'pip install "netring-bpf[{extra}]"')
    assert count == str(FLOWS)


_STREAMED = """
import resource, sys
import netring_bpf as nr
flows = nr.read_flows(sys.argv[1], flow=nr.FlowOptions(idle_udp=0.001, max_flows=1024, names="off"))
kind, rows = sys.argv[2], 0
if kind == "loop":
    rows = sum(1 for _ in flows)
elif kind == "pyarrow":
    import pyarrow as pa
    rows = sum(batch.num_rows for batch in pa.RecordBatchReader.from_stream(flows))
elif kind == "duckdb":
    import duckdb
    query = "select count(*), sum(orig_bytes) from flows"
    rows = duckdb.connect(config={"threads": 1}).sql(query).fetchall()[0][0]
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.fixture(scope="module")
def few_and_many(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Captures by their number of flows, each of one packet."""
    folder = tmp_path_factory.mktemp("captures")
    frame = bytearray(udp(A, B, 1, 1))
    files = {}
    for count in (size(20_000, 100_000), size(200_000, 1_000_000)):
        parts = [pcap([])]
        for n in range(count):
            struct.pack_into("!HH", frame, 34, 1 + n % 60_000, 1 + n // 60_000)
            seconds, micros = divmod(n * 10, 1_000_000)
            parts.append(struct.pack("<IIII", 1_700_000_000 + seconds, micros, *[len(frame)] * 2))
            parts.append(bytes(frame))
        files[count] = folder / f"{count}.pcap"
        files[count].write_bytes(b"".join(parts))
    return files


@pytest.mark.parametrize("kind", ["loop", "pyarrow", "duckdb"])
def test_a_stream_needs_as_much_memory_for_many_flows_as_for_few(
    few_and_many: dict[int, Path], kind: str
) -> None:
    """Ten times the flows, of which a table would need a hundred megabytes more."""
    if kind == "duckdb":
        pytest.importorskip("duckdb")
    peaks = []
    for count, path in few_and_many.items():
        command = [sys.executable, "-c", _STREAMED, str(path), kind]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows, peak = map(int, done.stdout.split()[-2:])  # DuckDB may draw a bar
        assert rows == count
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 40
