"""The topics of a node, the options of each, and the versions of what they carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from netring_bpf.errors import OptionError
from netring_bpf.sinks.topic import topic_level

__all__ = ["VERSIONS", "TopicOptions", "Topics"]

#: The version of each topic's payload; its field ``v``. ``schemas/`` has a file for each.
VERSIONS: Final[Mapping[str, int]] = MappingProxyType(
    {"info": 1, "link": 1, "stats": 1, "top": 1, "devices": 1, "events": 1}
)
_LONGEST_INTERVAL: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """The options of one topic of an ``MqttSink``.

    ``enabled``: publish it. ``qos``: 0 or 1; None: as ``MqttOptions.qos``. ``retain``: the broker
    keeps the latest message for those who come later. ``interval``: the shortest time in seconds
    between two messages on one topic. The latest value goes out when its time has come; of
    ``events`` each message waits for its turn.

    Raises ``OptionError``.
    """

    enabled: bool = True
    qos: int | None = None
    retain: bool = True
    interval: float = 0.0

    def __post_init__(self) -> None:
        good = {
            "enabled": (isinstance(self.enabled, bool), "True or False"),
            "qos": (self.qos in {None, 0, 1}, "0, 1 or None"),
            "retain": (isinstance(self.retain, bool), "True or False"),
            "interval": (
                isinstance(self.interval, int | float)
                and 0.0 <= self.interval <= _LONGEST_INTERVAL,
                f"from 0 to {_LONGEST_INTERVAL:.0f} seconds",
            ),
        }
        for name, (holds, rule) in good.items():
            if not holds:
                raise OptionError(
                    f"TopicOptions: {name}={getattr(self, name)!r}: must be {rule}", option=name
                )


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics below ``<prefix>/<node>``."""

    base: str

    @classmethod
    def of(cls, prefix: str, node: str) -> Topics:
        """Return the topics of a node. Raises ``SinkError`` for a node without a character."""
        return cls(f"{prefix}/{topic_level(node)}")

    @property
    def flows(self) -> str:
        """Arrays of flows."""
        return f"{self.base}/flows"

    @property
    def availability(self) -> str:
        """``online`` or ``offline``."""
        return f"{self.base}/availability"

    @property
    def info(self) -> str:
        """The capture as it was opened."""
        return f"{self.base}/info"

    @property
    def stats(self) -> str:
        """Rates, sums and health of the latest interval."""
        return f"{self.base}/stats"

    @property
    def top(self) -> str:
        """The largest of each kind."""
        return f"{self.base}/top"

    @property
    def events(self) -> str:
        """What happens besides flows."""
        return f"{self.base}/events"

    @property
    def all(self) -> str:
        """The filter of all of them."""
        return f"{self.base}/#"

    @property
    def link_filter(self) -> str:
        """The filter of the topics of links."""
        return f"{self.base}/link/+"

    @property
    def device_filter(self) -> str:
        """The filter of the topics of devices."""
        return f"{self.base}/devices/+"

    def link(self, interface: str) -> str:
        """The state of an interface."""
        return f"{self.base}/link/{topic_level(interface)}"

    def device(self, mac: str) -> str:
        """What is known of a device."""
        return f"{self.base}/devices/{topic_level(mac).replace('%3A', ':')}"
