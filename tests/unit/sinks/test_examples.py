"""The examples for other programs name topics and fields that there are."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netring_bpf.sinks.mqtt_topics import Topics
from tests.support.aggregates import stats

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
TOPICS = Topics("netring/+")
RECORD: dict[str, Any] = stats(1, devices=2).to_dict()


def flat(record: dict[str, Any], before: str = "") -> Iterator[str]:
    """The names of numbers as Telegraf makes them of an object."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}_")
        else:
            yield f"{before}{name}"


def test_telegraf_reads_topics_and_fields_that_there_are() -> None:
    config = tomllib.loads((EXAMPLES / "telegraf" / "netring.conf").read_text())
    first, second = config["inputs"]["mqtt_consumer"]
    assert (first["topics"], second["topics"]) == ([TOPICS.stats], [TOPICS.availability])
    [parsed] = first["json_v2"]
    paths = [parsed["timestamp_path"]]
    paths += [part["path"] for kind in ("tag", "object") for part in parsed[kind]]
    assert set(paths) <= set(RECORD)


def test_grafana_shows_what_telegraf_hands_on() -> None:
    text = (EXAMPLES / "telegraf" / "grafana.json").read_text()
    dashboard = json.loads(text)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    shown = set(re.findall(r"netring_stats_(\w+)", text))
    kept = {name: RECORD[name] for name in ("rates", "health")}
    assert shown
    assert shown <= set(flat(kept))


def test_what_was_not_run_says_so() -> None:
    for path in (EXAMPLES / "telegraf" / "netring.conf", EXAMPLES / "telegraf" / "grafana.json"):
        assert "NOT RUN" in path.read_text()


def test_node_red_subscribes_to_topics_that_there_are_and_is_wired() -> None:
    nodes = json.loads((EXAMPLES / "node-red" / "flows.json").read_text())
    known = {node["id"]: node for node in nodes}
    assert len(known) == len(nodes)
    wired = {wire for node in nodes for wires in node.get("wires", []) for wire in wires}
    assert wired <= set(known)
    topics = {node["topic"] for node in nodes if node["type"] == "mqtt in"}
    assert topics == {TOPICS.top, TOPICS.stats}
    types = {node["type"] for node in nodes}  # of Node-RED itself, without extra nodes
    assert types == {
        "tab", "mqtt-broker", "mqtt in", "function", "debug", "http in", "http response",
    }  # fmt: skip
