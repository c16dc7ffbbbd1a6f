"""The modes of XDP."""

from __future__ import annotations

import enum

__all__ = ["XdpMode"]


class XdpMode(enum.Enum):
    """The place where the kernel runs an XDP program."""

    NATIVE = "native"  #: in the driver, before a packet becomes an skb
    GENERIC = "generic"  #: after that; slower, for drivers without XDP
