"""Turns the kernel's errors on opening a ring into errors that name the remedy."""

from __future__ import annotations

import errno
import resource

from netring_bpf.capture.ring_sizes import RingSizes
from netring_bpf.errors import (
    KernelFeatureError,
    MemlockError,
    NetringError,
    OptionError,
    QueueBusyError,
    SyscallError,
)
from netring_bpf.interface import Interface
from netring_bpf.kernel_release import if_older
from netring_bpf.privileges import explain_refusal

__all__ = ["explain_busy_poll", "explain_queue", "explain_socket"]


def explain_socket(error: SyscallError, where: str) -> NetringError:
    """Return the error for a socket on ``where``; one that needs no explanation is kept."""
    number = error.errno or 0
    if denied := explain_refusal(f"{error.call} on {where}", number, "CAP_NET_RAW"):
        return denied
    match number:
        case errno.EAFNOSUPPORT | errno.EOPNOTSUPP | errno.ENOPROTOOPT:
            feature = error.call.removeprefix("open an ").removeprefix("open a ")
            why = "this kernel was built without it"
            if "AF_XDP" in error.call and (too_old := if_older(5, 11, "AF_XDP")):
                why = f"{too_old}; choose backend='tpacket_v3'"
            return KernelFeatureError(
                f"{error.call} on {where}: {error.strerror}; {why}", feature=feature
            )
        case _:
            return error


def explain_queue(
    error: SyscallError, interface: Interface, queue: int, sizes: RingSizes
) -> NetringError:
    """Return the error for an AF_XDP socket of these sizes on a queue."""
    where = f"queue {queue} of {interface.name}"
    match error.errno:
        case errno.ENOBUFS:
            needed = sizes.umem
            limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
            known = "" if limit == resource.RLIM_INFINITY else f" of {limit >> 10} KiB"
            return MemlockError(
                f"{error.call} on {where}: its UMEM of {needed >> 10} KiB is over the "
                f"memory-lock limit{known}; raise it (ulimit -l, systemd: "
                "LimitMEMLOCK=), give CAP_IPC_LOCK, or make XdpOptions(chunks=, ring_size=) "
                "smaller",
                needed=needed,
                limit=limit,
            )
        case errno.EBUSY:
            return QueueBusyError(
                f"{error.call} on {where}: another AF_XDP socket is bound to the queue; end "
                "its process, choose other queues, or backend='tpacket_v3'",
                interface=interface.name,
                queue=queue,
            )
        case errno.EINVAL if queue < interface.rx_queues() and (
            too_old := if_older(5, 11, "AF_XDP")
        ):
            return KernelFeatureError(
                f"{error.call} on {where}: {error.strerror}; {too_old}; choose "
                "backend='tpacket_v3'",
                feature="AF_XDP socket",
            )
        case errno.EINVAL:
            return OptionError(
                f"{error.call} on {where}: there is no such queue (the interface has "
                f"{interface.rx_queues()})",
                option="queues",
            )
        case _:
            return explain_socket(error, where)


def explain_busy_poll(error: SyscallError, interface: Interface) -> NetringError:
    """Return the error for setting the busy polling of an AF_XDP socket."""
    number = error.errno or 0
    without = "; or leave XdpOptions(busy_poll=) out"
    denied = explain_refusal(
        f"{error.call} on {interface.name}", number, "CAP_NET_ADMIN", instead=without
    )
    if denied is not None:
        return denied
    match number:
        case errno.ENOPROTOOPT:
            return KernelFeatureError(
                f"{error.call} on {interface.name}: {error.strerror}; the kernel is older than "
                "Linux 5.11, or was built without it; leave XdpOptions(busy_poll=) out",
                feature="busy_poll",
            )
        case _:
            return error
