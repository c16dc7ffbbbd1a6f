"""Select events by class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Final, TypeAlias, get_args

from netring_bpf.errors import OptionError
from netring_bpf.events.event import CaptureError, CoreEvent, Event, Lagged, SinkFailed

__all__ = [
    "NEVER_HIDDEN",
    "Classes",
    "Kinds",
    "LazyBatch",
    "check_made",
    "classes_of",
    "events_at",
    "last_ts",
    "places_of",
]

Classes: TypeAlias = type[Event] | tuple[type[Event], ...]
#: A class of events, a tuple or a union of classes, or None for all.
Kinds: TypeAlias = Classes | UnionType | None
#: The events that neither ``kinds`` nor ``where`` of a subscriber leaves out.
NEVER_HIDDEN: Final[tuple[type[Event], ...]] = (CaptureError, SinkFailed, Lagged)


class LazyBatch:
    """A batch that decodes an event when somebody looks at it, and knows some things before.

    A plain class, as ``isinstance()`` of a protocol or an abstract class is slow.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def last_ts(self) -> int:
        """When the last event happened. Raises ``IndexError`` if the batch is empty."""

    @abstractmethod
    def places(self, kinds: Classes) -> Sequence[int]:
        """Return where in the batch the events of these classes are."""

    @abstractmethod
    def at(self, places: Sequence[int]) -> Sequence[Event]:
        """Return a batch of the events at these places."""

    @abstractmethod
    def once(self) -> Iterator[Event]:
        """Iterate without keeping the decoded events, for a subscriber that is alone."""


def places_of(events: Sequence[Event], kinds: Classes) -> Sequence[int]:
    """Return where in ``events`` those of these classes are."""
    if isinstance(events, LazyBatch):
        return events.places(kinds)
    return [place for place, event in enumerate(events) if isinstance(event, kinds)]


def events_at(events: Sequence[Event], places: Sequence[int]) -> Sequence[Event]:
    """Return the events at these places; ``events`` itself if that is all of them."""
    if len(places) == len(events):
        return events
    if isinstance(events, LazyBatch):
        return events.at(places)
    return tuple(events[place] for place in places)


def last_ts(events: Sequence[Event]) -> int:
    """Return when the last event happened, of at least one."""
    return events.last_ts if isinstance(events, LazyBatch) else events[-1].ts


def classes_of(kinds: Kinds, who: str) -> tuple[type[Event], ...] | None:
    """Return ``kinds`` as a tuple of event classes; None for all.

    Raises ``OptionError`` unless it is a class of events, several of them, or a union.
    """
    if kinds is None:
        return None
    asked = kinds if isinstance(kinds, tuple | list) else get_args(kinds) or (kinds,)
    known = get_args(Event)
    if not all(kind in known for kind in asked):
        names = ", ".join(kind.__name__ for kind in known)
        raise OptionError(
            f"{who}: kinds={kinds!r}: must be a class of events or a tuple of classes, as "
            f"kinds=FlowEnded; the classes are {names}",
            option="kinds",
        )
    return tuple(asked)


def check_made(kinds: Kinds, made: Sequence[type[CoreEvent]], who: str) -> None:
    """Raise ``OptionError`` if ``kinds`` has events that ``FlowOptions.events`` leaves out.

    Also if it is no class of events.
    """
    asked = classes_of(kinds, who) or ()
    for kind in get_args(CoreEvent):
        if kind in asked and kind not in made:
            raise OptionError(
                f"{who}: {kind.__name__} is asked for, which FlowOptions(events=…) leaves out",
                option="kinds",
            )
