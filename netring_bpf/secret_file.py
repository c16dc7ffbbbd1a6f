"""A file that holds a secret: who besides its owner can read or change it."""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Final

__all__ = ["exposure"]

# The file's ACL as the kernel gives it: linux/posix_acl_xattr.h.
_ACL: Final = "system.posix_acl_access"
_ACL_VERSION: Final = 2
_USER, _GROUP_OWNER, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_READ, _WRITE = 4, 2
_NO_ACL: Final = {errno.ENODATA, errno.EOPNOTSUPP}


def exposure(descriptor: int) -> str | None:
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
