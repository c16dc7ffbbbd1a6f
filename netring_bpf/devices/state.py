"""The file of a table of devices: JSON of version 1, which nobody but its owner can read."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from netring_bpf.devices.options import MAX_DEVICES, MAX_PREFIXES, Network
from netring_bpf.devices.station import (
    MAX_ADDRESSES,
    MAX_NAMES,
    MAX_SERVICES,
    MAX_TEXT,
    is_host,
    is_station,
)
from netring_bpf.errors import DeviceFileError
from netring_bpf.events.device import Device, DeviceAddress, DeviceName

__all__ = ["State", "read_state", "write_state"]

_VERSION: Final = 1
_MAX_SIZE: Final = 256 << 20  # bytes of a file
_MAX_COUNT: Final = (1 << 63) - 1
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_T = TypeVar("_T")


class State(NamedTuple):
    """The content of a state file."""

    devices: Sequence[Device]
    prefixes: Sequence[Network]
    saved: int


def write_state(path: Path, state: State) -> None:
    """Write the file in one step: it is the old one or the new one, and never a part.

    Raises ``DeviceFileError``.
    """
    record = {
        "format": "netring_bpf devices",
        "version": _VERSION,
        "saved": state.saved,
        "prefixes": [str(network) for network in state.prefixes],
        "devices": [_saved(device) for device in state.devices],
    }
    data = json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode()
    other = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(other, path)
        except BaseException:
            with contextlib.suppress(OSError):
                other.unlink()
            raise
    except OSError as error:
        raise DeviceFileError(f"save devices to {path}: {error.strerror}", path=path) from error


def _saved(device: Device) -> dict[str, object]:
    return device._asdict() | {
        "addresses": [(str(a.address), a.first, a.last, a.is_told) for a in device.addresses],
        "names": [tuple(name) for name in device.names],
    }


def read_state(path: Path) -> State:
    """Read a file, and believe nothing in it that a table would not have.

    Raises ``DeviceFileError``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise DeviceFileError(f"load devices of {path}: {error.strerror}", path=path) from error
    try:
        _check_file(path, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(_MAX_SIZE + 1)
    finally:
        os.close(descriptor)
    try:
        record = json.loads(data)
        if record["format"] != "netring_bpf devices":
            raise ValueError("it has another format")
        if record["version"] != _VERSION:
            raise ValueError(f"it is of version {record['version']!r:.20}, and this reads 1")
        devices = _list(record["devices"], MAX_DEVICES, _device)
        prefixes = _list(record["prefixes"], MAX_PREFIXES, _network)
        saved = _number(record["saved"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise _broken(path, what[:200]) from error
    return State(devices, prefixes, saved)


def _check_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _broken(path, "it is no regular file")
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & 0o022:
        raise _broken(path, "others can write to it; it must be yours alone (chmod 600)")
    if status.st_size > _MAX_SIZE:
        raise _broken(path, "it is too long")


def _broken(path: Path, why: str) -> DeviceFileError:
    return DeviceFileError(f"load devices of {path}: {why}; move it away to begin anew", path=path)


def _list(value: Any, most: int, made: Callable[[Any], _T]) -> list[_T]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"a list of at most {most} is not there")
    return [made(item) for item in value]


def _device(value: Any) -> Device:
    if not isinstance(value, dict):
        raise ValueError("a device is no object")
    mac = _text(value["mac"])
    if not _MAC.fullmatch(mac) or not is_station(mac):
        raise ValueError(f"{mac!r:.40} is no address of a station")
    vendor = value["vendor"]
    return Device(
        mac=mac,
        first=_number(value["first"]),
        last=_number(value["last"]),
        vendor=None if vendor is None else _text(vendor),
        random=bool(int(mac[:2], 16) & 2),
        is_gateway=value["is_gateway"] is True,
        addresses=tuple(_list(value["addresses"], MAX_ADDRESSES, _address)),
        names=tuple(_list(value["names"], MAX_NAMES, _name)),
        vlans=tuple(vlan & 0xFFF for vlan in _list(value["vlans"], 8, _number)),
        packets_sent=_number(value["packets_sent"]),
        packets_received=_number(value["packets_received"]),
        sent=_number(value["sent"]),
        received=_number(value["received"]),
        flows=_number(value["flows"]),
        offers=tuple(_list(value["offers"], MAX_SERVICES, _text)),
        uses=tuple(_list(value["uses"], MAX_SERVICES, _text)),
    )


def _address(value: Any) -> DeviceAddress:
    text, first, last, is_told = value
    address = ipaddress.ip_address(_text(text))
    if not is_host(address):
        raise ValueError(f"{address} is no address of a host")
    return DeviceAddress(address, _number(first), _number(last), is_told is True)


def _name(value: Any) -> DeviceName:
    name, source, first, last = value
    return DeviceName(_text(name), _text(source), _number(first), _number(last))


def _network(value: Any) -> Network:
    return ipaddress.ip_network(_text(value))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"a text of at most {MAX_TEXT} characters is not there")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_COUNT:
        raise ValueError(f"{value!r:.40} is no count and no time")
    return value
