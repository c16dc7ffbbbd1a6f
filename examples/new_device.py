"""Tell of devices that are new on a network: new_device.py eth1 devices.json.

The file remembers the devices, so a restart does not tell of them again. The first argument may be
a capture file.
"""

import asyncio
import sys
from pathlib import Path

import netring_bpf as nr


def open_ring(source: str, state: str) -> nr.Netring:
    """Open the interface, or the capture file."""
    options = nr.DeviceOptions(state=state)
    if Path(source).is_file():
        return nr.Netring.replay(source, devices=options)
    return nr.Netring(source, devices=options)


async def main(source: str, state: str) -> None:
    async with open_ring(source, state) as ring:
        print("reading", source, "by", ring.backend, file=sys.stderr)
        async for event in ring.subscribe(kinds=nr.DeviceSeen):
            match event:
                case nr.DeviceSeen(device=new):
                    addresses = ", ".join(str(known.address) for known in new.addresses)
                    print(new.mac, new.name or new.vendor or "unknown", addresses, sep="\t")
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
