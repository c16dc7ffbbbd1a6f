"""The message by which Home Assistant finds a capture, and shows it as a device of its own.

Device-based discovery (Home Assistant 2024.11 and newer): one retained message on
``<prefix>/device/<id>/config`` with the device, its origin and all entities.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from netring_bpf.errors import OptionError
from netring_bpf.events.capture_info import CaptureInfo
from netring_bpf.events.device import Device
from netring_bpf.events.plain import text
from netring_bpf.sinks.mqtt_topics import Topics
from netring_bpf.sinks.topic import is_mqtt_text, topic_level

__all__ = ["MAX_DEVICE_ENTITIES", "Discovery", "HomeAssistantOptions", "Shown"]

MAX_DEVICE_ENTITIES: Final = 256
_MAX_RETIRED: Final = 256
_PLATFORMS: Final = ("sensor", "binary_sensor")
_PLAIN: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LONGEST_NAME: Final = 64
_LONGEST_PREFIX: Final = 1024

Component = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class HomeAssistantOptions:
    """Options of ``MqttOptions(home_assistant=…)``.

    ``prefix``: where Home Assistant looks for discovery, and says that it is there.
    ``devices``: so many devices of the link get an entity of their own, 0 to 256, those first that
    are known first.

    Raises ``OptionError``.
    """

    prefix: str = "homeassistant"
    devices: int = 0

    def __post_init__(self) -> None:
        good = (
            isinstance(self.prefix, str)
            and 0 < len(self.prefix) <= _LONGEST_PREFIX
            and is_mqtt_text(self.prefix)
            and not self.prefix.startswith("$")
            and not set(self.prefix) & set("+#")
        )
        if not good:
            raise OptionError(
                f"HomeAssistantOptions: prefix={self.prefix!r:.100}: must be the beginning of a "
                "topic: no $ in front, no +, # or control characters",
                option="prefix",
            )
        if not isinstance(self.devices, int) or not 0 <= self.devices <= MAX_DEVICE_ENTITIES:
            raise OptionError(
                f"HomeAssistantOptions: devices={self.devices!r}: must be from 0 to "
                f"{MAX_DEVICE_ENTITIES}",
                option="devices",
            )

    @property
    def status_topic(self) -> str:
        """Where Home Assistant says ``online`` when it has started."""
        return f"{self.prefix}/status"


@dataclass(frozen=True, slots=True)
class Shown:
    """The topics that the sink publishes, of those that entities are made of."""

    stats: bool = True
    top: bool = True
    link: bool = True
    devices: bool = True


class Discovery:
    """Makes the discovery message of one node."""

    def __init__(
        self, options: HomeAssistantOptions, prefix: str, node: str, shown: Shown | None = None
    ) -> None:
        self._options = options
        self._node = node
        self._topics = Topics.of(prefix, node)
        self._shown = shown or Shown()
        self.identity: Final = _identity(prefix, node)
        self._retired: dict[str, str] = {}  # components that are no more, with their platforms
        self._known: dict[str, str] = {}

    @property
    def topic(self) -> str:
        """The topic of the message."""
        return f"{self._options.prefix}/device/{self.identity}/config"

    def inherit(self, payload: bytes) -> bool:
        """Take the message of an earlier run; return whether it had any component.

        Those that the next message has not are told to be removed: Home Assistant keeps them else.
        """
        try:
            components = json.loads(payload)["components"]
            found = {
                key: component["platform"]
                for key, component in components.items()
                if len(component) > 1 and component["platform"] in _PLATFORMS
            }
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return False
        self._known |= {k: p for k, p in found.items() if _PLAIN.fullmatch(k)}
        return bool(found)

    def message(
        self,
        info: CaptureInfo | None,
        *,
        devices: Sequence[Device] = (),
        has_devices: bool = False,
        qos: int = 1,
    ) -> dict[str, object]:
        """Return the message. ``has_devices``: the capture watches devices.

        A component that an earlier message of this object had, and this one has not, is told to be
        removed.
        """
        components = self._components(info, devices[: self._options.devices], has_devices)
        gone = {key: platform for key, platform in self._known.items() if key not in components}
        retired = self._retired | gone
        kept = [key for key in retired if key not in components][-_MAX_RETIRED:]
        self._retired = {key: retired[key] for key in kept}
        self._known = {key: str(made["platform"]) for key, made in components.items()}
        version = "" if info is None else info.version
        device: dict[str, object] = {
            "identifiers": [self.identity],
            "name": f"netring {text(self._node)[:_LONGEST_NAME]}",
            "manufacturer": "netring_bpf",
        }
        if info is not None:
            device["model"] = f"{text(info.interface)[:_LONGEST_NAME]} ({info.backend})"
            device["sw_version"] = version
        origin = {"name": "netring-bpf", "sw_version": version}
        return {
            "device": device,
            "origin": origin,
            "availability_topic": self._topics.availability,
            "qos": qos,
            "components": components
            | {key: {"platform": platform} for key, platform in self._retired.items()},
        }

    def _components(
        self, info: CaptureInfo | None, devices: Sequence[Device], has_devices: bool
    ) -> dict[str, Component]:
        made: dict[str, Component] = {}
        if self._shown.stats:
            made |= _of_stats(self._topics.stats, has_devices=has_devices)
        if self._shown.top:
            made["top_talker"] = _top_talker(self._topics.top)
        if self._shown.link and info is not None and info.backend != "file":
            made["link"] = {
                "platform": "binary_sensor",
                "name": "Link",
                "device_class": "connectivity",
                "state_topic": self._topics.link(info.interface),
                "value_template": "{{ 'ON' if value_json.up else 'OFF' }}",
                "entity_category": "diagnostic",
            }
        if self._shown.devices:
            for device in devices:
                made[f"device_{device.mac.replace(':', '')}"] = self._of_device(device)
        return {
            key: {"unique_id": f"{self.identity}_{key}", **component}
            for key, component in made.items()
        }

    def _of_device(self, device: Device) -> Component:
        topic = self._topics.device(device.mac)
        shown = device.name or device.vendor or device.mac
        return {
            "platform": "sensor",
            "name": f"Device {text(shown)[:_LONGEST_NAME]}",
            "device_class": "timestamp",
            "state_topic": topic,
            # Home Assistant reads no nanoseconds. The topic of a device that is gone is empty.
            "value_template": "{{ value_json.last[:19] ~ 'Z' if value else None }}",
            "json_attributes_topic": topic,
            "json_attributes_template": "{{ value if value else '{}' }}",
        }


def _of_stats(topic: str, *, has_devices: bool) -> dict[str, Component]:
    def sensor(
        name: str, template: str, state_class: str = "measurement", **more: object
    ) -> Component:
        return {
            "platform": "sensor",
            "name": name,
            "state_topic": topic,
            "value_template": f"{{{{ {template} }}}}",
            "state_class": state_class,
            **more,
        }

    def throughput(name: str, way: str) -> Component:
        return sensor(
            name,
            f"(value_json.rates.{way}.bits_per_second / 1000000) | round(6)",
            device_class="data_rate",
            unit_of_measurement="Mbit/s",
            suggested_display_precision=3,
        )

    made: dict[str, Component] = {
        # ``in`` is an operator of Jinja, and no name behind a dot.
        "throughput_in": throughput("Throughput in", "get('in')"),
        "throughput_out": throughput("Throughput out", "out"),
        "throughput": throughput("Throughput", "total"),
        "packets": sensor(
            "Packets",
            "value_json.rates.total.packets_per_second",
            unit_of_measurement="packets/s",
            suggested_display_precision=0,
        ),
        "flows": sensor(
            "New flows",
            "value_json.rates.total.flows_per_second",
            unit_of_measurement="flows/s",
            suggested_display_precision=1,
        ),
        "live_flows": sensor(
            "Live flows", "value_json.health.flows_live", unit_of_measurement="flows"
        ),
        "loss": sensor(
            "Loss",
            "(value_json.health.loss * 100) | round(6)",
            unit_of_measurement="%",
            suggested_display_precision=3,
            entity_category="diagnostic",
        ),
        "restarts": sensor(
            "Capture restarts",
            "value_json.health.restarts",
            "total_increasing",
            entity_category="diagnostic",
        ),
        "books": {
            "platform": "binary_sensor",
            "name": "Books",
            "device_class": "problem",
            "state_topic": topic,
            "value_template": "{{ 'OFF' if value_json.health.balanced else 'ON' }}",
            "entity_category": "diagnostic",
        },
    }
    if has_devices:
        made["devices"] = sensor(
            "Devices online", "value_json.health.devices_online", unit_of_measurement="devices"
        )
    return made


def _top_talker(topic: str) -> Component:
    # A state has 255 characters at most; ``None`` is that of no traffic.
    return {
        "platform": "sensor",
        "name": "Top talker",
        "state_topic": topic,
        "value_template": (
            "{% set hosts = value_json.top.hosts %}"
            "{{ (hosts[0].name | default(hosts[0].key, true))[:255] if hosts else None }}"
        ),
        "json_attributes_topic": topic,
        "json_attributes_template": (
            "{% set top = value_json.top %}"
            "{{ {'hosts': top.hosts[:5], 'names': top.names[:5], 'services': top.services[:5]} "
            "| tojson }}"
        ),
    }


def _identity(prefix: str, node: str) -> str:
    """Return an id of the characters that Home Assistant takes, which no other node has."""
    whole = node if prefix == "netring" else f"{prefix}/{node}"
    if _PLAIN.fullmatch(whole):
        return f"netring_{whole}"
    # The digest keeps nodes apart whose names differ in other characters only.
    digest = hashlib.sha256(topic_level(whole).encode()).hexdigest()[:12]
    shown = re.sub(r"[^a-zA-Z0-9_-]+", "_", whole)[:40].strip("_")
    return f"netring_{shown}_{digest}" if shown else f"netring_{digest}"
