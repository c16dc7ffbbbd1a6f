"""Write the flows of a capture to a Parquet file: flows_to_parquet.py big.pcapng.gz flows.parquet.

The flows go batch by batch, so memory stays bounded whatever the size of the capture. The file gets
its name once it is whole. A third argument may be a filter of tcpdump. It needs
``netring-bpf[arrow]``.
"""

import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import netring_bpf as nr

GROUP = 100_000  # flows of a row group


def write(path: str, part: Path, expression: str | None) -> int:
    """Write the file; return the number of its flows."""
    number, held = 0, list[pa.RecordBatch]()
    with nr.read_flows(path, filter=expression) as flows:
        stream = flows.record_batches()
        with pq.ParquetWriter(part, stream.schema, compression="zstd") as writer:
            for batch in stream:
                held.append(batch)
                number += batch.num_rows
                if sum(one.num_rows for one in held) >= GROUP:
                    writer.write_table(pa.Table.from_batches(held))
                    held.clear()
            if held:
                writer.write_table(pa.Table.from_batches(held))
    return number


def main(path: str, target: str, expression: str | None = None) -> None:
    part = Path(f"{target}.part")
    try:
        number = write(path, part, expression)
        os.replace(part, target)
    except nr.NetringError as error:  # a damaged capture, a wrong filter
        sys.exit(f"flows_to_parquet.py: {error}")
    finally:
        part.unlink(missing_ok=True)
    print(f"{number} flows, {Path(target).stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:4])
