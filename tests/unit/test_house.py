"""The rooms of the package: who may use whom, no circles, one door for each foreign thing."""

from __future__ import annotations

from pathlib import Path

import pytest

import netring_bpf
from tests.support.house import MAY_IMPORT, House, circles

DOORS = {
    "bcc": set[str](),  # bpf/helper.py loads it by file location, which no import shows
    "pyroute2": {"interface/netlink.py"},
    "aiomqtt": {"sinks/mqtt_connection.py"},
    "paho": {"sinks/mqtt_connection.py"},
    "numpy": {"events/arrow.py", "events/columns.py"},
    "pyarrow": {"events/arrow.py", "events/batch.py", "read/flow_reader.py"},
    "pandas": {"read/flow_reader.py"},
    "polars": {"read/flow_reader.py"},
    "backports": {"capture/packings.py"},
    "lz4": {"capture/packings.py"},
    "aiooui": {"devices/vendors.py"},
    "aiohttp": {"web/api.py", "web/connections.py", "web/guard.py", "web/server.py"},
    "rich": {"cli/device_printer.py", "cli/progress.py", "cli/table.py", "cli/top_app.py"},
    "textual": {"cli/top_app.py"},
    "netring_bpf._core": {
        "aggregate/totals.py",
        "bpf/attach_filter.py",
        "bpf/attached.py",
        "bpf/link.py",
        "bpf/maps.py",
        "bpf/program.py",
        "bpf/set_maps.py",
        "events/app_record.py",
        "events/arrow.py",
        "events/batch.py",
        "events/columns.py",
        "events/decode.py",
        "events/layout.py",
        "filter/interpreter.py",
        "formats/batch_text.py",
        "ring/books.py",
        "ring/names.py",
        "ring/reader.py",
    },
}


@pytest.fixture(scope="module")
def house() -> House:
    return House()


@pytest.fixture
def small_house(tmp_path: Path) -> House:
    """Errors use statistics, which use errors; the dissector calls the flow table."""
    files = {
        "errors.py": "from netring_bpf import statistics",
        "statistics.py": "from netring_bpf.errors import NetringError",
        "capture/replay.py": "def late():\n    import netring_bpf.sinks.base",
        "sinks/base.py": "",
        "ring/core.h": "void nr_table_flush(void);",
        "ring/dissect/key.c": '#include "core.h"\nvoid nr_key(void) {\n    nr_table_flush();\n}\n',
        "ring/flow/table.c": "/* nr_key() */\nvoid nr_table_flush(void) {\n}\n",
    }
    for name, text in files.items():
        path = tmp_path / "netring_bpf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return House(tmp_path)


def test_each_room_has_a_row_in_the_table(house: House) -> None:
    assert set(house.rooms) == set(MAY_IMPORT)


def test_a_room_uses_only_what_the_table_allows(house: House) -> None:
    assert [arrow.complaint() for arrow in house.arrows if not arrow.is_allowed] == []


def test_no_rooms_use_each_other_in_a_circle(house: House) -> None:
    assert circles(house.room_graph()) == []


def test_no_files_use_each_other_in_a_circle(house: House) -> None:
    assert circles(house.file_graph()) == []


def test_a_forbidden_use_is_found_and_the_remedy_told(small_house: House) -> None:
    found = {arrow.source: arrow for arrow in small_house.arrows if not arrow.is_allowed}
    assert {source: arrow.target for source, arrow in found.items()} == {
        "errors.py": "statistics.py",
        "capture/replay.py": "sinks/base.py",
        "ring/dissect/key.c": "ring/flow/table.c",
    }
    assert found["ring/dissect/key.c"].complaint() == (
        "netring_bpf/ring/dissect/key.c (C dissect) uses netring_bpf/ring/flow/table.c (C flow), "
        "and C dissect may use only: core, source/frame.h. Move the code to a room that may, pass "
        "the value in, or declare a Protocol for what is needed of it."
    )


def test_a_circle_is_found(small_house: House) -> None:
    assert circles(small_house.room_graph()) == [["errors", "statistics"]]
    assert circles(small_house.file_graph()) == [["errors.py", "statistics.py"]]


@pytest.mark.parametrize("foreign", DOORS)
def test_each_foreign_thing_has_its_doors(house: House, foreign: str) -> None:
    assert house.foreign(foreign) == DOORS[foreign]


def test_the_package_names_each_of_its_rooms(house: House) -> None:
    told = netring_bpf.__doc__ or ""
    folders = {room for room, files in house.rooms.items() if "/" in files[0]}
    assert {room for room in folders if not room.startswith("C ") and room not in told} == set()
