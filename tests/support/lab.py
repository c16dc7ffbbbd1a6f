"""A network laboratory: namespaces of our own and veth pairs between them.

The namespaces have no name. Each is held by a child process that ends with us, whatever becomes
of us, and the kernel takes the namespace and every interface in it away with that process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import struct
import subprocess
import time
from typing import IO, TYPE_CHECKING, Any, Self

from tests.support.patience import PATIENCE
from tests.support.process import spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CLONE_NEWNET = 0x4000_0000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x2, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(RuntimeError):
    """A command in the laboratory failed; the message holds what it printed."""


class Namespace:
    """A network namespace, empty but for a loopback that is down. A context manager."""

    def __init__(self) -> None:
        # The holder ends when its stdin does, and only we have the other end. Unlike a parent
        # death signal this also holds when the thread that made the namespace ends before us.
        # A session of its own keeps Ctrl-C from taking the namespace away under our feet.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            _, error = self._holder.communicate()
            raise LabError(f"cannot make a network namespace: {error.strip()}")

    @property
    def pid(self) -> int:
        """The process that holds the namespace."""
        return self._holder.pid

    @property
    def path(self) -> str:
        """The namespace as a file: what the library takes as ``netns=``."""
        return f"/proc/{self.pid}/ns/net"

    def close(self) -> None:
        """Let the namespace go; it is gone once no process or socket is left in it."""
        if self._holder.returncode is None:
            # SIGKILL and not the end of stdin: a forked child may still hold the other end.
            self._holder.kill()
            self._holder.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ip(self, arguments: str) -> str:
        """Run ``ip`` with these arguments inside; return what it printed."""
        return self.run(["ip", *arguments.split()]).stdout

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        input: str | None = None,
        timeout: float | None = PATIENCE,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and capture its output; LabError if it fails and ``check``."""
        done = subprocess.run(
            [*self._nsenter(), *argv],
            check=False,
            capture_output=True,
            input=input,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"{' '.join(argv)}: exit status {done.returncode}: {said}")
        return done

    def popen(
        self,
        argv: Sequence[str],
        *,
        stdin: int | IO[bytes] | IO[str] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | IO[str] | None = None,
        stderr: int | IO[bytes] | IO[str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command inside; it is killed when the calling thread ends."""
        return spawn([*self._nsenter(), *argv], stdin=stdin, stdout=stdout, stderr=stderr)

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Move the current thread inside for the block; sockets opened there stay inside."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            inside = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(inside)
            finally:
                os.close(inside)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)

    def _nsenter(self) -> list[str]:
        return ["nsenter", f"--net={self.path}"]


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


class VethPair:
    """A cable: ``a_name`` in ``a`` and ``b_name`` in ``b`` (which may be one namespace).

    Both ends are up, without addresses, ARP or IPv6: nothing is on the wire but what is sent.
    It goes with either of its namespaces.
    """

    def __init__(
        self,
        a: Namespace,
        a_name: str,
        b: Namespace,
        b_name: str,
        *,
        mtu: int = 1500,
        queues: int = 1,
    ) -> None:
        self.a, self.a_name, self.b, self.b_name = a, a_name, b, b_name
        end = f"mtu {mtu} numrxqueues {queues} numtxqueues {queues}"
        a.ip(f"link add {a_name} {end} type veth peer name {b_name} {end} netns {b.pid}")
        for namespace, name in ((a, a_name), (b, b_name)):
            namespace.run(["sh", "-c", f"echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6"])
            namespace.ip(f"link set dev {name} arp off up")
        for namespace, name in ((a, a_name), (b, b_name)):
            _wait_until_running(namespace, name)

    def delete(self) -> None:
        """Take the cable away, both ends at once."""
        self.a.ip(f"link del dev {self.a_name}")


@contextlib.contextmanager
def tap(namespace: Namespace, name: str) -> Iterator[int]:
    """A tap, down, in the namespace; the value is the descriptor of its other side."""
    with namespace.enter():
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI)
        fcntl.ioctl(device, _TUNSETIFF, request)
    try:
        yield device
    finally:
        os.close(device)


def link(namespace: Namespace, ifname: str) -> dict[str, Any]:
    """Everything ``ip -d link show`` knows about an interface."""
    shown: list[dict[str, Any]] = json.loads(namespace.ip(f"-j -d link show dev {ifname}"))
    return shown[0]


def xdp_attached(namespace: Namespace, ifname: str) -> bool:
    """Whether any XDP program, in any mode, is on the interface."""
    return "xdp" in link(namespace, ifname)


def counter(namespace: Namespace, ifname: str, name: str) -> int:
    """A counter of the interface's driver, as ``ethtool -S`` has it."""
    shown = namespace.run(["ethtool", "-S", ifname]).stdout
    return sum(map(int, re.findall(rf"\b{name}: (\d+)", shown)))


def _wait_until_running(namespace: Namespace, ifname: str, timeout: float = PATIENCE) -> None:
    # The kernel makes a new link ready from a work queue: until it has a queueing discipline,
    # frames sent are accepted and lost.
    deadline = time.monotonic() + timeout
    while True:
        state = link(namespace, ifname)
        if state["operstate"] == "UP" and state["qdisc"] != "noop":
            return
        if time.monotonic() > deadline:
            raise LabError(f"{ifname} is still {state['operstate']} after {timeout} s")
        time.sleep(0.005)
