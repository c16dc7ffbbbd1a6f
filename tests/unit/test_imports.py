"""Importing the package is cheap, and a command loads only what it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.savefiles import pcap

HEAVY = (
    "asyncio", "bcc", "aiomqtt", "paho", "rich", "pyroute2", "numpy", "pyarrow", "lz4", "backports",
    "aiohttp", "netring_bpf._core",
)  # fmt: skip


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
