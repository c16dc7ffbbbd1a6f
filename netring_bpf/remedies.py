"""The commands that mend what is wrong, which errors and ``netring-bpf doctor`` both name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

__all__ = [
    "as_root",
    "bring_up",
    "detach_tcx",
    "detach_xdp",
    "end_processes",
    "install",
    "install_anywhere",
    "raise_memlock",
    "set_mtu",
    "switch_off",
    "word",
]

_INSTALLERS: Final = {
    "Debian, Ubuntu": "apt-get install",
    "Fedora": "dnf install",
    "Arch": "pacman -S",
}
_PACKAGES: Final = {
    "BCC": ("python3-bpfcc", "python3-bcc", "python-bcc"),
    "libpcap": ("libpcap0.8", "libpcap", "libpcap"),
    "libcrypto": ("libssl3", "openssl-libs", "openssl"),
}
_MODES: Final = {"native": "xdp", "generic": "xdpgeneric", "offload": "xdpoffload"}
_FAMILIES: Final = {"fedora": 1, "rhel": 1, "arch": 2}  # all others are shown Debian's
_UNASKED: Final = ("--yes", "--assumeyes", "--noconfirm")
_DPKG: Final = "/var/lib/dpkg/info"
_OS_RELEASE: Final = "/etc/os-release"
_PLAIN: Final = r"[\w@%+=:,./-]+"


def word(text: str) -> str:
    r"""Return the text as one word for a shell, with nothing that a terminal might obey.

    Unprintable bytes become ``$'\x1b'``, which bash and zsh read.
    """
    if re.fullmatch(_PLAIN, text, re.ASCII):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "'\\''") + "'"
    return f"$'{''.join(map(_escaped, text))}'"


def _escaped(char: str) -> str:
    if char in {"\\", "'"}:
        return f"\\{char}"
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode(errors="surrogateescape"))


def as_root(command: str) -> str:
    """Return the command as this user runs it with root's rights."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def install_anywhere(library: str) -> str:
    """Return the commands that install ``"BCC"``, ``"libpcap"`` or ``"libcrypto"``, in words."""
    by_distribution = zip(_INSTALLERS.items(), _PACKAGES[library], strict=True)
    return "; ".join(f"{name}: {command} {package}" for (name, command), package in by_distribution)


def install(library: str) -> str:
    """Return the command that installs the library on this distribution, without a question."""
    at = next((_FAMILIES[name] for name in _distribution() if name in _FAMILIES), 0)
    command, package = [*_INSTALLERS.values()][at], _PACKAGES[library][at]
    if _is_known_to_dpkg(package):
        command += " --reinstall"  # it is there, but its files are not
    return as_root(f"{command} {_UNASKED[at]} {package}")


def _is_known_to_dpkg(package: str) -> bool:
    try:
        names = os.listdir(_DPKG)
    except OSError:
        return False
    return any(re.fullmatch(rf"{re.escape(package)}(t64)?(:\w+)?\.list", name) for name in names)


def _distribution() -> list[str]:
    """Return the names of the distribution and of those that it is made of."""
    try:
        with open(_OS_RELEASE, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return " ".join(fields.get(key, "").strip("\"'") for key in ("ID", "ID_LIKE")).split()


def bring_up(interface: str) -> str:
    """Return the command that sets an interface up."""
    return f"ip link set dev {word(interface)} up"


def detach_xdp(interface: str, mode: str) -> str:
    """Return the command that takes an XDP program off, unless a process holds its link.

    ``mode``: ``"native"``, ``"generic"`` or ``"offload"``. The kernel looks for no other mode.
    """
    return f"ip link set dev {word(interface)} {_MODES[mode]} off"


def detach_tcx(interface: str) -> str:
    """Return the command that takes the tcx programs off what an interface receives."""
    return f"bpftool net detach tcx_ingress dev {word(interface)}"


def set_mtu(interface: str, mtu: int) -> str:
    """Return the command that sets an interface's MTU."""
    return f"ip link set dev {word(interface)} mtu {mtu}"


def switch_off(interface: str, features: Iterable[str]) -> str:
    """Return the command that switches offloads off, which are given by the kernel's names."""
    return f"ethtool -K {word(interface)} {' '.join(f'{name} off' for name in sorted(features))}"


def end_processes(pids: Iterable[int]) -> str:
    """Return the command that ends the processes."""
    return f"kill {' '.join(map(str, pids))}"


def raise_memlock(*, within_hard_limit: bool) -> str:
    """Return the command that lifts the memory-lock limit of the shell that runs it."""
    if within_hard_limit:
        return "ulimit -S -l unlimited"
    return as_root("prlimit --memlock=unlimited --pid $$")
