"""The rules of Home Assistant for a discovery message of a device, as its documentation has them.

https://www.home-assistant.io/integrations/mqtt/#discovery-messages, and the pages of the sensor
and the binary sensor of MQTT. Unknown fields are refused in the message, and passed over in a
component; here they are refused in both.
"""

from __future__ import annotations

from typing import Any, Final

import jsonschema

__all__ = ["check_discovery"]

_TEXT: Final = {"type": "string", "minLength": 1}
_TOPIC: Final = {"type": "string", "pattern": "^[^+#\\u0000]+$"}
_COMMON: Final = {
    "unique_id": {"type": "string", "pattern": "^[a-zA-Z0-9_-]+$"},
    "name": _TEXT,
    "state_topic": _TOPIC,
    "value_template": _TEXT,
    "entity_category": {"const": "diagnostic"},
    "json_attributes_topic": _TOPIC,
    "json_attributes_template": _TEXT,
}
_REQUIRED: Final = ["platform", "unique_id", "name", "state_topic"]
_SENSOR: Final = {
    "type": "object",
    "properties": _COMMON
    | {
        "platform": {"const": "sensor"},
        "device_class": {"enum": ["data_rate", "timestamp"]},
        "state_class": {"enum": ["measurement", "total", "total_increasing"]},
        "unit_of_measurement": _TEXT,
        "suggested_display_precision": {"type": "integer", "minimum": 0},
    },
    "required": _REQUIRED,
    "additionalProperties": False,
    "allOf": [
        {  # the units and the state classes that the device class allows
            "if": {"properties": {"device_class": {"const": "data_rate"}},
                   "required": ["device_class"]},
            "then": {"properties": {
                "unit_of_measurement": {"enum": [
                    "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "B/s", "kB/s", "MB/s", "GB/s",
                    "KiB/s", "MiB/s", "GiB/s",
                ]},
                "state_class": {"const": "measurement"}},
                "required": ["unit_of_measurement"]},
        },
        {
            "if": {"properties": {"device_class": {"const": "timestamp"}},
                   "required": ["device_class"]},
            "then": {"not": {"anyOf": [{"required": ["unit_of_measurement"]},
                                       {"required": ["state_class"]}]}},
        },
        {  # a state class makes a number of it
            "if": {"required": ["unit_of_measurement"]},
            "then": {"required": ["state_class"]},
        },
    ],
}  # fmt: skip
_BINARY_SENSOR: Final = {
    "type": "object",
    "properties": _COMMON
    | {
        "platform": {"const": "binary_sensor"},
        "device_class": {"enum": ["connectivity", "problem"]},
    },
    "required": _REQUIRED,
    "additionalProperties": False,
}
_REMOVED: Final = {
    "type": "object",
    "properties": {"platform": {"enum": ["sensor", "binary_sensor"]}},
    "required": ["platform"],
    "additionalProperties": False,
}
_DISCOVERY: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "device": {
            "type": "object",
            "properties": {
                "identifiers": {"type": "array", "items": _TEXT, "minItems": 1},
                **dict.fromkeys(("name", "manufacturer", "model", "sw_version"), _TEXT),
            },
            "required": ["identifiers", "name"],
            "additionalProperties": False,
        },
        "origin": {
            "type": "object",
            "properties": {"name": _TEXT, "sw_version": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        "availability_topic": _TOPIC,
        "qos": {"enum": [0, 1, 2]},
        "components": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"oneOf": [_SENSOR, _BINARY_SENSOR, _REMOVED]},
        },
    },
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
}


def check_discovery(message: dict[str, Any]) -> dict[str, Any]:
    """Raise an error unless Home Assistant takes the message; return its entities by key."""
    jsonschema.Draft202012Validator(_DISCOVERY).validate(message)
    entities: dict[str, Any] = {k: c for k, c in message["components"].items() if len(c) > 1}
    assert len({entity["unique_id"] for entity in entities.values()}) == len(entities)
    assert len({entity["name"] for entity in entities.values()}) == len(entities)
    return entities
