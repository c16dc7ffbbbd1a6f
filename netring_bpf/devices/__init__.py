"""A table of the stations behind a link, made of its flow events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netring_bpf.lazy import hand_on

if TYPE_CHECKING:
    from netring_bpf.devices.options import DeviceOptions
    from netring_bpf.devices.table import DeviceStatistics, DeviceTable

__all__ = ["DeviceOptions", "DeviceStatistics", "DeviceTable"]

if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    __getattr__ = hand_on(
        __name__,
        {
            "DeviceOptions": "netring_bpf.devices.options",
            "DeviceStatistics": "netring_bpf.devices.table",
            "DeviceTable": "netring_bpf.devices.table",
        },
    )
