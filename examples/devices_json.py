"""Keep a file of the devices on a network: devices_json.py eth1 devices.json [state.json].

devices.json is replaced in one step, at most once a second, as something new is known of a device.
The state keeps what is known over restarts. The first argument may be a capture file. It ends with
the file, and at SIGINT and SIGTERM.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import netring_bpf as nr


def write(devices: nr.DeviceTable, path: Path) -> None:
    """Replace the file: a reader sees the old one or the new one, and never a part."""
    records = [device.to_dict() for device in sorted(devices, key=lambda device: device.mac)]
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(records, indent=1) + "\n")
    os.replace(part, path)


async def keep(devices: nr.DeviceTable, path: Path, changed: asyncio.Event) -> None:
    """Write the file as often as it is worth it."""
    while await changed.wait():
        changed.clear()
        write(devices, path)
        await asyncio.sleep(1)


def open_ring(source: str, state: str | None) -> nr.Netring:
    """Open the interface, or the capture file."""
    options = nr.DeviceOptions(state=state)
    if Path(source).is_file():
        return nr.Netring.replay(source, devices=options)
    return nr.Netring(source, devices=options)


async def main(source: str, path: Path, state: str | None = None) -> None:
    changed, loop = asyncio.Event(), asyncio.get_running_loop()
    async with open_ring(source, state) as ring, asyncio.TaskGroup() as tasks:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        writer = tasks.create_task(keep(ring.devices, path, changed))
        kinds = (nr.DeviceSeen, nr.DeviceChanged, nr.DeviceGone)
        async for event in ring.subscribe(kinds=kinds):
            changed.set()  # at a Lagged, too: something has changed
            if isinstance(event, nr.DeviceSeen):
                print("new:", event.device.mac, event.device.name or "-", flush=True)
        writer.cancel()
        write(ring.devices, path)
        print(len(ring.devices), "devices in", path)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:4]))
