"""How frames come to the reader: AF_XDP or TPACKET_V3, chosen and opened."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, TypeAlias

from netring_bpf.capture.af_xdp import open_xdp
from netring_bpf.capture.open_backend import Rings, for_kernel
from netring_bpf.capture.tpacket import open_tpacket
from netring_bpf.errors import InterfaceInUseError, NetringError, OptionError
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.interface import Interface
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.options import TpacketOptions, XdpOptions

__all__ = ["Backend", "BackendOptions", "open_rings"]

Backend: TypeAlias = Literal["auto", "af_xdp", "tpacket_v3"]
_BACKENDS = ("auto", "af_xdp", "tpacket_v3")
_log = logging.getLogger("netring_bpf.capture")


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What a capture asks of its backend; ``Capture`` says what each means."""

    backend: Backend
    filter: FilterSet
    steal: bool
    xdp: XdpOptions
    tpacket: TpacketOptions
    flow: FlowOptions

    def __post_init__(self) -> None:
        if self.backend not in _BACKENDS:
            raise OptionError(
                f"backend={self.backend!r}: must be one of {', '.join(_BACKENDS)}",
                option="backend",
            )


def open_rings(interface: Interface, options: BackendOptions) -> Rings:
    """Open the backend that ``options`` ask for, in the thread's network namespace."""
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
        _log.warning("%s: TPACKET_V3 instead of AF_XDP: %s", interface.name, error)
        rings = open_tpacket(interface, options.tpacket, options.flow, filters)
        rings.fallback_reason = str(error)
        _keep_cpus(rings, options)
        return rings


def _keep_cpus(rings: Rings, options: BackendOptions) -> None:
    """TPACKET_V3 runs where AF_XDP was to run, unless it has CPUs of its own."""
    wanted, threads = options.xdp.cpus, options.tpacket.threads
    if wanted is None or rings.cpus is not None:
        return
    if len(wanted) == threads:
        rings.cpus = wanted
    else:
        rings.announce(
            f"any CPU instead of XdpOptions(cpus={wanted}), which are for {len(wanted)} threads: "
            f"TPACKET_V3 has {threads}; say so in TpacketOptions(threads=…, cpus=…)"
        )


def _open_xdp(interface: Interface, options: BackendOptions, filters: FilterSet) -> Rings:
    if not options.steal and (why := interface.host_traffic()):
        raise InterfaceInUseError(
            f"redirect the traffic of {interface.name}: {why}, and redirected packets never "
            "reach the host; allow it with steal=True (--steal), or choose "
            "backend='tpacket_v3', which only listens",
            interface=interface.name,
        )
    return open_xdp(interface, options.xdp, options.flow, filters)
