"""The tools that users would otherwise pick. The project needs none; a flag installs each.

They come from Debian, or from PyPI into a virtual environment of their own under ``build/peers``.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PEERS", "Peer", "install", "is_installed"]

_PLACE = Path(__file__).resolve().parents[2] / "build" / "peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """The packages of a peer. It is installed where ``program`` exists."""

    program: str
    debian: tuple[str, ...] = ()
    pypi: tuple[str, ...] = ()


PEERS = {
    "anyio": Peer("anyio", pypi=("anyio", "cffi")),  # the reader that makes the events needs cffi
    "argus": Peer("/usr/sbin/argus", debian=("argus-server", "argus-client")),
    "dpkt": Peer("dpkt", pypi=("dpkt",)),
    "nfpcapd": Peer("/usr/bin/nfpcapd", debian=("nfdump",)),
    "nfstream": Peer("nfstream", pypi=("nfstream",)),
    "libpcap": Peer("/usr/include/pcap/pcap.h", debian=("libpcap-dev",)),
    "scapy": Peer("scapy", pypi=("scapy",)),
    "softflowd": Peer("/usr/sbin/softflowd", debian=("softflowd",)),
    "tcpdump": Peer("/usr/bin/tcpdump", debian=("tcpdump",)),
    "tshark": Peer("/usr/bin/tshark", debian=("tshark",)),
}


def is_installed(name: str) -> bool:
    """Whether a peer from Debian is there already."""
    return Path(PEERS[name].program).exists()


def install(name: str) -> Path:
    """Install the peer if it is missing; returns its program, or the Python that can import it."""
    peer = PEERS[name]
    if peer.debian:
        if not is_installed(name):
            print(f"installing {' '.join(peer.debian)}", file=sys.stderr)
            command = ["apt-get", "install", "--yes", "--no-install-recommends", *peer.debian]
            environment = {
                "DEBIAN_FRONTEND": "noninteractive",
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            }
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return Path(peer.program)
    python = _PLACE / name / "bin" / "python"
    if not python.exists():
        print(f"installing {' '.join(peer.pypi)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(_PLACE / name)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", *peer.pypi]
        subprocess.run(pip, check=True)
    return python
