"""Consume flows over MQTT and check them by their schema: mqtt_checked.py HOST[:PORT] NODE.

The package has the JSON Schema of each topic. A message that does not fit is told and left out; of
the others each flow that ended is a line. NODE may be + for all nodes. It ends at SIGINT and
SIGTERM. It needs paho-mqtt and jsonschema.
"""

import json
import signal
import sys
from importlib.resources import files

from jsonschema import Draft202012Validator
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from netring_bpf.errors import printable

SCHEMA = json.loads(files("netring_bpf").joinpath("sinks/schemas/flows.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def fault(payload: bytes | bytearray) -> str | None:
    """Return what is wrong with a message, None if nothing is."""
    try:
        error = next(VALIDATOR.iter_errors(json.loads(payload)), None)
    except (ValueError, RecursionError) as wrong:
        return f"no JSON: {wrong}"
    return None if error is None else f"at {error.json_path}: {error.validator} is not met"


def on_message(_: Client, __: object, message: MQTTMessage) -> None:
    where = printable(message.topic)
    if (wrong := fault(message.payload)) is not None:
        print(f"{where}: {printable(wrong[:200])}", flush=True)
        return
    for flow in json.loads(message.payload):
        if flow["event"] == "ended":
            ends = f"{flow['orig_addr']} > {flow['resp_addr']}"
            size = flow["orig_bytes"] + flow["resp_bytes"]
            print(where, printable(ends), f"{size} bytes", sep="\t", flush=True)


def main(host: str, port: int, node: str) -> None:
    def on_connect(client: Client, *_: object) -> None:
        client.subscribe(f"netring/{node}/flows", qos=1)

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = on_connect
    client.on_subscribe = lambda *_: print("listening", flush=True)
    client.on_message = on_message
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: client.disconnect())
    client.connect(host, port)
    client.loop_forever()


if __name__ == "__main__":
    host, _, port = sys.argv[1].partition(":")
    main(host, int(port or 1883), sys.argv[2])
