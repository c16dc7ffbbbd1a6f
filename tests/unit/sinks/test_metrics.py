"""What is counted is told: no counter of the books is missing among the metrics."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

import pytest

from netring_bpf import (
    BroadcastStatistics,
    CaptureStatistics,
    FlowBroadcast,
    FlowStatistics,
    MetricsSink,
    NetringStatistics,
    QueueStatistics,
    SinkStatistics,
    SubscriberStatistics,
)
from netring_bpf.sinks.base import TopicStatistics
from netring_bpf.sinks.metrics import exposition, metrics_of
from netring_bpf.sinks.metrics_server import MetricsServer
from netring_bpf.sinks.outbox import OutboxStatistics

_TEXTS = {"backend", "attach", "name", "takes_flows"}


def _numbered(kind: type, start: int) -> object:
    """An instance of the books whose every counter has a figure of its own."""
    values: dict[str, object] = {}
    for n, field in enumerate(dataclasses.fields(kind)):
        if field.name in _TEXTS:
            values[field.name] = "x"
        elif "Mapping" in str(field.type):
            values[field.name] = {"overflow": start + n}
        elif "tuple" in str(field.type):
            values[field.name] = ()
        elif "None" in str(field.type):
            values[field.name] = None
        else:
            values[field.name] = start + n
    return kind(**values)


def _figures(books: object) -> set[int]:
    found: set[int] = set()
    for field in dataclasses.fields(books):  # type: ignore[arg-type]
        value = getattr(books, field.name)
        if isinstance(value, Mapping):
            found |= set(value.values())
        elif isinstance(value, int) and field.name not in _TEXTS:
            found.add(value)
    return found


def test_each_counter_of_the_books_is_a_metric() -> None:
    topic = _numbered(TopicStatistics, 6000)
    parts = [
        flows := _numbered(FlowStatistics, 2000),
        queue := _numbered(QueueStatistics, 3000),
        stream := _numbered(SubscriberStatistics, 4000),
        sink := dataclasses.replace(_numbered(SinkStatistics, 5000), topics={}, outbox=None),  # type: ignore[type-var]
        capture := dataclasses.replace(
            _numbered(CaptureStatistics, 1000),
            flows=flows,
            queues=(queue,),  # type: ignore[type-var]
        ),
        topic,
        outbox := _numbered(OutboxStatistics, 8000),
    ]
    sink = dataclasses.replace(sink, topics={"stats": topic}, outbox=outbox)
    books = NetringStatistics(capture, BroadcastStatistics(7000, 1, ()), (sink,), (stream,), 0)  # type: ignore[arg-type]
    told = {
        int(number)
        for metric in metrics_of(books, "eth0", None, None)
        for _, number in metric.samples
    }
    counted = set().union(*map(_figures, parts)) | {7000}
    # A queue's number is a label; what a subscriber has not read yet is no loss.
    assert counted - told == {queue.queue, stream.pending}  # type: ignore[attr-defined]


def test_text_of_the_network_is_escaped() -> None:
    capture = dataclasses.replace(
        _numbered(CaptureStatistics, 1), flows=_numbered(FlowStatistics, 1), queues=(),  # type: ignore[type-var]
        matches={'a"b\\c\nd': 5},
    )  # fmt: skip
    books = NetringStatistics(capture, BroadcastStatistics(0, 0, ()), (), (), 0)
    text = exposition(metrics_of(books, 'eth"0\n', None, None)).decode()
    line = next(line for line in text.splitlines() if line.startswith("netring_filter_matches_"))
    assert line == (r'netring_filter_matches_total{filter="a\"b\\c\nd",interface="eth\"0\n"} 5.0')


def test_sinks_of_one_name_have_series_of_their_own() -> None:
    capture = dataclasses.replace(
        _numbered(CaptureStatistics, 1),
        flows=_numbered(FlowStatistics, 1),
        queues=(),
        matches={},  # type: ignore[type-var]
    )
    sinks = tuple(SinkStatistics("mqtt://b:1883", accepted=n, acknowledged=0) for n in (5, 6))
    streams = (_numbered(SubscriberStatistics, 1),) * 2
    books = NetringStatistics(capture, BroadcastStatistics(0, 0, (), 3), sinks, streams, 0)  # type: ignore[arg-type]
    found = {metric.name: metric for metric in metrics_of(books, "eth0", None, None)}
    assert found["netring_sink_accepted_total"].samples == (
        (("eth0", "mqtt://b:1883"), 5.0), (("eth0", "mqtt://b:1883 (2)"), 6.0)
    )  # fmt: skip
    assert found["netring_events_lagged_total"].samples == ((("eth0",), 3.0),)
    for metric in found.values():
        labels = [values for values, _ in metric.samples]
        assert len(set(labels)) == len(labels)


def test_memory_and_cpu_of_the_process_are_told_by_their_common_names() -> None:
    lines = exposition([]).decode().splitlines()
    told = {
        line.partition(" ")[0]: float(line.partition(" ")[2]) for line in lines if line[0] != "#"
    }
    assert told["process_resident_memory_bytes"] > 1 << 20
    assert 0 < told["process_cpu_seconds_total"] <= time.process_time() + 1


def test_a_scrape_without_a_capture_is_told_that_there_are_no_books() -> None:
    sink = MetricsSink("127.0.0.1:0")

    async def run() -> int:
        broadcast = FlowBroadcast()
        task = asyncio.create_task(sink.run(broadcast.subscribe(kinds=sink.kinds)))
        await sink.wait_started()
        try:
            with pytest.raises(urllib.error.HTTPError) as caught:
                await asyncio.to_thread(
                    urllib.request.urlopen, f"http://127.0.0.1:{sink.port}/metrics"
                )
        finally:
            broadcast.close()
            await task
        caught.value.close()
        return caught.value.code

    assert asyncio.run(run()) == 503


def test_a_server_without_threads_keeps_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    server = MetricsServer(("127.0.0.1", 0), lambda *_: [], idle=1.0, most=1)
    with server, monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        for _ in range(3):
            here, there = socket.socketpair()
            with here, there, pytest.raises(RuntimeError, match="new thread"):
                server.process_request(here, None)


def test_without_the_package_the_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import netring_bpf as nr\n"
        "try: nr.MetricsSink()\n"
        "except nr.NetringError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert 'pip install "netring-bpf[metrics]"' in said.stdout


@pytest.mark.parametrize("name", ["prometheus_client", "wsgiref", "http.server"])
def test_importing_the_package_loads_no_server(name: str) -> None:
    program = f"import sys, netring_bpf; print({name!r} in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert said.stdout == "False\n"
