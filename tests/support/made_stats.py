"""Aggregates made by hand, for what is tested above them."""

from __future__ import annotations

import ipaddress

from netring_bpf import (
    CaptureInfo,
    Device,
    DeviceAddress,
    DeviceName,
    Health,
    StatsUpdated,
    Sums,
    Top,
    TopRow,
    Traffic,
)

__all__ = ["INFO", "SECOND", "START", "device", "row", "stats"]

SECOND = 1_000_000_000
START = 1_732_400_000 * SECOND
INFO = CaptureInfo(
    version="1.2.3",
    interface="eth0",
    backend="tpacket_v3",
    attach=None,
    filter="tcp port 443",
    since=START,
    options=(("flow.key", "host_pair"),),
    notices=("no huge pages",),
)


def row(number: int) -> TopRow:
    """A row that differs from every other by its number."""
    name = f"host-{number}.example" if number % 2 else None
    return TopRow(f"10.0.0.{number}", name, number, 2, 1000 * number, 500, 3, 0)


def stats(
    number: int = 1, *, rows: int = 3, devices: int | None = None, packets: int = 100
) -> StatsUpdated:
    """The aggregates of interval ``number``, of 10 s."""
    table = tuple(row(n) for n in range(rows, 0, -1))
    top = Top(table, table, table, table, table, table)
    traffic = Traffic(inbound=Sums(packets, 60 * packets, 3), outbound=Sums(10, 12_000, 1))
    health = Health(
        received=110,
        lost=5,
        not_keyed={"not_ip": 2},
        flows_live=7,
        flows_capacity=1000,
        memory=50_000_000 + number,
        cpu=0.01 * number,
        devices=devices,
    )
    end = START + number * 10 * SECOND
    return StatsUpdated(end, "eth0", number, end - 10 * SECOND, traffic, top, traffic, top, health)


def device(number: int, *, name: str | None = None, last: int = START) -> Device:
    """A device that differs from every other by its number."""
    names = () if name is None else (DeviceName(name, "dhcp", START, START),)
    address = ipaddress.ip_address(f"192.168.{number >> 8}.{number & 255}")
    return Device(
        mac=f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
        first=START,
        last=last,
        random=True,
        addresses=(DeviceAddress(address, START, START, is_told=True),),
        names=names,
        packets_sent=number,
        sent=100 * number,
    )
