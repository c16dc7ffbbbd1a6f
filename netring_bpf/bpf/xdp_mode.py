"""Native or generic: where the kernel runs an XDP program."""

from __future__ import annotations

import enum

__all__ = ["XdpMode"]


class XdpMode(enum.Enum):
    """How the kernel runs an XDP program."""

    NATIVE = "native"  #: in the driver, before a packet becomes an skb
    GENERIC = "generic"  #: after that, for drivers without XDP: about half the speed
