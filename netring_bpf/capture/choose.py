"""Chooses the backend for an interface, and opens it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

from netring_bpf.bpf.attached import AttachedProgram
from netring_bpf.bpf.program import check_capabilities
from netring_bpf.bpf.xdp_mode import XdpMode
from netring_bpf.capture.af_xdp import open_xdp
from netring_bpf.capture.backend import BackendOptions
from netring_bpf.capture.capture_port import (
    LARGEST_CHUNK,
    loses_at,
    loses_in_generic_mode,
    why_not_capture_port,
    why_one_sided,
)
from netring_bpf.capture.open_backend import Rings, for_kernel
from netring_bpf.capture.tpacket import open_tpacket
from netring_bpf.errors import (
    AttachError,
    InterfaceInUseError,
    KernelFeatureError,
    NetringError,
    OptionError,
    XdpBusyError,
    printable,
)
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.interface import Interface
from netring_bpf.ring.reader import NO_CRYPTO

__all__ = ["open_rings"]

_log = logging.getLogger("netring_bpf.capture")


def open_rings(interface: Interface, options: BackendOptions) -> Rings:
    """Open the backend as ``_open_backend`` does, with a notice if names need a library."""
    rings = _open_backend(interface, options)
    if rings.readers.lacks_crypto:
        rings.announce(NO_CRYPTO)
    return rings


def _open_backend(interface: Interface, options: BackendOptions) -> Rings:
    """Open the backend that ``options`` name, in the thread's network namespace.

    ``"auto"`` falls back to TPACKET_V3 on every error but ``OptionError`` and ``AttachError``:
    somebody who redirects, or is about to, leaves TPACKET_V3 nothing to see. Raises the errors of
    ``open_xdp`` and ``open_tpacket``, ``FilterError`` and ``InterfaceInUseError``.
    """
    filters = for_kernel(options.filter, interface)
    if options.backend == "tpacket_v3":
        return _listen(interface, options, filters)
    _check_no_program(interface)
    if options.backend == "af_xdp":
        return _redirect(interface, options, filters)
    try:
        return _redirect_without_loss(interface, options, filters)
    except (OptionError, AttachError):
        raise
    except NetringError as error:
        name = printable(interface.name)
        _log.warning("%s: TPACKET_V3 instead of AF_XDP: %s", name, error)
        rings = _fall_back(interface, options, filters, str(error))
    with _closed_on_error(rings):
        _check_no_program(interface)
    return rings


@contextlib.contextmanager
def _closed_on_error(rings: Rings) -> Iterator[None]:
    """Close the rings if the block raises: nobody else has them yet."""
    try:
        yield
    except BaseException:
        rings.close()
        raise


def _listen(interface: Interface, options: BackendOptions, filters: FilterSet) -> Rings:
    rings = open_tpacket(interface, options.tpacket, options.flow, filters, sums=options.sums)
    with _closed_on_error(rings):
        program_id = interface.xdp_program_id()
        if program_id is not None:
            program = AttachedProgram.find(program_id)
            rings.announce(
                "not every frame is seen, maybe none: an XDP program is attached to "
                f"{interface.name} ({program}), and TPACKET_V3 sees only what it passes on"
            )
    return rings


def _check_no_program(interface: Interface) -> None:
    program_id = interface.xdp_program_id()
    if program_id is None:
        return
    program = AttachedProgram.find(program_id)
    raise XdpBusyError(
        f"capture on {interface.name}: an XDP program is attached and is left alone: {program}. "
        "TPACKET_V3 sees only what it passes on, which may be nothing. End its process or detach "
        f"it (ip link set dev {interface.name} xdp off), or choose backend='tpacket_v3'",
        interface=interface.name,
        program_id=program.id,
        program_name=program.name,
        pids=program.pids,
    )


def _redirect(interface: Interface, options: BackendOptions, filters: FilterSet) -> Rings:
    """Open AF_XDP if the interface is a capture port, or if the user allows it anyway."""
    check_capabilities()
    if not options.steal and (why := why_not_capture_port(interface)):
        raise InterfaceInUseError(
            f"redirect the traffic of {interface.name}: {why}, and redirected packets never "
            "reach the host; allow it with steal=True (--steal), or choose "
            "backend='tpacket_v3', which only listens",
            interface=interface.name,
        )
    flow, one_sided = options.flow, why_one_sided(interface) if options.steal else None
    if one_sided:
        flow = dataclasses.replace(flow, one_sided=True)
    rings = open_xdp(interface, options.xdp, flow, filters, options.sums)
    if one_sided:
        rings.announce(
            f"every flow is one-sided: {one_sided}, and AF_XDP sees what {interface.name} "
            "receives, not what the host sends; backend='tpacket_v3' sees both"
        )
    return rings


def _redirect_without_loss(
    interface: Interface, options: BackendOptions, filters: FilterSet
) -> Rings:
    """Open AF_XDP unless it is known to lose frames that TPACKET_V3 sees."""
    mode, largest = options.xdp.mode, options.xdp.chunk_size or LARGEST_CHUNK
    lost = loses_at(interface.mtu, largest)
    in_generic = loses_in_generic_mode(interface)
    if lost is None and mode is XdpMode.GENERIC:
        lost = in_generic
    if lost is not None:
        raise KernelFeatureError(f"AF_XDP on {interface.name}: {lost}", feature="AF_XDP")
    if in_generic and mode is None:
        native = dataclasses.replace(options.xdp, mode=XdpMode.NATIVE)
        try:
            return _redirect(interface, dataclasses.replace(options, xdp=native), filters)
        except KernelFeatureError as error:
            if error.feature != "XDP":
                raise
            raise KernelFeatureError(f"{error}; {in_generic}", feature="XDP") from error
    rings = _redirect(interface, options, filters)
    with _closed_on_error(rings):
        # The kernel switches hardware offloads off on attaching, if the driver lets it.
        if rings.opened.attach == "generic" and (lost := loses_in_generic_mode(interface)):
            raise KernelFeatureError(f"AF_XDP on {interface.name}: {lost}", feature="AF_XDP")
    return rings


def _fall_back(
    interface: Interface, options: BackendOptions, filters: FilterSet, reason: str
) -> Rings:
    """Open TPACKET_V3, on the CPUs chosen for AF_XDP unless it has CPUs of its own."""
    cpus, tpacket = options.xdp.cpus, options.tpacket
    if cpus is None or tpacket.cpus is not None:
        return open_tpacket(interface, tpacket, options.flow, filters, reason, sums=options.sums)
    if len(cpus) == tpacket.threads:
        on_cpus = dataclasses.replace(tpacket, cpus=cpus)
        return open_tpacket(interface, on_cpus, options.flow, filters, reason, sums=options.sums)
    rings = open_tpacket(interface, tpacket, options.flow, filters, reason, sums=options.sums)
    rings.announce(
        f"any CPU instead of XdpOptions(cpus={cpus}), which are for {len(cpus)} threads: "
        f"TPACKET_V3 has {tpacket.threads}; say so in TpacketOptions(threads=…, cpus=…)"
    )
    return rings
