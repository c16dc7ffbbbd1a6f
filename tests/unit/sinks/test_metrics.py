"""What is counted is told: no counter of the books is missing among the metrics."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping

import pytest

from netring_bpf import (
    BroadcastStatistics,
    CaptureStatistics,
    FlowStatistics,
    NetringStatistics,
    QueueStatistics,
    SinkStatistics,
    SubscriberStatistics,
)
from netring_bpf.sinks.base import TopicStatistics
from netring_bpf.sinks.metrics import exposition, metrics_of
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
    sink = dataclasses.replace(sink, topics={"stats": topic}, outbox=outbox)  # type: ignore[arg-type]
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
