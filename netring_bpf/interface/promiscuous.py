"""Makes an interface take in frames for every address."""

from __future__ import annotations

import socket
import struct
from typing import Self

from netring_bpf.errors import SyscallError
from netring_bpf.interface.interface import Interface
from netring_bpf.privileges import explain_refusal

__all__ = ["Promiscuous"]

_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 263, 1, 1


class Promiscuous:
    """Keeps an interface promiscuous; ends with ``close()``, ``with``, or the process.

    The frames of a mirror port go to other hosts' addresses, so a driver would drop them.
    """

    def __init__(self, interface: Interface) -> None:
        # With protocol 0 the socket never receives a frame.
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        except OSError as error:
            what = f"capture on {interface.name}: open a packet socket"
            number = error.errno or 0
            raise (
                explain_refusal(what, number, "CAP_NET_RAW") or SyscallError(what, number)
            ) from error
        membership = struct.pack("@iHH8s", interface.index, _PACKET_MR_PROMISC, 0, b"")
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
        except OSError as error:
            self._socket.close()
            raise SyscallError(f"make {interface.name} promiscuous", error.errno or 0) from error

    def close(self) -> None:
        """Give up the membership. Idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
