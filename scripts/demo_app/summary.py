"""The results of the demo, as JSON for programs and as lines for people, and their check."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from netring_bpf import NetringStatistics, SubscriberStatistics


@dataclass(frozen=True)
class Frames:
    offered: int
    passed: int
    redirected: int
    received: int
    keyed: int


@dataclass(frozen=True)
class Flows:
    started: int
    ended: int


@dataclass(frozen=True)
class Events:
    published: int


@dataclass(frozen=True)
class Subscriber:
    name: str
    delivered: int
    lagged: int


@dataclass(frozen=True)
class Mqtt:
    accepted: int
    acknowledged: int
    dropped: int
    received: int


@dataclass(frozen=True)
class Summary:
    backend: str
    attach: str | None
    fallback_reason: str | None
    frames: Frames
    flows: Flows
    events: Events
    subscribers: list[Subscriber]
    mqtt: Mqtt
    books: str
    setup_seconds: float

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def lines(self) -> list[str]:
        f, m = self.frames, self.mqtt
        how = f"{self.backend}, {self.attach} XDP" if self.attach else self.backend
        if self.fallback_reason:
            how += f" (fallback: {self.fallback_reason})"
        subscribers = ", ".join(
            f"{s.name} {s.delivered} delivered {s.lagged} lagged" for s in self.subscribers
        )
        return [
            f"backend: {how}",
            f"frames: {f.offered} offered, {f.passed} passed, {f.redirected} redirected, "
            f"{f.received} received, {f.keyed} keyed",
            f"flows: {self.flows.started} started, {self.flows.ended} ended",
            f"events: {self.events.published} published; {subscribers}",
            f"mqtt: {m.accepted} accepted, {m.acknowledged} acknowledged, {m.dropped} dropped, "
            f"{m.received} received by mosquitto_sub",
            f"set-up: {self.setup_seconds:.1f} s",
            f"books: {self.books}",
        ]


def offences(
    statistics: NetringStatistics,
    subscribers: list[SubscriberStatistics],
    *,
    offered: int,
    expected: dict[str, int],
    ended: dict[str, int],
    received: int,
) -> list[str]:
    """Return every statement that does not hold, in words; none when the books balance.

    ``offered`` comes from the driver of the mirror port, ``expected`` from the client and
    ``received`` from mosquitto_sub, so none of them comes from the code under test.
    """
    capture, sink = statistics.capture, statistics.sinks[0]
    passed = capture.passed if capture.queues else offered
    laws = [(str(equation), equation.holds) for equation in (*statistics.equations(),)]
    laws += [
        (
            f"{s.name}: published = delivered + lagged: {s.published} ≠ {s.delivered} + {s.lagged}",
            s.published == s.delivered + s.lagged + s.filtered and s.pending == 0,
        )
        for s in subscribers
    ]
    laws += [
        (
            f"offered by the mirror port = passed + redirected: {offered} ≠ {passed} + "
            f"{capture.redirected}",
            offered == passed + capture.redirected,
        ),
        (f"no frame was lost: {capture.lost}", capture.lost == 0),
        (f"some traffic was rejected by the filter: {offered - capture.received}",
         offered > capture.received),
        (f"flows of the client = flows that ended: {expected} ≠ {ended}", expected == ended),
        (
            f"flows accepted for MQTT = flows ended: {sink.accepted} ≠ {sum(ended.values())}",
            sink.accepted == sum(ended.values()),
        ),
        (
            f"flows acknowledged = accepted: {sink.acknowledged} ≠ {sink.accepted}",
            sink.acknowledged == sink.accepted,
        ),
        (
            f"flows received by mosquitto_sub = acknowledged: {received} ≠ {sink.acknowledged}",
            received == sink.acknowledged,
        ),
    ]  # fmt: skip
    return [text for text, holds in laws if not holds]
