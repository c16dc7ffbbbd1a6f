"""The schemas of MQTT: one a topic, strict, and none changes without a new version."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from netring_bpf.events.fields import MEASURED, RECORD
from netring_bpf.sinks.mqtt_topics import VERSIONS

# The digest of each version that there was. A changed schema gets a new version, and a new line.
DIGESTS = {
    ("availability", 1): "8a639dda1242ee19b23f26a6894ce7857d6775ccde04ca9ea41aafdb343621e7",
    ("devices", 1): "319571e9d63c31a7fe19292f48a7d8aad8d90b38c633b827ba7d612f68fa13dd",
    ("events", 1): "e60ba59f5ce2ad1769925b04b0aaafd47452806bad9fa7f7f93e1412ed9e53f9",
    ("flows", 1): "5c81c7b3e45c9b1dbfdc0f4d9613292d58af1169028a569158404aa2fb3bf864",
    ("info", 1): "75dde0a77a26b4aed0af6d5b713e1233fbffe27695ce70a07c4382c8012d4ca3",
    ("link", 1): "502adbac3403f61850a3792d3c8b0b7783f5e6ee9f10f30342659e97a325ca72",
    ("stats", 1): "d8d354559aac2bfa7650a629a8b31dcfc5170b4766e78faaa52ec2603f343fe7",
    ("top", 1): "6097cdc040f9b99c8f1e5e46f61ff3a157c8c6f9b62c79e8fbda82435509c6b6",
}
SCHEMAS: dict[str, dict[str, Any]] = {
    path.name.removesuffix(".json"): json.loads(path.read_text())
    for path in files("netring_bpf.sinks").joinpath("schemas").iterdir()
}


def version(name: str) -> int:
    return int(SCHEMAS[name]["$id"].rpartition(":")[2])


def digest(name: str) -> str:
    plain = json.dumps(SCHEMAS[name], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()


def test_each_topic_has_a_schema_of_its_version() -> None:
    assert set(SCHEMAS) == {*VERSIONS, "availability", "flows"}
    assert {name: version(name) for name in VERSIONS} == dict(VERSIONS)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_does_not_change_without_its_version(name: str) -> None:
    known = DIGESTS[name, version(name)]
    assert digest(name) == known, "the schema changed: raise its version, and add its digest"


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_one_of_json_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def objects(schema: object) -> list[dict[str, Any]]:
    """All parts of a schema that describe an object with known fields."""
    if isinstance(schema, list):
        return [found for part in schema for found in objects(part)]
    if not isinstance(schema, dict):
        return []
    here = [schema] if "properties" in schema else []
    return here + [found for part in schema.values() for found in objects(part)]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_refuses_fields_that_it_does_not_know(name: str) -> None:
    # So a payload cannot change while its schema stays.
    assert [part for part in objects(SCHEMAS[name]) if part.get("additionalProperties")] == []
    assert all("additionalProperties" in part for part in objects(SCHEMAS[name]))


@pytest.mark.parametrize("name", sorted(VERSIONS))
def test_each_payload_has_its_version(name: str) -> None:
    parts = SCHEMAS[name].get("oneOf", [SCHEMAS[name]])
    assert {part["properties"]["v"]["const"] for part in parts} == {VERSIONS[name]}
    assert all("v" in part["required"] for part in parts)


def test_no_integer_is_above_what_javascript_keeps() -> None:
    def integers(schema: object) -> list[dict[str, Any]]:
        if isinstance(schema, list):
            return [found for part in schema for found in integers(part)]
        if not isinstance(schema, dict):
            return []
        here = [schema] if schema.get("type") == "integer" else []
        return here + [found for part in schema.values() for found in integers(part)]

    counted = [part for schema in SCHEMAS.values() for part in integers(schema)]
    assert counted
    bounds = {part.get("maximum", 0) for part in counted}
    assert max(bounds) == 2**53 - 1


def test_the_schema_of_flows_has_the_fields_of_the_record() -> None:
    fields = set(SCHEMAS["flows"]["items"]["properties"])
    assert fields == {*RECORD, *MEASURED, "interface", "capture", "seq"}
