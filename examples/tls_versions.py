"""List the versions and ciphers of TLS, and who still speaks old ones: tls_versions.py eth1.

The argument may be a capture file. Old are versions before 1.2, and ciphers that are broken or keep
no past session secret. Each such handshake is a line; the table stands at the end. It ends with the
file, and at SIGINT and SIGTERM.
"""

import asyncio
import re
import signal
import sys
from collections import Counter
from pathlib import Path

import netring_bpf as nr

OLD_VERSIONS = {"SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1", "DTLSv1.0"}
OLD_CIPHER = re.compile("RC4|DES|NULL|EXPORT|anon|_MD5|^TLS_RSA_")


def is_old(version: str, cipher: str) -> bool:
    return version in OLD_VERSIONS or OLD_CIPHER.search(cipher) is not None


def open_ring(source: str) -> nr.Netring:
    """Open the interface, or the capture file."""
    options = nr.FlowOptions(events=(nr.AppEvent,))
    if Path(source).is_file():
        return nr.Netring.replay(source, flow=options)
    return nr.Netring(source, flow=options)


async def main(source: str) -> None:
    seen, loop = Counter[tuple[str, str]](), asyncio.get_running_loop()
    async with open_ring(source) as ring:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        async for event in ring.subscribe(kinds=nr.AppEvent):
            match event:
                case nr.AppEvent(flow=flow, app=nr.App(details=nr.TlsDetails(cipher=str(cipher)))):
                    version = event.app.version or "-"
                    seen[version, cipher] += 1
                    if is_old(version, cipher):
                        name = event.app.name or "-"
                        print(flow.key, name, version, cipher, sep="\t", flush=True)
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)
    for (version, cipher), times in seen.most_common():
        print(f"{times:6}  {version:8}  {cipher}{'  (old)' if is_old(version, cipher) else ''}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
