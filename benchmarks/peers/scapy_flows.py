"""Flows of the first packets of a capture file by scapy's PcapReader: prints how many.

usage: scapy_flows.py FILE PACKETS
"""

import itertools
import sys

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import PcapReader


def main(path, count):
    """Count packets and bytes by five-tuple, both directions as one flow."""
    flows = {}
    with PcapReader(path) as reader:
        for packet in itertools.islice(reader, count):
            ip = packet.getlayer(IP) or packet.getlayer(IPv6)
            if ip is None:
                continue
            transport = packet.getlayer(TCP) or packet.getlayer(UDP) or packet.getlayer(ICMP)
            ends = sorted(
                ((ip.src, getattr(transport, "sport", 0)), (ip.dst, getattr(transport, "dport", 0)))
            )
            flow = flows.setdefault((transport and transport.name, *ends), [0, 0])
            flow[0] += 1
            flow[1] += len(packet)
    print(len(flows))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
