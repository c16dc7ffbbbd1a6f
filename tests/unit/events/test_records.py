"""Records are values: frozen, hashable, and told apart by what they are."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest

from netring_bpf import (
    BackendChanged,
    Endpoint,
    Event,
    FlowEnd,
    FlowEnded,
    FlowEstablished,
    FlowStarted,
    FlowUpdated,
    Lagged,
    LinkDown,
    LinkUp,
)
from tests.support.events import ended, flow, started

ALIKE: tuple[Event, ...] = (
    FlowStarted(1, flow(1)),
    FlowEstablished(1, flow(1)),
    FlowUpdated(1, flow(1)),
    LinkDown(1, "eth0"),
    BackendChanged(1, "eth0", "tpacket_v3", "why"),
    LinkUp(1, "eth0"),
    Lagged(1, 1),
)


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(ALIKE, 2)))
def test_an_event_equals_only_its_own_kind(one: Event, other: Event) -> None:
    assert one != other
    assert not one == other  # noqa: SIM201 - the other operator
    assert one == type(one)(*one)
    assert not one != type(one)(*one)  # noqa: SIM202 - the other operator


def test_an_event_is_no_tuple_of_its_values() -> None:
    event = ended(1)
    assert event != tuple(event)
    assert tuple(event) != event
    assert len({*ALIKE, *(type(event)(*event) for event in ALIKE)}) == len(ALIKE)


@pytest.mark.parametrize("record", [*ALIKE, ended(1), flow(1), flow(1).key, flow(1).key.orig])
def test_records_are_frozen_and_survive_pickling_and_copying(record: Event) -> None:
    with pytest.raises(AttributeError):
        setattr(record, record._fields[0], 0)
    with pytest.raises(AttributeError):
        record.anything = 1  # type: ignore[union-attr]
    for other in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record)):
        assert other == record
        assert type(other) is type(record)
        assert hash(other) == hash(record)


def test_events_match_by_name_and_by_place() -> None:
    match ended(3):
        case FlowEnded(flow=found, reason=FlowEnd.FIN):
            assert found == flow(3)
        case _:
            pytest.fail("no match")
    match started(3):
        case FlowStarted(ts, found):
            assert (ts, found) == (3, flow(3))
        case _:
            pytest.fail("no match")


def test_a_record_shows_its_fields() -> None:
    assert repr(Endpoint(b"\1\2\3\4", 5)) == "Endpoint(packed=b'\\x01\\x02\\x03\\x04', port=5)"
    assert repr(Lagged(1, 2)) == "Lagged(ts=1, missed=2)"
