"""The addresses of a server: read, resolved, and bound."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final, NamedTuple

from netring_bpf.errors import (
    AddressInUseError,
    AddressUnavailableError,
    NetringError,
    OptionError,
    PermissionDeniedError,
    SyscallError,
)

__all__ = ["DEFAULT_LISTEN", "Listen", "bind", "is_loopback", "resolve"]

DEFAULT_LISTEN: Final = "127.0.0.1:8080"
_BACKLOG: Final = 128


class Listen(NamedTuple):
    """A host and a port, as they were given. Port 0: any free one."""

    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> Listen:
        """Read ``HOST:PORT``, an IPv6 address in brackets. Raises ``OptionError``."""
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        is_literal = host == f"[{bare}]" if ":" in bare else host == bare
        if not (colon and bare and is_literal and port.isascii() and port.isdigit()):
            raise _wrong(text)
        if not (int(port) <= 65_535 and text.isprintable() and " " not in text):
            raise _wrong(text)
        return cls(bare, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _wrong(text: str) -> OptionError:
    return OptionError(
        f"listen={text!r}: must be HOST:PORT, as {DEFAULT_LISTEN} or [::1]:8080", option="listen"
    )


def resolve(listen: Listen) -> list[Listen]:
    """Return the addresses that the host stands for; may ask a resolver, and wait for it.

    Raises ``AddressUnavailableError``.
    """
    try:
        found = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else str(error)
        raise AddressUnavailableError(
            f"listen on {listen}: {why}; name an address of this machine", address=str(listen)
        ) from None
    hosts = dict.fromkeys(str(entry[4][0]) for entry in found)
    return [Listen(host, listen.port) for host in hosts]


def is_loopback(listen: Listen) -> bool:
    """Whether only this machine can reach the address."""
    return ipaddress.ip_address(listen.host.partition("%")[0]).is_loopback


def bind(addresses: list[Listen]) -> list[socket.socket]:
    """Return a listening socket for each address, all on one port.

    Raises ``ListenError``, ``PermissionDeniedError``, ``SyscallError``.
    """
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            port = address.port or (bound[0].getsockname()[1] if bound else 0)
            bound.append(_bind(Listen(address.host, port)))
    except BaseException:
        for made in bound:
            made.close()
        raise
    return bound


def _bind(address: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][4])
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise _explained(address, error) from error
    return made


def _explained(address: Listen, error: OSError) -> NetringError:
    text = str(address)
    match error.errno:
        case errno.EADDRINUSE:
            return AddressInUseError(
                f"listen on {text}: another program listens there; choose another port",
                address=text,
            )
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return AddressUnavailableError(
                f"listen on {text}: this machine has no such address; `ip address` lists those "
                "that it has",
                address=text,
            )
        case errno.EACCES | errno.EPERM:
            return PermissionDeniedError(
                f"listen on {text}: {error.strerror}; ports below 1024 need CAP_NET_BIND_SERVICE",
                capability="CAP_NET_BIND_SERVICE",
            )
    return SyscallError(f"listen on {text}", error.errno or 0)
