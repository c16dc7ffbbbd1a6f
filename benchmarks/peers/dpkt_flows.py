"""Flows of a capture file by the loop that people write with dpkt: prints how many.

usage: dpkt_flows.py FILE
"""

import sys

import dpkt


def main(path):
    """Count packets and bytes by five-tuple, both directions as one flow."""
    flows = {}
    with open(path, "rb") as file:
        for _, data in dpkt.pcap.Reader(file):
            ip = dpkt.ethernet.Ethernet(data).data
            if not isinstance(ip, dpkt.ip.IP | dpkt.ip6.IP6):
                continue
            transport = ip.data
            ends = sorted(
                ((ip.src, getattr(transport, "sport", 0)), (ip.dst, getattr(transport, "dport", 0)))
            )
            ident = getattr(getattr(transport, "data", None), "id", 0)  # a ping's
            flow = flows.setdefault((ip.p, *ends, ident), [0, 0])
            flow[0] += 1
            flow[1] += len(data)
    print(len(flows))


if __name__ == "__main__":
    main(sys.argv[1])
