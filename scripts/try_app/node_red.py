"""Runs examples/node-red/flows.json in a real Node-RED.

It installs Node-RED by npm where ``--home`` says, unless it is there. Then, in a network namespace
of its own: a broker, Node-RED with the example, and a capture with traffic. It checks that the
debug output and the page show the top talkers, and that names from the network are no markup there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import stage
from stage import Capture, NotSo, Traffic, fetch, say, wait

from tests.support.aggregates import INFO, row, stats
from tests.support.broker import Broker
from tests.support.process import spawn, stop

_EXAMPLE = stage.ROOT / "examples" / "node-red" / "flows.json"
_HOSTILE = "<script>alert('1')</script>\"&"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", default="4", help="of Node-RED [default: %(default)s]")


def run(given: argparse.Namespace) -> None:
    program = given.home / "node_modules" / ".bin" / "node-red"
    if not program.exists():
        say(f"installing Node-RED in {given.home}; this takes a minute")
        given.home.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--no-fund", "--no-audit", "--silent", "--prefix", given.home]
        stage.run([*npm, f"node-red@{given.version}"])
    stage.enter_namespace()
    with (
        tempfile.TemporaryDirectory(prefix="netring-try-") as folder,
        Broker() as broker,
        Traffic(),
    ):
        home, port = Path(folder), stage.free_port()
        _configure(home, port, broker.port)
        log = home / "output"
        with log.open("w") as out:
            node_red = spawn([str(program), "--userDir", folder], stdout=out, stderr=out)
        capture = Capture(broker.url, log=home / "capture.log")
        try:
            _play(f"http://127.0.0.1:{port}", broker, log)
        except NotSo:
            print(log.read_text()[-4000:])
            raise
        finally:
            capture.stop()
            stop(node_red)


def _configure(home: Path, port: int, broker: int) -> None:
    (home / "settings.js").write_text(
        f'module.exports = {{uiHost: "127.0.0.1", uiPort: {port}, flowFile: "flows.json", '
        "telemetry: {enabled: false, updateNotification: false}};\n"
    )
    nodes = json.loads(_EXAMPLE.read_text())
    [config] = [node for node in nodes if node["type"] == "mqtt-broker"]
    # The example is for a broker on the usual port.
    config |= {"broker": "127.0.0.1", "port": str(broker)}
    (home / "flows.json").write_text(json.dumps(nodes))


def _play(url: str, broker: Broker, log: Path) -> None:
    def hosts() -> list[str]:
        known = fetch(f"{url}/netring.json")
        if not isinstance(known, dict) or "top" not in known.get("try", {}):
            return []
        return [host["key"] for host in known["try"]["top"]["top"]["hosts"]]

    shown = wait("Node-RED has the hosts of the capture", hosts)
    say(f"    {', '.join(shown[:5])}")
    wait("the host that sends most is the first", lambda: hosts()[:1] == ["192.168.7.1"])
    page = wait("the page shows it", lambda: "192.168.7.1</td>" in fetch(f"{url}/netring"))
    wait("the debug node prints it", lambda: "192.168.7.1" in log.read_text())
    lines = log.read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if "host:" in line)
    for line in lines[first : first + 5]:
        say(f"    {line.strip()}")
    # Somebody gives a host of his a name that is markup.
    event = stats(1)._replace(top=stats(1).top._replace(hosts=(row(1)._replace(name=_HOSTILE),)))
    payload = {"v": 1, "seconds": 10.0, "top": event.top.to_dict(), "interface": INFO.interface}
    subprocess.run(
        ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", "netring/evil/top",
         "-m", json.dumps(payload)],
        check=True,
    )  # fmt: skip
    wait("the page shows a hostile name", lambda: "alert(" in fetch(f"{url}/netring"))
    page = fetch(f"{url}/netring")
    if "<script" in page:
        raise NotSo("the name became markup")
    say("as text, and not as markup")
