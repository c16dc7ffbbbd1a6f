"""Join flows with the logs of Zeek or Suricata: community_id_join.py capture.pcap eve.json.

The log has a JSON object in a line, with ``community_id``: Suricata's eve.json, or a log of Zeek
with policy/protocols/conn/community-id-logging. Each entry of a flow of the capture is a line with
what the flow tells beside it. The first argument may be an interface; then it ends at SIGINT and
SIGTERM.
"""

import asyncio
import json
import signal
import sys
from collections import defaultdict
from pathlib import Path

import netring_bpf as nr
from netring_bpf.errors import printable


def entry(record: dict[str, object]) -> str:
    """Return what an entry of the log says, safe to show."""
    match record:
        case {"alert": {"signature": str(signature)}}:
            return printable(signature[:200])
        case {"event_type": str(kind)} | {"service": str(kind)} | {"note": str(kind)}:
            return printable(kind[:200])
    return "-"


def read_log(path: str) -> dict[str, list[str]]:
    """Return the entries of each Community ID."""
    entries = defaultdict[str, list[str]](list)
    with Path(path).open(encoding="utf-8", errors="backslashreplace") as log:
        for number, line in enumerate(log, 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                sys.exit(f"{printable(path)}, line {number}: no JSON")
            if isinstance(record, dict) and isinstance(name := record.get("community_id"), str):
                entries[name].append(entry(record))
    return entries


async def main(ring: nr.Netring, entries: dict[str, list[str]]) -> None:
    loop = asyncio.get_running_loop()
    async with ring:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        async for event in ring.subscribe(kinds=nr.FlowEnded):
            if isinstance(event, nr.FlowEnded):
                flow = event.flow
                for told in entries.get(flow.key.community_id(), ()):
                    print(told, flow.key, flow.conn_state, f"{flow.bytes} bytes", sep="\t")


if __name__ == "__main__":
    source, entries = sys.argv[1], read_log(sys.argv[2])
    is_file = Path(source).is_file()
    asyncio.run(main(nr.Netring.replay(source) if is_file else nr.Netring(source), entries))
