"""The file of a table of devices: what was saved is what is loaded, and nothing else is."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import DeviceTable
from netring_bpf.errors import DeviceFileError
from tests.unit.devices.test_table import PC, PHONE, ROUTER, ended, table, told


@pytest.fixture
def saved(tmp_path: Path) -> tuple[DeviceTable, Path]:
    devices = table(vendor="Maker")
    devices.observe(
        [
            told("10.0.0.5", PC),
            told("fe80::6", PHONE),
            ended("10.0.0.5", "203.0.113.1", (PC, ROUTER), orig=(3, 300), resp=(2, 200)),
        ]
    )
    devices.learn_name(PC, "p\x1b[1mc\u00e9", "dhcp", 5)
    path = tmp_path / "devices.json"
    devices.save(path)
    return devices, path


def test_the_loaded_table_is_the_saved_one_and_greets_nobody(
    saved: tuple[DeviceTable, Path],
) -> None:
    devices, path = saved
    loaded = table()
    loaded.load(path)
    assert list(loaded) == list(devices)
    assert loaded.prefixes == devices.prefixes
    assert loaded.observe([told("10.0.0.5", PC)]) == []
    assert loaded.of("fe80::6") == devices.get(PHONE)
    assert loaded.statistics().loaded == 3


def test_only_its_owner_can_read_the_file_and_no_other_is_left(
    saved: tuple[DeviceTable, Path],
) -> None:
    devices, path = saved
    path.chmod(0o644)
    devices.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["devices.json"]


def test_a_save_that_fails_leaves_the_old_file(
    saved: tuple[DeviceTable, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    devices, path = saved
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DeviceFileError, match="No space left"):
        devices.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["devices.json"]


def _set(*place: object) -> Callable[[Any], None]:
    *way, last, value = place

    def change(record: Any) -> None:
        for step in way:
            record = record[step]
        record[last] = value

    return change


HOSTILE = {
    "another format": _set("format", "x"),
    "another version": _set("version", 2),
    "no devices": _set("devices", None),
    "a device that is a list": _set("devices", 0, []),
    "a group's address": _set("devices", 0, "mac", "ff:ff:ff:ff:ff:ff"),
    "no address": _set("devices", 0, "mac", "00:16:3e:00:00:0a\n"),
    "a negative count": _set("devices", 0, "sent", -1),
    "a huge count": _set("devices", 0, "sent", 1 << 80),
    "a fraction": _set("devices", 0, "flows", 1.5),
    "a long name": _set("devices", 0, "names", [["x" * 300, "dhcp", 0, 0]]),
    "many names": _set("devices", 0, "names", [["x", "dhcp", 0, 0]] * 17),
    "half a name": _set("devices", 0, "names", [["x"]]),
    "an address of a group": _set("devices", 0, "addresses", [["224.0.0.1", 0, 0, True]]),
    "a prefix that is none": _set("prefixes", ["10.0.0.0/99"]),
    "many prefixes": _set("prefixes", ["10.0.0.0/8"] * 300),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_broken_file_is_refused(name: str, saved: tuple[DeviceTable, Path]) -> None:
    _, path = saved
    record = json.loads(path.read_text())
    HOSTILE[name](record)
    path.write_text(json.dumps(record))
    loaded = table()
    with pytest.raises(DeviceFileError, match=r"devices\.json"):
        loaded.load(path)
    assert len(loaded) == 0


@pytest.mark.parametrize("data", [b"", b"[", b"{}", b"[]", b"\xff", b"[" * 100_000, b"1e999"])
def test_what_is_no_record_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(DeviceFileError):
        table().load(path)


def test_a_file_that_others_can_write_a_link_and_a_pipe_are_refused(
    saved: tuple[DeviceTable, Path],
) -> None:
    _, path = saved
    link, pipe = path.with_name("link"), path.with_name("pipe")
    link.symlink_to(path)
    os.mkfifo(pipe)
    path.chmod(0o620)
    for wrong in (path, link, pipe, path.with_name("none"), path.parent):
        with pytest.raises(DeviceFileError):
            table().load(wrong)
