"""Flows of a capture file by nfstream, without dissection: prints how many.

usage: nfstream_flows.py FILE
"""

import sys

from nfstream import NFStreamer

if __name__ == "__main__":
    streamer = NFStreamer(source=sys.argv[1], statistical_analysis=False, n_dissections=0)
    print(sum(1 for _ in streamer))
