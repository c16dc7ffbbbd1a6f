"""Ask a table of pandas about the flows of a capture file: pandas_flows.py capture.pcap [FILTER].

It prints the bytes of each protocol, and the pairs of hosts with the most bytes. It needs pandas:
pip install "netring-bpf[pandas]".
"""

import sys

import netring_bpf as nr


def main(path: str, filter: str | None = None) -> None:
    with nr.read_flows(path, filter=filter) as reader:
        flows = reader.to_pandas()
    flows["bytes"] = flows["orig_bytes"] + flows["resp_bytes"]
    flows["app"] = flows["app_protocol"].fillna(flows["proto"])

    protocols = flows.groupby("app").agg(flows=("id", "size"), bytes=("bytes", "sum"))
    print(protocols.sort_values("bytes", ascending=False).to_string())

    pairs = flows.groupby(["orig_addr", "resp_addr"]).agg(bytes=("bytes", "sum"))
    print(pairs.sort_values("bytes", ascending=False).head(10).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:3])
