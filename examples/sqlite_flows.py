"""Put the flows of capture files into a table of SQLite: sqlite_flows.py flows.db capture.pcap …

A flow has the same id each time its file is read, so a file that is read again adds nothing. Then
ask, for example:

    sqlite3 flows.db "SELECT app, sum(resp_bytes) FROM flows GROUP BY app ORDER BY 2 DESC"
"""

import sqlite3
import sys

import netring_bpf as nr

COLUMNS = {
    "id": "INTEGER PRIMARY KEY", "start": "REAL", "duration": "REAL", "proto": "TEXT",
    "orig_addr": "TEXT", "orig_port": "INTEGER", "resp_addr": "TEXT", "resp_port": "INTEGER",
    "orig_bytes": "INTEGER", "resp_bytes": "INTEGER", "conn_state": "TEXT", "reason": "TEXT",
    "app": "TEXT", "name": "TEXT", "community_id": "TEXT",
}  # fmt: skip
TABLE = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
PLACES = ", ".join(f":{name}" for name in COLUMNS)


def row(flow: nr.Flow) -> dict[str, object]:
    """Return what the table has of a flow, by the names of its columns."""
    key, app = flow.key, flow.app
    return {
        "id": flow.id, "start": flow.start / 1e9, "duration": flow.duration / 1e9,
        "proto": key.proto_name,
        "orig_addr": key.orig.text, "orig_port": key.orig.port,
        "resp_addr": key.resp.text, "resp_port": key.resp.port,
        "orig_bytes": flow.orig.bytes, "resp_bytes": flow.resp.bytes,
        "conn_state": flow.conn_state, "reason": flow.reason and flow.reason.value,
        "app": app and app.protocol, "name": (app and app.name) or flow.resp.name,
        "community_id": key.community_id(),
    }  # fmt: skip


def store(table: sqlite3.Connection, path: str) -> int:
    """Insert the flows of a file, in one transaction; return how many of them are new."""
    before = table.total_changes
    with nr.read_flows(path) as flows, table:
        table.executemany(f"INSERT OR IGNORE INTO flows VALUES ({PLACES})", map(row, flows))  # noqa: S608
    return table.total_changes - before


def main(database: str, *paths: str) -> None:
    table = sqlite3.connect(database)
    table.execute(f"CREATE TABLE IF NOT EXISTS flows ({TABLE})")
    for path in paths:
        print(path, store(table, path), "new flows", sep="\t")
    table.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
