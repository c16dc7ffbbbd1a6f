"""Every error netring_bpf raises.

NetringError
├── UnavailableError              this machine cannot do it (``backend="auto"`` falls back on these)
│   ├── PermissionDeniedError     a capability is missing                     .capability
│   ├── MemlockError              the UMEM is over the memory-lock limit      .needed .limit
│   ├── KernelFeatureError        the kernel or the driver lacks it           .feature
│   ├── BccMissingError           BCC is not installed, or another package has its name
│   └── LibpcapMissingError       libpcap is not installed
├── InterfaceError                the wrong interface, or a lost one          .interface
│   ├── InterfaceNotFoundError    there is none of that name
│   ├── InterfaceDownError        it is down
│   ├── InterfaceGoneError        it was deleted or moved away during the capture
│   └── InterfaceInUseError       it carries the host's own traffic
├── AttachError                   somebody is there already                   .interface
│   ├── XdpBusyError              another XDP program                         .program_id
│   └── QueueBusyError            another AF_XDP socket on the queue          .queue
├── ProgramError                  our XDP program was refused
│   ├── CompileError              by the compiler                             .log
│   └── VerifierError             by the kernel's verifier                    .log
├── FilterError                   the filter expression             .expression .position
├── CaptureFileError              a capture file cannot be read or written    .path .offset
├── OptionError                   an option's value (also a ValueError)       .option
├── PackageMissingError           an optional package (also an ImportError)   .package
├── SinkError                     a sink cannot work as configured
├── ClosedError                   using what was closed
├── InternalError                 a defect of ours ended the capture          .__cause__
└── SyscallError                  anything else the kernel said (also an OSError)   .call

A message says what failed on what, why (in the kernel's own words where it gave any), and
what to do about it. Loss is never an error: it is a counter, and ``Lagged`` in the stream.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "AttachError",
    "BccMissingError",
    "CaptureFileError",
    "ClosedError",
    "CompileError",
    "FilterError",
    "InterfaceDownError",
    "InterfaceError",
    "InterfaceGoneError",
    "InterfaceInUseError",
    "InterfaceNotFoundError",
    "InternalError",
    "KernelFeatureError",
    "LibpcapMissingError",
    "MemlockError",
    "NetringError",
    "OptionError",
    "PackageMissingError",
    "PermissionDeniedError",
    "ProgramError",
    "QueueBusyError",
    "SinkError",
    "SyscallError",
    "UnavailableError",
    "VerifierError",
    "XdpBusyError",
]


class NetringError(Exception):
    """The root of every error netring_bpf raises on purpose."""


class UnavailableError(NetringError):
    """This machine, kernel or driver cannot do what was asked."""


class PermissionDeniedError(UnavailableError):
    """The process lacks a capability.

    ``capability`` names what is missing, as ``"CAP_BPF"`` or ``"CAP_NET_ADMIN, CAP_NET_RAW"``.
    """

    def __init__(self, message: str, *, capability: str) -> None:
        super().__init__(message)
        self.capability = capability


class MemlockError(UnavailableError):
    """The UMEM does not fit under the memory-lock limit; both are in bytes."""

    def __init__(self, message: str, *, needed: int, limit: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.limit = limit


class KernelFeatureError(UnavailableError):
    """The kernel or the interface's driver lacks ``feature``."""

    def __init__(self, message: str, *, feature: str) -> None:
        super().__init__(message)
        self.feature = feature


class BccMissingError(UnavailableError):
    """BCC is not installed, or the importable ``bcc`` is another package of that name."""


class LibpcapMissingError(UnavailableError):
    """libpcap, which compiles filter expressions, is not installed."""


class InterfaceError(NetringError):
    """Something is wrong with the network interface ``interface``."""

    def __init__(self, message: str, *, interface: str) -> None:
        super().__init__(message)
        self.interface = interface


class InterfaceNotFoundError(InterfaceError):
    """There is no interface of that name in the network namespace."""


class InterfaceDownError(InterfaceError):
    """The interface is administratively down."""


class InterfaceGoneError(InterfaceError):
    """The interface was deleted, or moved to another namespace, during the capture."""


class InterfaceInUseError(InterfaceError):
    """Redirecting would take the host's own traffic away from it."""


class AttachError(NetringError):
    """The place on ``interface`` is taken by somebody else, who is left alone."""

    def __init__(self, message: str, *, interface: str) -> None:
        super().__init__(message)
        self.interface = interface


class XdpBusyError(AttachError):
    """Another XDP program is attached; ``program_id`` is its id where the kernel tells."""

    def __init__(self, message: str, *, interface: str, program_id: int | None) -> None:
        super().__init__(message, interface=interface)
        self.program_id = program_id


class QueueBusyError(AttachError):
    """Another AF_XDP socket is bound to receive queue ``queue``."""

    def __init__(self, message: str, *, interface: str, queue: int) -> None:
        super().__init__(message, interface=interface)
        self.queue = queue


class ProgramError(NetringError):
    """The XDP program was refused; ``log`` is the whole text of whoever refused it."""

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class CompileError(ProgramError):
    """BCC's compiler refused the program."""


class VerifierError(ProgramError):
    """The kernel's verifier refused the program."""


class FilterError(NetringError):
    """The filter ``expression`` is not understood, or cannot run where it was asked to.

    ``position``: the index in it of what is wrong, where that can be known.
    """

    def __init__(self, message: str, *, expression: str, position: int | None = None) -> None:
        super().__init__(message)
        self.expression = expression
        self.position = position


class CaptureFileError(NetringError):
    """The capture file ``path`` cannot be opened, read to its end, or written.

    ``offset``: the byte of the record that is wrong, where it is one.
    """

    def __init__(self, message: str, *, path: Path, offset: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset


class OptionError(NetringError, ValueError):
    """The value given for ``option`` is outside what is possible."""

    def __init__(self, message: str, *, option: str) -> None:
        super().__init__(message)
        self.option = option


class PackageMissingError(NetringError, ImportError):
    """What was asked for needs a package that is not installed; ``package`` is its name."""

    def __init__(self, message: str, *, package: str) -> None:
        super().__init__(message)
        self.package = package


class SinkError(NetringError):
    """A sink cannot work as it was configured."""


class ClosedError(NetringError):
    """The object was closed, or used in an order its documentation rules out."""


class InternalError(NetringError):
    """Something failed that never should: the capture ended by that. ``__cause__`` is what."""

    def __init__(self, what: str, cause: Exception) -> None:
        super().__init__(
            f"{what}: netring_bpf itself failed: {type(cause).__name__}: {cause}; please report "
            "it with the traceback"
        )
        self.__cause__ = cause


class SyscallError(NetringError, OSError):
    """The kernel refused ``call``; ``errno`` and ``strerror`` are the kernel's own."""

    def __init__(self, call: str, error: int) -> None:
        OSError.__init__(self, error, os.strerror(error))
        self.call = call

    def __str__(self) -> str:
        return f"{self.call}: {self.strerror} (errno {self.errno})"
