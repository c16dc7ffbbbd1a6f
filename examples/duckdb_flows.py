"""Ask a capture by SQL: duckdb_flows.py capture.pcap "SELECT count(*) FROM flows".

DuckDB reads the table ``flows`` straight from the capture, batch by batch, and nothing is stored.
Without a query it prints the largest names. It needs ``netring-bpf[arrow]`` and duckdb.
"""

import sys

import duckdb

import netring_bpf as nr
from netring_bpf.errors import printable

LARGEST = """
SELECT coalesce(app_name, resp_name, resp_addr) AS name, count(*) AS flows,
       sum(orig_bytes + resp_bytes)::BIGINT AS bytes
FROM flows GROUP BY name ORDER BY bytes DESC, name LIMIT 10
"""


def main(path: str, query: str = LARGEST) -> None:
    with nr.read_flows(path) as flows, duckdb.connect() as database:
        database.register("flows", flows)
        database.execute("SET enable_external_access = false")  # a query reads no other file
        answer = database.execute(query)
        while rows := answer.fetchmany(1000):
            for row in rows:
                print(*(printable(str(value)) for value in row), sep="\t")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except (nr.NetringError, duckdb.Error) as error:
        sys.exit(f"duckdb_flows.py: {error}")
