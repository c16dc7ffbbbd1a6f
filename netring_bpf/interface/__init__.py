"""Network interfaces: what they are, who uses them, and their changes.

Everything here is about the network namespace of the calling thread; ``in_namespace`` moves the
thread to another.
"""

from __future__ import annotations

from netring_bpf.interface.capture_port import OwnMarks
from netring_bpf.interface.interface import Interface
from netring_bpf.interface.link_watch import LinkChange, LinkWatch
from netring_bpf.interface.namespace import in_namespace
from netring_bpf.interface.promiscuous import Promiscuous

__all__ = ["Interface", "LinkChange", "LinkWatch", "OwnMarks", "Promiscuous", "in_namespace"]
