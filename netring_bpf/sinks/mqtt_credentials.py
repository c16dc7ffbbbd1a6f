"""The user name and the password of an MQTT sink, and who may read their file."""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netring_bpf.errors import SinkError

__all__ = ["PASSWORD_VARIABLE", "USERNAME_VARIABLE", "Credentials"]

USERNAME_VARIABLE: Final = "NETRING_MQTT_USERNAME"
PASSWORD_VARIABLE: Final = "NETRING_MQTT_PASSWORD"  # noqa: S105 - a name

# The file's ACL as the kernel gives it: linux/posix_acl_xattr.h.
_ACL: Final = "system.posix_acl_access"
_ACL_VERSION: Final = 2
_USER, _GROUP_OWNER, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_READ, _WRITE = 4, 2
_NO_ACL: Final = {errno.ENODATA, errno.EOPNOTSUPP}


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user name and a password; no repr shows them."""

    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({'set' if self.username is not None else 'none'})"

    @classmethod
    def read(cls, path: str | os.PathLike[str] | None) -> Credentials:
        """Read them from the file, or from the environment if there is no file.

        Raises ``SinkError`` for a file that others can read or change. An access control list
        may let single users read it, as systemd does for the credentials of a service.
        """
        if path is None:
            return cls(os.environ.get(USERNAME_VARIABLE), os.environ.get(PASSWORD_VARIABLE))
        try:
            with Path(path).open(encoding="utf-8") as file:
                if fault := _fault(file.fileno()):
                    raise SinkError(f"MQTT credentials in {path}: {fault}; chmod 600 {path}")
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SinkError(f"MQTT credentials in {path}: {error}") from None
        if not 1 <= len(lines) <= 2 or not lines[0]:
            raise SinkError(
                f"MQTT credentials in {path}: must be the user name on the first line and the "
                "password on the second"
            )
        return cls(lines[0], lines[1] if len(lines) == 2 else None)


def _fault(descriptor: int) -> str | None:
    """Return in words who else can read or change the file; None if nobody can."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if mode & stat.S_IRWXO:
        return f"its mode is {mode:04o}, every user can read or change it"
    if not mode & stat.S_IRWXG:
        return None  # nor can anybody whom an ACL names: these bits are its mask
    try:
        acl = os.getxattr(descriptor, _ACL)
    except OSError as error:
        if error.errno not in _NO_ACL:
            raise
        return f"its mode is {mode:04o}, its group can read or change it"
    return _fault_of_acl(acl)


def _fault_of_acl(acl: bytes) -> str | None:
    """Look through the ACL of a file whose mode has bits for the group."""
    if len(acl) % 8 != 4 or struct.unpack_from("<I", acl) != (_ACL_VERSION,):
        return "its access control list has an unknown form"
    entries = list(struct.iter_unpack("<HHI", acl[4:]))
    mask = next((permissions for tag, permissions, _ in entries if tag == _MASK), 0o7)
    for tag, permissions, name in entries:
        allowed = permissions & mask
        if tag in {_GROUP_OWNER, _GROUP} and allowed & (_READ | _WRITE):
            return "its access control list lets a group read or change it"
        if tag == _USER and allowed & _WRITE and name not in {0, os.geteuid()}:
            return f"its access control list lets the user {name} change it"
    return None
