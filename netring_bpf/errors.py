r"""Every error netring_bpf raises.

NetringError
├── UnavailableError              this machine cannot do it
│   ├── PermissionDeniedError     a capability is missing, or a policy denies .capability
│   ├── ResourceLimitError        memory, descriptors or threads ran out      .resource
│   ├── MemlockError              the UMEM is over the memory-lock limit      .needed .limit
│   ├── KernelFeatureError        the kernel or the driver lacks it           .feature
│   ├── BccMissingError           BCC is not installed, or another package has its name
│   ├── LibpcapMissingError       libpcap is not installed
│   └── PlatformError             not Linux (also an ImportError)             .platform
├── InterfaceError                the wrong interface, or a lost one          .interface
│   ├── InterfaceNotFoundError    no interface has that name
│   ├── InterfaceDownError        it is down
│   ├── InterfaceGoneError        it was deleted or moved away during the capture
│   └── InterfaceInUseError       redirecting takes frames away from the host, or from others
├── AttachError                   another owner has the place                 .interface
│   ├── XdpBusyError              another XDP program        .program_id .program_name .pids
│   └── QueueBusyError            another AF_XDP socket on the queue          .queue
├── ProgramError                  our XDP program was refused
│   ├── CompileError              by the compiler                             .log
│   └── VerifierError             by the kernel's verifier                    .log
├── FilterError                   the filter expression             .expression .position
├── CaptureFileError              a capture file cannot be read or written    .path .offset
├── DeviceFileError               a file of devices cannot be read or written  .path
├── ConfigError                   a configuration cannot be read, or has mistakes  .path .mistakes
├── ListenError                   a server cannot have its address            .address
│   ├── AddressInUseError         another program listens there
│   └── AddressUnavailableError   this machine has no such address
├── TokenFileError                a token's file cannot be read, or not only by its owner  .path
├── OptionError                   an option's value (also a ValueError)       .option
├── PackageMissingError           an optional package (also an ImportError)   .package
├── SinkError                     a sink cannot work as configured, or failed
│   └── OutboxError               the folder of a disk outbox cannot be used        .path
│       └── OutboxInUseError      another sink has it
├── ClosedError                   the object was closed, or is not open yet
├── EventLoopError                no asyncio event loop runs here, or another (also a RuntimeError)
├── ForkError                     the object belongs to the parent of this process
├── InternalError                 a defect of netring_bpf ended the capture   .__cause__
└── SyscallError                  any other error of the kernel (also an OSError)   .call

A message names the action and its object, the reason (in the kernel's own words if it gave any),
and the remedy. It may quote names that others chose (files, interfaces, brokers), so it shows
control characters as ``\x1b``: none of them reaches a terminal. Loss is never an error: it is a
counter, and ``Lagged`` in the stream. Each of them is a name of ``netring_bpf`` as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

__all__ = [
    "AddressInUseError",
    "AddressUnavailableError",
    "AttachError",
    "BccMissingError",
    "CaptureFileError",
    "ClosedError",
    "CompileError",
    "ConfigError",
    "DeviceFileError",
    "EventLoopError",
    "FilterError",
    "ForkError",
    "InterfaceDownError",
    "InterfaceError",
    "InterfaceGoneError",
    "InterfaceInUseError",
    "InterfaceNotFoundError",
    "InternalError",
    "KernelFeatureError",
    "LibpcapMissingError",
    "ListenError",
    "MemlockError",
    "NetringError",
    "OptionError",
    "OutboxError",
    "OutboxInUseError",
    "PackageMissingError",
    "PermissionDeniedError",
    "PlatformError",
    "ProgramError",
    "QueueBusyError",
    "ResourceLimitError",
    "SinkError",
    "SyscallError",
    "TokenFileError",
    "UnavailableError",
    "VerifierError",
    "XdpBusyError",
    "did_you_mean",
    "limits_explained",
    "printable",
]


def printable(text: str) -> str:
    r"""Return the text with everything that a terminal might obey shown as ``\x1b``.

    For whatever quotes names that others chose. Line ends and marks of direction count too.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _shown(ord(char)) for char in text)


def _shown(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is no UTF-8 (PEP 383)
        code -= 0xDC00
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return ``; did you mean NAME?`` if a known name is like the wrong one, else ``""``.

    For the end of a message.
    """
    import difflib  # noqa: PLC0415 - only a mistake needs it

    names = list(known)
    near = difflib.get_close_matches(wrong, names, 1) or [
        name for name in names if len(wrong.lstrip("-")) > 1 and name.startswith(wrong)
    ]
    return f"; did you mean {near[0]}?" if near else ""


class NetringError(Exception):
    """The root of every error netring_bpf raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class UnavailableError(NetringError):
    """This machine, kernel or driver lacks something that the request needs."""


class PermissionDeniedError(UnavailableError):
    """The process lacks a capability, or something else denies what its capabilities allow.

    ``capability`` has the missing ones, as ``"CAP_BPF"`` or ``"CAP_NET_ADMIN, CAP_NET_RAW"``; it is
    empty if none is missing.
    """

    def __init__(self, message: str, *, capability: str) -> None:
        super().__init__(message)
        self.capability = capability


class MemlockError(UnavailableError):
    """The UMEM is over the memory-lock limit; ``needed`` and ``limit`` are in bytes."""

    def __init__(self, message: str, *, needed: int, limit: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.limit = limit


class ResourceLimitError(UnavailableError):
    """The process ran out of ``resource``: ``"memory"``, ``"descriptors"`` or ``"threads"``."""

    def __init__(self, message: str, *, resource: str) -> None:
        super().__init__(message)
        self.resource = resource


class KernelFeatureError(UnavailableError):
    """The kernel or the interface's driver lacks ``feature``."""

    def __init__(self, message: str, *, feature: str) -> None:
        super().__init__(message)
        self.feature = feature


class BccMissingError(UnavailableError):
    """BCC is not installed, or the importable ``bcc`` is another package of that name."""


class LibpcapMissingError(UnavailableError):
    """libpcap, which compiles filter expressions, is not installed."""


class PlatformError(UnavailableError, ImportError):
    """The machine does not run Linux; ``platform`` is Python's name for what it runs.

    ``import netring_bpf`` raises it, so nothing of the package can be had there.
    """

    def __init__(self, platform: str) -> None:
        super().__init__(
            f"netring_bpf runs on Linux alone, and this is {platform}: use it in a Linux machine, "
            "virtual machine or container"
        )
        self.platform = platform


class InterfaceError(NetringError):
    """Something is wrong with the network interface ``interface``."""

    def __init__(self, message: str, *, interface: str) -> None:
        super().__init__(message)
        self.interface = interface


class InterfaceNotFoundError(InterfaceError):
    """The network namespace has no interface of that name."""


class InterfaceDownError(InterfaceError):
    """The interface is administratively down."""


class InterfaceGoneError(InterfaceError):
    """The interface was deleted, or moved to another namespace, during the capture."""


class InterfaceInUseError(InterfaceError):
    """Redirecting would take frames away from the host, or from somebody else who uses them."""


class AttachError(NetringError):
    """Another owner has the place on ``interface``, and is left alone."""

    def __init__(self, message: str, *, interface: str) -> None:
        super().__init__(message)
        self.interface = interface


class XdpBusyError(AttachError):
    """Another XDP program is attached: redirecting cannot be done, and listening may see nothing.

    ``program_id``: its id, or None if unknown. ``program_name``: its name, or "" if unknown.
    ``pids``: the processes that hold it, as far as /proc shows them.
    """

    def __init__(
        self,
        message: str,
        *,
        interface: str,
        program_id: int | None,
        program_name: str = "",
        pids: tuple[int, ...] = (),
    ) -> None:
        super().__init__(message, interface=interface)
        self.program_id = program_id
        self.program_name = program_name
        self.pids = pids


class QueueBusyError(AttachError):
    """Another AF_XDP socket is bound to receive queue ``queue``."""

    def __init__(self, message: str, *, interface: str, queue: int) -> None:
        super().__init__(message, interface=interface)
        self.queue = queue


class ProgramError(NetringError):
    """The compiler or the kernel refused the XDP program; ``log`` is its whole text."""

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class CompileError(ProgramError):
    """BCC's compiler refused the program."""


class VerifierError(ProgramError):
    """The kernel's verifier refused the program."""


class FilterError(NetringError):
    """The filter ``expression`` has an error, or cannot run in the place asked for.

    ``position``: the index of the error in ``expression``, or None if it is unknown.
    """

    def __init__(self, message: str, *, expression: str, position: int | None = None) -> None:
        super().__init__(message)
        self.expression = expression
        self.position = position


class CaptureFileError(NetringError):
    """The capture file ``path`` cannot be opened, read to its end, or written.

    ``offset``: the byte at which the broken record begins; None if no record is broken.
    """

    def __init__(self, message: str, *, path: Path, offset: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset


class DeviceFileError(NetringError):
    """The file ``path`` of a table of devices cannot be written, read, or believed."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class ConfigError(NetringError):
    """The configuration ``path`` cannot be read, or has ``mistakes``: a line of text each."""

    def __init__(self, mistakes: Sequence[str], *, path: Path) -> None:
        self.mistakes: tuple[str, ...] = tuple(map(printable, mistakes))
        # Each line by itself: ``printable()`` would show the ends of lines.
        Exception.__init__(self, "\n".join(self.mistakes))
        self.path = path


class ListenError(NetringError):
    """A server cannot have ``address``, on which it was told to listen."""

    def __init__(self, message: str, *, address: str) -> None:
        super().__init__(message)
        self.address = address


class AddressInUseError(ListenError):
    """Another program listens on the address."""


class AddressUnavailableError(ListenError):
    """This machine has no such address, or no name of it leads to one."""


class TokenFileError(NetringError):
    """The file ``path`` of a token cannot be read, or others can read or change it too."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class OptionError(NetringError, ValueError):
    """The value given for ``option`` breaks the rule that the message states."""

    def __init__(self, message: str, *, option: str) -> None:
        super().__init__(message)
        self.option = option


class PackageMissingError(NetringError, ImportError):
    """The request needs a package that is not installed; ``package`` is its name."""

    def __init__(self, message: str, *, package: str) -> None:
        super().__init__(message)
        self.package = package


class SinkError(NetringError):
    """A sink cannot work with its configuration, or ended by a fault of its own."""


class OutboxError(SinkError):
    """The folder ``path`` of a disk outbox cannot be used."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class OutboxInUseError(OutboxError):
    """Another sink, of this process or of another, has the folder."""


class ClosedError(NetringError):
    """The object was closed, is not open yet, or was used out of its documented order."""


class EventLoopError(NetringError, RuntimeError):
    """The call needs a running asyncio event loop, the one that its object belongs to.

    The loop of trio is none. Under anyio choose the backend ``"asyncio"``.
    """


class ForkError(NetringError):
    """The object was opened by the process that this one was forked from.

    The child has no part in it, and the parent's goes on. Open another one in the child.
    """


class InternalError(NetringError):
    """A defect of netring_bpf ended the capture; ``__cause__`` is the exception."""

    def __init__(self, what: str, cause: Exception) -> None:
        super().__init__(
            f"{what}: netring_bpf itself failed: {type(cause).__name__}: {cause}; please report "
            "it with the traceback"
        )
        self.__cause__: BaseException | None = cause


class SyscallError(NetringError, OSError):
    """The kernel refused ``call``; ``errno`` and ``strerror`` are the kernel's own."""

    def __init__(self, call: str, error: int) -> None:
        OSError.__init__(self, error, os.strerror(error))
        self.call = call

    def __str__(self) -> str:
        return printable(f"{self.call}: {self.strerror} (errno {self.errno})")


_REMEDIES = {
    "memory": "make the flow table (FlowOptions.max_flows) or the rings smaller, or give it more "
    "(ulimit -v, systemd: MemoryMax=, a container's memory limit)",
    "descriptors": "raise the limit on open files (ulimit -n, systemd: LimitNOFILE=), or find "
    "out who leaves files open",
    "threads": "raise the limit on processes (ulimit -u, systemd: TasksMax=, a container's pids "
    "limit) or on memory (ulimit -v), or ask for fewer threads",
}
_SPENT = {errno.ENOMEM: "memory", errno.EMFILE: "descriptors", errno.ENFILE: "descriptors"}


_LOADER_SAYS = {  # ld.so(8) has no numbers
    errno.ENOMEM: "failed to map segment from shared object",
    errno.EMFILE: f"Error {errno.EMFILE}",
}


@contextlib.contextmanager
def limits_explained(what: str) -> Iterator[None]:
    """Give an error of the block its place in the tree, if the process ran into a limit.

    That is memory, descriptors or threads: ``ResourceLimitError``. Other errors of the operating
    system become ``SyscallError``. ``what``: the action, for the message.
    """
    try:
        yield
    except MemoryError as error:
        raise _limit(f"{what}: out of memory", "memory") from error
    except ImportError as error:  # a library needs memory and a descriptor to be loaded
        for number, said in _LOADER_SAYS.items():
            if said in str(error):
                raise _limit(f"{what}: {error}", _SPENT[number]) from error
        raise
    except OSError as error:
        if error.errno in _SPENT:
            call = error.call if isinstance(error, SyscallError) else what
            where = call if call.startswith(what) else f"{what}: {call}"
            raise _limit(f"{where}: {error.strerror}", _SPENT[error.errno]) from error
        if isinstance(error, NetringError | BrokenPipeError) or error.errno is None:
            raise
        raise SyscallError(what, error.errno) from error
    except RuntimeError as error:
        if str(error) != "can't start new thread":
            raise
        raise _limit(f"{what}: no thread can be started", "threads") from error


def _limit(text: str, resource: str) -> ResourceLimitError:
    return ResourceLimitError(f"{text}; {_REMEDIES[resource]}", resource=resource)
