"""Checks the machine and the process: kernel, capabilities, libraries."""

from __future__ import annotations

import gzip
import importlib.metadata
import os
import platform
import re
import resource
import socket
import sys
from pathlib import Path
from typing import Final

from netring_bpf.bpf.compiler import find_bcc
from netring_bpf.bpf.maps import Maps
from netring_bpf.capture.open_errors import explain_socket
from netring_bpf.capture.ring_sizes import choose_sizes
from netring_bpf.doctor.finding import Asked, Checks, Finding, State
from netring_bpf.errors import (
    BccMissingError,
    LibpcapMissingError,
    NetringError,
    PermissionDeniedError,
    SyscallError,
)
from netring_bpf.filter import libpcap
from netring_bpf.interface import Interface
from netring_bpf.kernel_release import if_older
from netring_bpf.privileges import (
    ambient,
    effective,
    in_user_namespace,
    is_filtered,
    missing,
    names_in,
)
from netring_bpf.remedies import as_root, install, raise_memlock, word
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.options import XdpOptions
from netring_bpf.ring.reader import NO_CRYPTO
from netring_bpf.ring.readers import Readers
from netring_bpf.version import __version__

__all__ = ["SMALL_TABLE", "machine_checks"]

SMALL_TABLE: Final = FlowOptions(max_flows=1000, event_slots=1024)
_OLDEST_WITH_LINKS: Final = (5, 9)  # BPF_LINK_CREATE for XDP
_OLDEST_WITH_FREE_MAPS: Final = (5, 11)  # their memory counts to the control group
_OPTIONS: Final = {  # and whether AF_XDP alone needs it
    "CONFIG_PACKET": False,
    "CONFIG_BPF_SYSCALL": True,
    "CONFIG_XDP_SOCKETS": True,
}
_CONTROL_GROUP: Final = Path("/proc/self/cgroup")
_AF_XDP: Final = 44
_LISTENING: Final = ("CAP_NET_RAW",)
_REDIRECTING: Final = ("CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW")
_PACKAGE: Final = "netring-bpf"
_REQUIRED: Final = re.compile(r"""([\w.-]+).*\bextra\s*==\s*['"]([\w.-]+)['"]""")
_ONLY_BEFORE: Final = re.compile(r"""python_version\s*<\s*['"](\d+)\.(\d+)['"]""")


def machine_checks(asked: Asked, interface: Interface | None) -> Checks:
    """Return the checks; ``interface``: the one to capture on, if it is there."""
    of_xdp: Checks = (
        ("bpf", lambda: _bpf(asked)),
        ("xdp_sockets", lambda: _xdp_sockets(asked)),
        ("memory_lock", lambda: _memory_lock(asked, interface)),
        ("bcc", lambda: _bcc(asked)),
    )
    return (
        ("package", _package),
        ("kernel", lambda: _kernel(asked)),
        ("kernel_options", lambda: _kernel_options(asked)),
        ("capabilities", lambda: _capabilities(asked)),
        ("packet_sockets", lambda: _packet_sockets(asked)),
        *(of_xdp if asked.wants_xdp else ()),
        ("libpcap", _libpcap),
        ("libcrypto", _libcrypto),
        ("extras", _extras),
    )


def _package() -> Finding:
    found = f"netring-bpf {__version__}, Python {platform.python_version()}, {platform.machine()}"
    return Finding("package", State.GOOD, found)


# -- the kernel --


def _kernel(asked: Asked) -> Finding:
    found = f"Linux {os.uname().release}"
    if asked.wants_xdp and (older := if_older(*_OLDEST_WITH_LINKS, "AF_XDP")):
        # Vendors carry features back: the trial tells.
        return Finding("kernel", State.UNKNOWN, older, asked.again(backend="tpacket_v3"))
    return Finding("kernel", State.GOOD, found)


def _kernel_options(asked: Asked) -> Finding:
    told = _configuration()
    if told is None:
        return Finding(
            "kernel_options",
            State.UNKNOWN,
            "no file tells how the kernel was built; the next checks try its calls",
        )
    place, options = told
    wanted = [name for name, for_xdp in _OPTIONS.items() if asked.wants_xdp or not for_xdp]
    lacking = [name for name in wanted if options.get(name) not in {"y", "m"}]
    if not lacking:
        return Finding("kernel_options", State.GOOD, f"{', '.join(wanted)} ({place})")
    found = f"the kernel was built without {', '.join(lacking)} ({place}); choose another kernel"
    if all(_OPTIONS[name] for name in lacking):
        remedy = asked.again(backend="tpacket_v3")
        return Finding("kernel_options", asked.without_xdp, found, remedy)
    return Finding("kernel_options", State.BAD, found)


def _configuration() -> tuple[str, dict[str, str]] | None:
    """Return the options that the kernel was built with, and the file that tells them."""
    release = os.uname().release
    places = (Path("/proc/config.gz"), Path("/boot", f"config-{release}"),
              Path("/lib/modules", release, "config"))  # fmt: skip
    for place in places:
        try:
            data = place.read_bytes()
            text = gzip.decompress(data) if place.suffix == ".gz" else data
        except (OSError, EOFError, ValueError):
            continue
        found = re.findall(r"^(CONFIG_\w+)=(.*)$", text.decode("latin-1"), re.MULTILINE)
        return str(place), dict(found)
    return None


def _bpf(asked: Asked) -> Finding:
    """Make a map, which loads nothing and counts nothing."""
    try:
        with Maps(1):
            pass
    except NetringError as error:
        remedy = (_widen_filter() if is_filtered() else "") or asked.again(backend="tpacket_v3")
        return _refused("bpf", error, asked.without_xdp, remedy)
    return Finding("bpf", State.GOOD, "bpf(2) makes maps")


def _xdp_sockets(asked: Asked) -> Finding:
    try:
        socket.socket(_AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC).close()
    except OSError as error:
        refused = SyscallError("open an AF_XDP socket", error.errno or 0)
        explained = explain_socket(refused, asked.interface or "this machine")
        remedy = asked.again(backend="tpacket_v3")
        return _refused("xdp_sockets", explained, asked.without_xdp, remedy)
    return Finding("xdp_sockets", State.GOOD, "AF_XDP sockets can be opened")


def _packet_sockets(asked: Asked) -> Finding:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()
    except OSError as error:
        refused = SyscallError("open an AF_PACKET socket", error.errno or 0)
        explained = explain_socket(refused, asked.interface or "this machine")
        return _refused("packet_sockets", explained, State.BAD)
    return Finding("packet_sockets", State.GOOD, "AF_PACKET sockets can be opened")


def _refused(check: str, error: NetringError, state: State, remedy: str = "") -> Finding:
    """Return what a refused call comes to; a lack of capabilities has a check of its own."""
    if isinstance(error, PermissionDeniedError) and error.capability:
        return Finding(check, State.UNKNOWN, f"not tried: {error.capability} is missing")
    return Finding(check, state, str(error), remedy)


def _widen_filter() -> str:
    """Return the command that lets bpf(2) through the filter of this service; "" outside of one."""
    try:
        group = _CONTROL_GROUP.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    unit = re.search(r"/([^/\n]+\.service)$", group, re.MULTILINE)
    if unit is None:
        return ""
    folder = f"/etc/systemd/system/{unit[1]}.d"
    name = word(unit[1])
    script = (
        f"mkdir -p {word(folder)} && printf '[Service]\\nSystemCallFilter=bpf\\n' "
        f">{word(f'{folder}/netring-bpf.conf')} && systemctl daemon-reload && "
        f"systemctl restart {name}"
    )
    return as_root(f"sh -c {word(script)}")


# -- the process --


def _capabilities(asked: Asked) -> Finding:
    held, passed_on = names_in(effective()), names_in(ambient())
    found = f"{', '.join(held) or 'none'}; ambient: {', '.join(passed_on) or 'none'}"
    if in_user_namespace():
        found += "; of a user namespace, so AF_XDP is denied"
    if lacking := missing(*_LISTENING):
        needed = _REDIRECTING if asked.wants_xdp else lacking
        return Finding(
            "capabilities",
            State.BAD,
            f"{found}; no backend works without {', '.join(lacking)}. Run it as root, or give it "
            f"{', '.join(needed)} (systemd: AmbientCapabilities=)",
            asked.again_as_root(),
        )
    if asked.wants_xdp and (lacking := missing(*_REDIRECTING)):
        return Finding(
            "capabilities",
            asked.without_xdp,
            f"{found}; AF_XDP does not work without {', '.join(lacking)}",
            asked.again_as_root(),
        )
    return Finding("capabilities", State.GOOD, found)


def _memory_lock(asked: Asked, interface: Interface | None) -> Finding:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    found = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 10} KiB"
    if limit != resource.RLIM_INFINITY and not missing("CAP_IPC_LOCK"):
        found += ", which CAP_IPC_LOCK lifts"
    if if_older(*_OLDEST_WITH_FREE_MAPS, "a map"):
        found += "; before Linux 5.11 the maps of programs count, too"
    # Without an interface: a link of one queue whose speed is unknown, as most are.
    of = interface or Interface("", 0, 1500, up=True, ethernet=True, loopback=False, kind="veth")
    sizes = choose_sizes(XdpOptions(), of, of.rx_queues() if interface else 1)
    if sizes.notice is not None:
        return Finding("memory_lock", State.WARNING, sizes.notice, _lift_memory_lock(asked))
    return Finding("memory_lock", State.GOOD, found)


def _lift_memory_lock(asked: Asked) -> str:
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    if hard == resource.RLIM_INFINITY:
        return raise_memlock(within_hard_limit=True)
    if os.geteuid() != 0:
        return asked.again_as_root()  # root has CAP_IPC_LOCK
    return "" if missing("CAP_SYS_RESOURCE") else raise_memlock(within_hard_limit=False)


# -- libraries --


def _bcc(asked: Asked) -> Finding:
    try:
        bcc = find_bcc()
    except BccMissingError as error:
        return Finding("bcc", asked.without_xdp, str(error), install("BCC"))
    except NetringError as error:
        return Finding("bcc", asked.without_xdp, str(error), asked.again(backend="tpacket_v3"))
    libraries = ", ".join(Path(path).name for path in bcc.libraries)
    return Finding("bcc", State.GOOD, f"{bcc.version} in {bcc.package} ({libraries})")


def _libpcap() -> Finding:
    try:
        return Finding("libpcap", State.GOOD, libpcap.version())
    except LibpcapMissingError as error:
        found = f"{error}; a capture without a filter works"
        return Finding("libpcap", State.WARNING, found, install("libpcap"))
    except NetringError as error:
        return Finding("libpcap", State.WARNING, str(error))


def _libcrypto() -> Finding:
    try:
        readers = Readers(SMALL_TABLE)
    except NetringError as error:
        return Finding("libcrypto", State.UNKNOWN, str(error))
    with readers:
        if readers.lacks_crypto:
            return Finding("libcrypto", State.WARNING, NO_CRYPTO, install("libcrypto"))
    return Finding("libcrypto", State.GOOD, "names of QUIC, JA4 and JA3 can be had")


def _extras() -> Finding:
    try:
        required = importlib.metadata.requires(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("extras", State.UNKNOWN, "netring-bpf is not installed as a package")
    lacking: dict[str, bool] = {}
    for requirement in required:
        if (told := _REQUIRED.match(requirement)) and _is_for_this_python(requirement):
            package, extra = told.groups()
            lacking[extra] = lacking.get(extra, False) or not _is_installed(package)
    present = ", ".join(sorted(extra for extra, lacks in lacking.items() if not lacks))
    absent = ", ".join(sorted(extra for extra, lacks in lacking.items() if lacks))
    found = f"installed: {present or 'none'}"
    if absent:  # which is no lack until somebody asks for one
        found += f'; not installed: {absent} (pip install "{_PACKAGE}[NAME]")'
    return Finding("extras", State.GOOD, found)


def _is_for_this_python(requirement: str) -> bool:
    before = _ONLY_BEFORE.search(requirement)
    return before is None or sys.version_info < (int(before[1]), int(before[2]))


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
