"""Flow events for the benchmarks above the capture; a reader makes them from frames in memory."""

from __future__ import annotations

from netring_bpf import EventBatch, FlowEnded, FlowOptions
from netring_bpf.ring.reader import Reader
from tests.support.frames import tcp
from tests.support.replay import START, Frame

__all__ = ["ended_batches", "fresh"]

_BATCH = 1024  # as many events as Netring takes at once


def _connection(number: int) -> list[bytes]:
    """The handshake of a TCP connection and a request, from an address of its own."""
    client, server, port = (
        f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        "10.0.0.1",
        4000,
    )
    return [
        tcp(client, server, port, 443, flags="S", seq=1),
        tcp(server, client, 443, port, flags="SA", seq=9, ack=2),
        tcp(client, server, port, 443, b"x" * 100, flags="PA", seq=2, ack=10),
    ]


def ended_batches(flows: int) -> list[EventBatch]:
    """Make the ends of so many TCP connections, in batches as a capture hands them over."""
    frames = [frame for number in range(1, flows + 1) for frame in _connection(number)]
    records = [Frame(data, START + n * 1000).record() for n, data in enumerate(frames)]
    options = FlowOptions(update_interval=None, max_flows=1 << 20, event_slots=1 << 20)
    with Reader(options) as reader:
        reader.add_replay(b"".join(records))
        if reader.run() != 0 or reader.flush() != 0:
            raise RuntimeError("the replay was not read to its end")
        while not (batch := reader.take(_BATCH).of_kinds(FlowEnded)):
            continue
        batches = [batch]
        while batch := reader.take(_BATCH):
            batches.append(batch)
    if sum(map(len, batches)) != flows:
        raise RuntimeError(f"{flows} connections gave {sum(map(len, batches))} ends")
    return batches


def fresh(batch: EventBatch) -> EventBatch:
    """Return the same bytes as an undecoded batch, as a capture would hand it over."""
    return EventBatch(batch.raw, batch._layout, batch._count, rows=batch.rows)  # noqa: SLF001
