"""Share the flows of a node among processes: consumer_group.py HOST[:PORT] NODE FILE [PROCESSES].

Each message goes to one of the processes. They put its flows into one table of SQLite and then
acknowledge it, so a message whose process was killed comes again. The table has a flow once, as
``capture`` and ``seq`` name it. NODE may be + for all nodes. SIGINT and SIGTERM end the group.
"""

import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import os
import signal
import sqlite3
import sys
import threading

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

GROUP = "netring-example"
KEPT = 3600  # seconds for which the broker keeps the messages of a process that is away
SCHEMA = """
CREATE TABLE IF NOT EXISTS flows (
    capture TEXT, seq INTEGER, consumer INTEGER, flow TEXT, PRIMARY KEY (capture, seq)
) WITHOUT ROWID
"""


def say(line: str) -> None:
    """Print a line in one piece: the processes share the output."""
    os.write(1, f"{line}\n".encode())


def open_table(path: str) -> sqlite3.Connection:
    table = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    table.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other
    table.execute("PRAGMA synchronous = NORMAL")
    table.execute(SCHEMA)
    return table


def consume(host: str, port: int, node: str, path: str, number: int) -> None:
    """Take messages until SIGTERM. This is one process of the group."""
    # A handler of signals could come while paho holds a lock, so this waits for them instead. The
    # parent passes SIGINT on as SIGTERM.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    table = open_table(path)
    topic = f"$share/{GROUP}/netring/{node}/flows"
    # The session outlives the process: the next one with this name gets what this one has not
    # acknowledged.
    client = Client(
        CallbackAPIVersion.VERSION2, f"{GROUP}-{number}", protocol=MQTTProtocolVersion.MQTTv5
    )
    session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    session.SessionExpiryInterval = KEPT

    def on_connect(client: Client, *_: object) -> None:
        client.subscribe(topic, qos=1)

    def on_subscribe(*_: object) -> None:
        say(f"consumer {number} subscribed")

    def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
        rows = [
            (flow["capture"], flow["seq"], number, json.dumps(flow))
            for flow in json.loads(message.payload)
        ]
        table.execute("BEGIN IMMEDIATE")
        table.executemany("INSERT OR IGNORE INTO flows VALUES (?, ?, ?, ?)", rows)
        table.execute("COMMIT")
        # paho acknowledges the message when this function returns.

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.connect_async(host, port, clean_start=False, properties=session)
    network = threading.Thread(target=client.loop_forever, args=(1.0, True), daemon=True)
    network.start()
    while network.is_alive() and signal.sigtimedwait({signal.SIGTERM}, 1.0) is None:
        continue
    client.disconnect()
    network.join(10.0)


def main(broker: str, node: str, path: str, processes: str = "2") -> None:
    """Start the processes, and start one again that ends by itself."""
    host, _, port = broker.partition(":")
    open_table(path).close()
    start = multiprocessing.get_context("spawn").Process
    group: dict[int, multiprocessing.process.BaseProcess] = {}
    stop = False

    def on_signal(*_: object) -> None:
        nonlocal stop
        stop = True
        os.write(wake, b"x")

    woken, wake = os.pipe()
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    while not stop:
        for number in range(int(processes)):
            if number not in group or not group[number].is_alive():
                arguments = (host, int(port or 1883), node, path, number)
                group[number] = start(target=consume, args=arguments)
                group[number].start()
                say(f"consumer {number} is process {group[number].pid}")
        multiprocessing.connection.wait([woken, *(one.sentinel for one in group.values())])
    for one in group.values():
        one.terminate()
    for one in group.values():
        one.join()
    with open_table(path) as table:
        query = "SELECT consumer, count(*) FROM flows GROUP BY consumer"
        for number, count in table.execute(query):
            say(f"consumer {number} took {count} flows")


if __name__ == "__main__":
    main(*sys.argv[1:])
