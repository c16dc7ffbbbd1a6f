"""Chooses the backend for an interface, and opens it, or tells what it would choose."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from netring_bpf.bpf.attached import AttachedProgram
from netring_bpf.bpf.link import why_no_native
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.program import Program, check_capabilities
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
from netring_bpf.capture.tpacket import check_may_listen, open_tpacket
from netring_bpf.errors import (
    AttachError,
    InterfaceDownError,
    InterfaceError,
    InterfaceInUseError,
    KernelFeatureError,
    NetringError,
    OptionError,
    XdpBusyError,
    printable,
)
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.interface import Interface
from netring_bpf.remedies import bring_up, detach_xdp
from netring_bpf.ring.options import MAX_QUEUES
from netring_bpf.ring.reader import NO_CRYPTO

__all__ = ["Foreseen", "check_capturable", "foresee", "open_rings"]

_log = logging.getLogger("netring_bpf.capture")


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The backend that a capture would have.

    ``attach``: ``"native"`` or ``"generic"``; None with TPACKET_V3, or if the driver does not say.
    ``reason``: why it would be TPACKET_V3, if that is a fallback.
    """

    backend: str
    attach: str | None = None
    reason: str | None = None


def check_capturable(interface: Interface) -> None:
    """Raise ``InterfaceError`` if no backend can capture the interface as it is."""
    if not interface.up:
        raise InterfaceDownError(
            f"capture on {interface.name}: it is down; bring it up ({bring_up(interface.name)})",
            interface=interface.name,
        )
    if not interface.ethernet:
        raise InterfaceError(
            f"capture on {interface.name}: its frames have no Ethernet header, which is not "
            "supported yet",
            interface=interface.name,
        )


def foresee(interface: Interface, options: BackendOptions) -> Foreseen:
    """Return what opening would choose; nothing is attached to the interface or bound to it.

    Raises the errors that opening would raise, as far as the kernel tells them beforehand: it is
    silent on queues that are taken, and on an MTU that is too large for the driver. Blocks while
    the program is compiled, unless it is in the cache.
    """
    check_capturable(interface)
    filters = for_kernel(options.filter, interface)
    if options.backend == "tpacket_v3":
        return _foresee_listening(interface)
    _check_no_program(interface)
    if options.backend == "af_xdp":
        return _foresee_redirecting(interface, options, filters)
    try:
        only_native = _why_only_native(interface, options)
        if only_native is None:
            return _foresee_redirecting(interface, options, filters)
        native = dataclasses.replace(options.xdp, mode=XdpMode.NATIVE)
        with _explained_by(only_native):
            return _foresee_redirecting(
                interface, dataclasses.replace(options, xdp=native), filters
            )
    except (OptionError, AttachError):
        raise
    except NetringError as error:
        return _foresee_listening(interface, str(error))


def _foresee_listening(interface: Interface, reason: str | None = None) -> Foreseen:
    check_may_listen(interface)
    return Foreseen("tpacket_v3", reason=reason)


def _foresee_redirecting(
    interface: Interface, options: BackendOptions, filters: FilterSet
) -> Foreseen:
    _check_redirecting(interface, options)
    features = interface.xdp_features()
    refused, mode = why_no_native(interface, features), options.xdp.mode
    if refused and mode is XdpMode.NATIVE:
        raise KernelFeatureError(
            f"attach XDP to {interface.name}: native mode would be refused: {refused}",
            feature="XDP",
        )
    check_may_listen(interface)  # its sockets ask for the same
    with Maps(MAX_QUEUES) as maps, Program.load(filters, maps):
        pass
    if mode is not None:
        return Foreseen("af_xdp", mode.value)
    if features is None:
        return Foreseen("af_xdp")
    return Foreseen("af_xdp", "generic" if refused else "native")


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
    attached = interface.xdp_attached()
    if attached is None:
        return
    program = AttachedProgram.find(attached.program)
    raise XdpBusyError(
        f"capture on {interface.name}: an XDP program is attached and is left alone: {program}. "
        "TPACKET_V3 sees only what it passes on, which may be nothing. End its process or detach "
        f"it ({detach_xdp(interface.name, attached.mode)}), or choose backend='tpacket_v3'",
        interface=interface.name,
        program_id=program.id,
        program_name=program.name,
        pids=program.pids,
    )


def _redirect(interface: Interface, options: BackendOptions, filters: FilterSet) -> Rings:
    """Open AF_XDP if the interface is a capture port, or if the user allows it anyway."""
    _check_redirecting(interface, options)
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


def _check_redirecting(interface: Interface, options: BackendOptions) -> None:
    """Raise the error for a process or an interface that is not to redirect."""
    check_capabilities()
    if not options.steal and (why := why_not_capture_port(interface)):
        raise InterfaceInUseError(
            f"redirect the traffic of {interface.name}: {why}, and redirected packets never "
            "reach the host; allow it with steal=True (--steal), or choose "
            "backend='tpacket_v3', which only listens",
            interface=interface.name,
        )


def _why_only_native(interface: Interface, options: BackendOptions) -> str | None:
    """Say in words why AF_XDP would lose frames in generic mode; None if it loses none.

    Raises ``KernelFeatureError`` if it would lose frames in every mode that the options allow.
    """
    mode, largest = options.xdp.mode, options.xdp.chunk_size or LARGEST_CHUNK
    lost = loses_at(interface.mtu, largest)
    in_generic = loses_in_generic_mode(interface)
    if lost is None and mode is XdpMode.GENERIC:
        lost = in_generic
    if lost is not None:
        raise KernelFeatureError(f"AF_XDP on {interface.name}: {lost}", feature="AF_XDP")
    return in_generic if mode is None else None


@contextlib.contextmanager
def _explained_by(only_native: str) -> Iterator[None]:
    """Add to an error of native mode why no other mode is tried."""
    try:
        yield
    except KernelFeatureError as error:
        if error.feature != "XDP":
            raise
        raise KernelFeatureError(f"{error}; {only_native}", feature="XDP") from error


def _redirect_without_loss(
    interface: Interface, options: BackendOptions, filters: FilterSet
) -> Rings:
    """Open AF_XDP unless it is known to lose frames that TPACKET_V3 sees."""
    only_native = _why_only_native(interface, options)
    if only_native is not None:
        native = dataclasses.replace(options.xdp, mode=XdpMode.NATIVE)
        with _explained_by(only_native):
            return _redirect(interface, dataclasses.replace(options, xdp=native), filters)
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
