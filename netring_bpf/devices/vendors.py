"""The vendors of MAC addresses, by the registry that the package aiooui carries."""

from __future__ import annotations

import logging
from typing import Final

try:
    import aiooui
except ModuleNotFoundError:  # the package is optional
    _IS_INSTALLED = False
else:
    _IS_INSTALLED = True

__all__ = ["MISSING", "load_vendors", "vendor_of"]

MISSING: Final = (
    "devices have no vendor: the registry of MAC addresses is not installed; "
    'pip install "netring-bpf[devices]"'
)
_log = logging.getLogger("netring_bpf.devices")


async def load_vendors() -> bool:
    """Load the registry; returns whether it is installed."""
    if not _IS_INSTALLED:
        return False
    try:
        await aiooui.async_load()
    except (OSError, RuntimeError) as error:
        _log.warning("devices have no vendor: the registry cannot be read: %s", error)
        return False
    return True


def vendor_of(mac: str) -> str | None:
    """Return the vendor of the address's block; None if it has none, or without a registry."""
    if not _IS_INSTALLED or not aiooui.is_loaded():
        return None
    vendor = aiooui.get_vendor(mac)
    return None if vendor is None else vendor[:256]
