"""Chooses the backend for an interface, and opens it."""

from __future__ import annotations

import dataclasses
import logging

from netring_bpf.capture.af_xdp import open_xdp
from netring_bpf.capture.backend import BackendOptions
from netring_bpf.capture.open_backend import Rings, for_kernel
from netring_bpf.capture.tpacket import open_tpacket
from netring_bpf.errors import InterfaceInUseError, NetringError, OptionError, printable
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.interface import Interface

__all__ = ["open_rings"]

_log = logging.getLogger("netring_bpf.capture")


def open_rings(interface: Interface, options: BackendOptions) -> Rings:
    """Open the backend that ``options`` name, in the thread's network namespace.

    ``"auto"`` falls back to TPACKET_V3 on every error but ``OptionError``. Raises the errors of
    ``open_xdp`` and ``open_tpacket``, ``FilterError`` and ``InterfaceInUseError``.
    """
    filters = for_kernel(options.filter, interface)
    if options.backend == "tpacket_v3":
        return open_tpacket(interface, options.tpacket, options.flow, filters)
    if options.backend == "af_xdp":
        return _open_xdp(interface, options, filters)
    try:
        return _open_xdp(interface, options, filters)
    except OptionError:
        raise
    except NetringError as error:
        name = printable(interface.name)
        _log.warning("%s: TPACKET_V3 instead of AF_XDP: %s", name, error)
        return _fall_back(interface, options, filters, str(error))


def _open_xdp(interface: Interface, options: BackendOptions, filters: FilterSet) -> Rings:
    if not options.steal and (why := interface.host_traffic()):
        raise InterfaceInUseError(
            f"redirect the traffic of {interface.name}: {why}, and redirected packets never "
            "reach the host; allow it with steal=True (--steal), or choose "
            "backend='tpacket_v3', which only listens",
            interface=interface.name,
        )
    return open_xdp(interface, options.xdp, options.flow, filters)


def _fall_back(
    interface: Interface, options: BackendOptions, filters: FilterSet, reason: str
) -> Rings:
    """Open TPACKET_V3, on the CPUs chosen for AF_XDP unless it has CPUs of its own."""
    cpus, tpacket = options.xdp.cpus, options.tpacket
    if cpus is None or tpacket.cpus is not None:
        return open_tpacket(interface, tpacket, options.flow, filters, reason)
    if len(cpus) == tpacket.threads:
        on_cpus = dataclasses.replace(tpacket, cpus=cpus)
        return open_tpacket(interface, on_cpus, options.flow, filters, reason)
    rings = open_tpacket(interface, tpacket, options.flow, filters, reason)
    rings.announce(
        f"any CPU instead of XdpOptions(cpus={cpus}), which are for {len(cpus)} threads: "
        f"TPACKET_V3 has {tpacket.threads}; say so in TpacketOptions(threads=…, cpus=…)"
    )
    return rings
