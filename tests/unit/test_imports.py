"""Importing the package is cheap, and each foreign thing has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.savefiles import pcap

PACKAGE = Path(__file__).resolve().parents[2] / "netring_bpf"
HEAVY = (
    "bcc", "aiomqtt", "paho", "typer", "rich", "pyroute2", "msgspec", "numpy", "pyarrow",
    "netring_bpf._core",
)  # fmt: skip

FLOORS = {
    "errors": 0,
    "records": 0,
    "flow": 0,
    "flow_key": 0,
    "community_id": 0,
    "conn_state": 0,
    "pcapng": 0,
    "uid": 0,
    "statistics": 0,
    "interface": 1,
    "libpcap": 0,
    "filter_words": 0,
    "live_programs": 1,
    "filter": 1,
    "filter_set": 1,
    "broadcast": 1,
    "batch_subscriber": 1,
    "flow_subscriber": 1,
    "kinds": 1,
    "stream": 1,
    "subscriber": 1,
    "ring": 1,
    "ring.check": 1,
    "ring.flow_options": 1,
    "ring.options": 1,
    "bpf": 1,
    "bpf.cbpf": 2,
    "bpf.link": 2,
    "bpf.maps": 2,
    "bpf.compiler": 2,
    "bpf.slots": 3,
    "ring.arrow": 2,
    "ring.batch": 2,
    "ring.books": 2,
    "ring.columns": 2,
    "ring.decode": 2,
    "ring.reader": 2,
    "ring.readers": 3,
    "ring.text": 2,
    "bpf.program": 3,
    "rings": 4,
    "af_xdp": 4,
    "tpacket": 4,
    "backend": 4,
    "engines": 4,
    "capture": 4,
    "replay": 4,
    "source": 4,
    "formats": 5,
    "netring": 5,
    "netring_statistics": 5,
    "pump": 5,
    "record": 5,
    "sinks": 5,
    "": 6,
    "cli": 6,
}
DOORS = {
    "bcc": {"bpf/helper.py"},
    "pyroute2": {"interface.py"},
    "aiomqtt": {"sinks/mqtt.py"},
    "msgspec": {"sinks/encode.py"},
    "numpy": {"ring/arrow.py", "ring/columns.py"},
    "pyarrow": {"ring/arrow.py", "ring/batch.py"},
    "rich": {"cli/progress.py", "cli/table.py"},
    "netring_bpf._core": {
        "bpf/link.py",
        "bpf/maps.py",
        "bpf/program.py",
        "ring/books.py",
        "ring/batch.py",
        "ring/columns.py",
        "ring/decode.py",
        "ring/reader.py",
        "ring/socket_filter.py",
        "ring/text.py",
        "ring/verdict.py",
    },
}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def module_name(path: Path) -> str:
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


def floor_of(module: str) -> int:
    while module not in FLOORS:
        module = module.rpartition(".")[0]
    return FLOORS[module]


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_a_file_imports_only_from_its_own_floor_and_lower_ones(path: Path) -> None:
    own = floor_of(module_name(path))
    higher = {
        name
        for name in imports_of(path)
        if name.startswith("netring_bpf")
        and name != "netring_bpf._core"
        and floor_of(name.removeprefix("netring_bpf").lstrip(".")) > own
    }
    if module_name(path) == "":
        higher = set()
    assert higher == set()


@pytest.mark.parametrize("foreign", DOORS)
def test_each_foreign_thing_has_one_door(foreign: str) -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in sources()
        if any(name == foreign or name.startswith(foreign + ".") for name in imports_of(path))
    }
    # BCC is loaded by file location, which no import statement shows.
    assert users == (set() if foreign == "bcc" else DOORS[foreign])


def test_importing_the_package_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import netring_bpf"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "netring_bpf" in loaded
    heavy = {name for name in loaded if any(name == h or name.startswith(h + ".") for h in HEAVY)}
    assert heavy == set()


def test_reading_a_file_loads_nothing_that_an_interface_needs(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcap"
    path.write_bytes(pcap([]))
    command = [sys.executable, "-X", "importtime", "-c", "from netring_bpf.cli import main; main()"]
    for name in ("json", "zeek"):
        done = subprocess.run(
            [*command, "flows", "-r", path, "--format", name],
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "netring_bpf.formats.batch_text" in loaded
        needless = {
            "numpy",
            "netring_bpf.filter.libpcap",
            "netring_bpf.capture.capture",
            *HEAVY,
        } - {"netring_bpf._core"}
        assert needless & loaded == set()


def test_every_public_name_can_be_had() -> None:
    import netring_bpf

    assert len(netring_bpf.__all__) == len(set(netring_bpf.__all__))
    assert [name for name in netring_bpf.__all__ if not hasattr(netring_bpf, name)] == []
