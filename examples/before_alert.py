"""Record the minute before an alert: before_alert.py eth1 alert.pcapng bad.example.

A recorder keeps the last minute of all frames in memory. Whenever somebody asks DNS, TLS, QUIC or
HTTP for the name, the minute goes to a file: alert-00001.pcapng, alert-00002.pcapng, … It ends at
SIGINT and SIGTERM.
"""

import asyncio
import signal
import sys
from pathlib import Path

import netring_bpf as nr
from netring_bpf.errors import CaptureFileError

MINUTE = 60.0  # seconds


def written(path: Path) -> None:
    print("wrote", path, flush=True)


def failed(error: CaptureFileError) -> None:
    print("cannot write:", error, file=sys.stderr)


async def main(interface: str, path: str, name: str) -> None:
    loop = asyncio.get_running_loop()
    # TPACKET_V3 only listens, so two captures of one interface see each frame.
    capture = nr.Capture(interface, backend="tpacket_v3")
    options = nr.FlowOptions(events=(nr.AppEvent,))
    ring = nr.Netring(interface, backend="tpacket_v3", flow=options)
    with nr.Recorder(capture, path, nr.RecordOptions(ring_time=MINUTE)) as recorder:
        recording = asyncio.create_task(asyncio.to_thread(recorder.run))
        async with ring:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
            print("waiting for", name, "on", interface, flush=True)
            async for event in ring.subscribe(kinds=nr.AppEvent):
                match event:
                    case nr.AppEvent(app=app, flow=flow) if app.name == name:
                        print(flow.key.orig.text, "asks for it by", app.protocol, flush=True)
                        recorder.trigger(written, failed)
                    case nr.Lagged(missed=missed):
                        print("fell behind by", missed, "events", file=sys.stderr)
        recorder.stop()
        await recording


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
