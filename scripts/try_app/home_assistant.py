"""Shows a capture in a real Home Assistant, without any YAML for it.

It installs Home Assistant where ``--home`` says, unless it is there. Then, in a network namespace
of its own: a broker, Home Assistant with MQTT set up as its page does it, and a capture with
traffic. It checks that entities appear and change, that they are unavailable when the capture is
killed, and that all comes back when each of the three restarts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import stage
from stage import Capture, NotSo, Traffic, fetch, say, wait

from tests.support.broker import Broker
from tests.support.process import spawn, stop

_OLD = "2025.2.5"  #: the newest that Python 3.13.0 and 3.13.1 run
_INTEGRATIONS = ("mqtt", "frontend", "onboarding", "backup", "network", "system_health", "hardware")
_ENTITIES = {
    "throughput in": "sensor.netring_try_throughput_in",
    "throughput out": "sensor.netring_try_throughput_out",
    "throughput": "sensor.netring_try_throughput",
    "packets": "sensor.netring_try_packets",
    "flows": "sensor.netring_try_new_flows",
    "live flows": "sensor.netring_try_live_flows",
    "loss": "sensor.netring_try_loss",
    "restarts": "sensor.netring_try_capture_restarts",
    "devices online": "sensor.netring_try_devices_online",
    "top talker": "sensor.netring_try_top_talker",
    "books": "binary_sensor.netring_try_books",
    "link": "binary_sensor.netring_try_link",
}
_GONE = {None, "unavailable"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--python",
        default=shutil.which("python3.14") or shutil.which("python3.13") or "python3",
        help="the Python to install it with [default: %(default)s]",
    )
    parser.add_argument("--version", help="of Home Assistant [default: what that Python runs]")


def run(given: argparse.Namespace) -> None:
    install(given.home, given.python, given.version)
    stage.enter_namespace()
    with (
        tempfile.TemporaryDirectory(prefix="netring-try-") as folder,
        Broker() as broker,
        Traffic() as traffic,
    ):
        home_assistant = HomeAssistant(given.home, Path(folder) / "config")
        try:
            play(home_assistant, broker, traffic, Path(folder) / "capture.log")
        except NotSo:
            print(home_assistant.log.read_text()[-4000:])
            raise
        finally:
            home_assistant.stop()


def play(home: HomeAssistant, broker: Broker, traffic: Traffic, log: Path) -> None:
    home.start()
    home.sign_in()
    say(f"Home Assistant {home.version()} runs")
    home.add_mqtt(broker.port)
    say("MQTT is set up, by the steps of its page")
    flags = ("--home-assistant", "--home-assistant-devices", "2")
    capture = Capture(broker.url, *flags, log=log)
    try:
        wait("all entities are there, each with a state", home.has_all)
        home.show()

        traffic.quiet.set()
        wait("no traffic: throughput in is 0", lambda: home.number("throughput in") == 0)
        traffic.quiet.clear()
        wait("traffic: throughput in is above 0", lambda: home.number("throughput in") > 0)
        wait(
            "the top talker is the host that sends most",
            lambda: home.state("top talker") == "192.168.7.1",
        )
        stage.ip("link set far0 down")
        wait("the link is down: off", lambda: home.state("link") == "off")
        stage.ip("link set far0 up")
        wait("the link is up again: on", lambda: home.state("link") == "on")
        wait("the restart is counted", lambda: home.number("restarts") >= 1)

        capture.kill()
        say("the capture is killed (SIGKILL)")
        wait("all entities are unavailable", home.is_gone)
        capture = Capture(broker.url, *flags, log=log)
        wait("a new capture: all entities are back", home.has_all)
        settle(home)

        broker.kill()
        say("the broker is killed (SIGKILL), and has kept nothing")
        wait("all entities are unavailable", home.is_gone)
        broker.start()
        wait("a new broker: all entities are back", home.has_all)
        settle(home)

        home.stop()
        say("Home Assistant has stopped")
        home.start()
        home.sign_in()
        wait("Home Assistant runs again: all entities are back", home.has_all)
        wait("their states go on", lambda: home.number("throughput in") > 0)
        home.show()

        if capture.stop() != 0:
            raise NotSo(f"the capture ended with an error: {log.read_text()}")
        wait("the capture has ended: all entities are unavailable", home.is_gone)
        stage.run(
            [stage.ROOT / ".venv/bin/netring-bpf", "mqtt", "forget", "--mqtt", broker.url,
             "--mqtt-node", "try"]
        )  # fmt: skip
        wait("the node is forgotten: no entity is left", lambda: not home.entities())
    except NotSo:
        for entity, state in sorted(home.entities().items()):
            say(f"    {entity:44} {state['state']} {state['attributes'].get('restored', '')}")
        raise
    finally:
        capture.stop()


def settle(home: HomeAssistant) -> None:
    """Let what is on its way arrive: entities that are no more go, others take their place."""
    time.sleep(5)
    wait("it is still so 5 s later", home.has_all)


class HomeAssistant:
    """One that is ours: its configuration in a folder, its page on a free port."""

    def __init__(self, venv: Path, config: Path) -> None:
        self._venv, self._config = venv, config
        self._port = stage.free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[str] | None = None
        self._token = ""
        self.log = config / "home-assistant.log"
        config.mkdir()
        # Where its page is. Nothing about MQTT, and no entity.
        (config / "configuration.yaml").write_text(
            f"http:\n  server_host: 127.0.0.1\n  server_port: {self._port}\n"
        )

    def start(self) -> None:
        command = [str(self._venv / "bin/hass"), "-c", str(self._config), "--skip-pip"]
        with (self._config / "output").open("a") as out:
            self._process = spawn(
                command, stdout=out, stderr=out, env={**os.environ, "HOME": str(self._config)}
            )
        wait("Home Assistant answers", lambda: fetch(f"{self._url}/api/onboarding") is not None)

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None

    def sign_in(self) -> None:
        """Make the first user, as a new installation asks for; later sign in as that one."""
        client = f"{self._url}/"
        code = self._first_code(client) or self._later_code(client)
        answer = fetch(
            f"{self._url}/auth/token",
            urlencode(
                {"grant_type": "authorization_code", "code": code, "client_id": client}
            ).encode(),
            form=True,
        )
        self._token = answer["access_token"]

    def _first_code(self, client: str) -> str | None:
        answer = fetch(
            f"{self._url}/api/onboarding/users",
            {"client_id": client, "name": "Try", "username": "try", "password": "try-it-once",
             "language": "en"},
        )  # fmt: skip
        return None if answer is None else str(answer["auth_code"])

    def _later_code(self, client: str) -> str:
        flow = fetch(
            f"{self._url}/auth/login_flow",
            {"client_id": client, "handler": ["homeassistant", None], "redirect_uri": client},
        )
        answer = fetch(
            f"{self._url}/auth/login_flow/{flow['flow_id']}",
            {"client_id": client, "username": "try", "password": "try-it-once"},
        )
        return str(answer["result"])

    def add_mqtt(self, port: int) -> None:
        """Add the integration, as its page does: choose it, name the broker."""
        flows = "/api/config/config_entries/flow"
        flow = self._call(flows, {"handler": "mqtt", "show_advanced_options": False})
        answer = self._call(f"{flows}/{flow['flow_id']}", {"broker": "127.0.0.1", "port": port})
        if answer is None or answer.get("type") != "create_entry":
            raise NotSo(f"MQTT was not set up: {answer}")

    def version(self) -> str:
        return str(self._call("/api/config")["version"])

    def entities(self) -> dict[str, dict[str, Any]]:
        """All that is there of the node, by entity id."""
        states = self._call("/api/states") or []
        return {
            state["entity_id"]: state for state in states if "netring_try" in state["entity_id"]
        }

    def state(self, name: str) -> str | None:
        found = self._call(f"/api/states/{_ENTITIES[name]}")
        return None if found is None else str(found["state"])

    def number(self, name: str) -> float:
        try:
            return float(self.state(name) or "nan")
        except ValueError:
            return float("nan")

    def has_all(self) -> bool:
        there = self.entities()
        devices = [name for name in there if name.startswith("sensor.netring_try_device_")]
        return len(devices) == 2 and all(
            there.get(entity, {}).get("state") not in {*_GONE, "unknown"}
            for entity in (*_ENTITIES.values(), *devices)
        )

    def is_gone(self) -> bool:
        there = self.entities()
        return bool(there) and all(state["state"] in _GONE for state in there.values())

    def show(self) -> None:
        for entity, state in sorted(self.entities().items()):
            attributes = state["attributes"]
            unit = attributes.get("unit_of_measurement", "")
            kind = attributes.get("device_class", "")
            say(f"    {entity:44} {state['state']:>14} {unit:10} {kind}")
        hosts = self.entities()[_ENTITIES["top talker"]]["attributes"]["hosts"]
        shown = ", ".join(f"{host['key']} {host['bytes']} bytes" for host in hosts[:3])
        say(f"    attributes of the top talker: {shown}")

    def _call(self, path: str, data: dict[str, Any] | None = None) -> Any:
        return fetch(f"{self._url}{path}", data, token=self._token)


def install(home: Path, python: str, version: str | None) -> None:
    """Install Home Assistant in an environment of its own, unless it is there."""
    if (home / "bin/hass").exists() and (home / "complete").exists():
        return
    say(f"installing Home Assistant in {home}; this takes minutes")
    stage.run([python, "-m", "venv", home])
    found = subprocess.run(
        [home / "bin/python", "-c", "import sys; print(*sys.version_info[:3])"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    if version is None and tuple(map(int, found)) < (3, 13, 2):
        version = _OLD
    wanted = "homeassistant" if version is None else f"homeassistant=={version}"
    pip = [home / "bin/pip", "--disable-pip-version-check", "install", "--quiet"]
    stage.run([*pip, "uv"])
    stage.run([*pip, "--no-deps", wanted])
    [package] = home.glob("lib/python3*/site-packages/homeassistant")
    bounds = package / "package_constraints.txt"
    uv = [home / "bin/uv", "pip", "install", "--quiet", "--python", home / "bin/python"]
    stage.run([*uv, "-c", bounds, wanted])
    # What it would install when it starts, which it cannot do in a namespace.
    needed = sorted(set().union(*(_requirements(package, name) for name in _INTEGRATIONS)))
    stage.run([*uv, "-c", bounds, *needed])
    (home / "complete").touch()


def _requirements(package: Path, integration: str, seen: frozenset[str] = frozenset()) -> set[str]:
    if integration in seen:
        return set()
    path = package / "components" / integration / "manifest.json"
    manifest = json.loads(path.read_text())
    found = set(manifest.get("requirements", []))
    for other in manifest.get("dependencies", []):
        found |= _requirements(package, other, seen | {integration})
    return found
