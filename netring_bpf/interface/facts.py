"""Facts about the interfaces of a namespace, as the kernel tells them to anyone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from netring_bpf.interface.interface import Interface, XdpAttached, attached_to
from netring_bpf.interface.netlink import Netlink, driver_of, receive_queues, xdp_features

__all__ = ["Facts", "list_interfaces"]

_IFF_RUNNING = 0x40


@dataclass(frozen=True, slots=True)
class Facts:
    """One interface, in the state of the moment it was listed.

    ``state``: ``"up"``, ``"down"``, or ``"no carrier"`` of one that is up. ``mac``: None without a
    hardware address. ``addresses``: with the length of their prefix. ``driver`` and ``bus``, the
    address of its device: None if unknown. ``xdp``: what the driver can do with XDP, by the
    kernel's names; None if unknown. ``attached``: the XDP program on it.
    """

    interface: Interface
    state: str
    mac: str | None
    addresses: tuple[str, ...]
    driver: str | None
    bus: str | None
    queues: int
    xdp: frozenset[str] | None
    attached: XdpAttached | None


def list_interfaces() -> list[Facts]:
    """Return the interfaces of the thread's namespace, in order. Raises ``SyscallError``."""
    with Netlink() as kernel:
        links = sorted(kernel.links(), key=lambda link: int(link["index"]))
        addresses = _by_index(kernel.addresses(0))
    features = xdp_features()
    return [_facts(link, addresses, features) for link in links]


def _facts(
    link: Any,
    addresses: dict[int, list[str]],
    features: dict[int, frozenset[str]] | None,
) -> Facts:
    interface = Interface.of(link)
    driver = driver_of(interface.name)
    return Facts(
        interface=interface,
        state=_state(interface, link["flags"]),
        mac=link.get_attr("IFLA_ADDRESS") or None,
        addresses=tuple(addresses.get(interface.index, ())),
        driver=driver.name or None,
        bus=driver.bus or None,
        queues=receive_queues(interface.name),
        xdp=None if features is None else features.get(interface.index),
        attached=attached_to(link),
    )


def _state(interface: Interface, flags: int) -> str:
    if not interface.up:
        return "down"
    return "up" if flags & _IFF_RUNNING else "no carrier"


def _by_index(addresses: Iterable[Any]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for address in addresses:
        given = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
        found.setdefault(address["index"], []).append(f"{given}/{address['prefixlen']}")
    return found
