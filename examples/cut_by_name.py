"""Cut a capture to the servers of a name: cut_by_name.py big.pcapng www.example.org out.pcapng.

A filter knows addresses and no names, so the file is read twice: first for the servers of the name,
as DNS, TLS, QUIC and HTTP tell them, then for the frames from and to these servers. The second pass
is the command ``netring-bpf record -r``.
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import netring_bpf as nr


async def servers_of(name: str, path: str) -> set[str]:
    """Return the addresses that the name has in the capture."""
    found: set[str] = set()
    options = nr.FlowOptions(events=(nr.AppEvent,))
    async with nr.Netring.replay(path, flow=options) as ring:
        async for event in ring.subscribe(kinds=nr.AppEvent):
            match event:
                case nr.AppEvent(app=nr.App(details=nr.DnsDetails(answers=answers)) as app):
                    if app.name == name:
                        found |= {a.data for a in answers if a.chained and a.type in {"A", "AAAA"}}
                case nr.AppEvent(app=app, flow=flow) if app.name == name:
                    found.add(flow.key.resp.text)
    return found


def cut(path: str, servers: set[str], target: str) -> None:
    """Copy the frames from and to the servers, as they are."""
    with tempfile.TemporaryDirectory() as folder:
        hosts = Path(folder) / "hosts.txt"
        hosts.write_text("".join(f"{server}\n" for server in sorted(servers)))
        command = [sys.executable, "-m", "netring_bpf", "record", "-r", path, "-w", target]
        subprocess.run([*command, "--hosts", str(hosts)], check=True)  # noqa: S603


def main(path: str, name: str, target: str) -> None:
    servers = asyncio.run(servers_of(name, path))
    if not servers:
        sys.exit(f"{name!a} has no server in {path}")
    print(*sorted(servers), sep="\n", flush=True)
    cut(path, servers, target)


if __name__ == "__main__":
    main(*sys.argv[1:4])
