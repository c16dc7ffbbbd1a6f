"""What a capture is, for those who get its events."""

from __future__ import annotations

from typing import NamedTuple

from netring_bpf.events.plain import json_text, text, time_text

__all__ = ["CaptureInfo"]


class CaptureInfo(NamedTuple):
    """A capture as it was opened.

    ``version``: of netring_bpf. ``interface``: its name, or that of the files. ``backend``,
    ``attach``, ``notices``: as the properties of ``Netring``. ``filter``: the filter's text; None
    for all packets. ``since``: when the capture began, in nanoseconds since the Unix epoch.
    ``options``: those that differ from their defaults, by name, as text. ``link_up``: whether the
    interface had a link then; ``LinkUp`` and ``LinkDown`` tell of changes.
    """

    version: str
    interface: str
    backend: str
    attach: str | None
    filter: str | None
    since: int
    options: tuple[tuple[str, str], ...] = ()
    notices: tuple[str, ...] = ()
    link_up: bool = True

    def to_dict(self) -> dict[str, object]:
        """Return it as plain values."""
        return {
            "version": self.version,
            "interface": text(self.interface),
            "backend": self.backend,
            "attach": self.attach,
            "filter": None if self.filter is None else text(self.filter),
            "since": time_text(self.since),
            "options": {name: text(value) for name, value in self.options},
            "notices": [text(notice) for notice in self.notices],
        }

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())
