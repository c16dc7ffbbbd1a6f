"""The two ways to subscribe, typed: what comes follows from what is asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar, overload

from netring_bpf.broadcast.batch_subscriber import BatchSubscriber
from netring_bpf.broadcast.event_subscriber import FlowSubscriber
from netring_bpf.broadcast.subscriber import OnError
from netring_bpf.events.event import CaptureError, Event, NeverHidden, SelectableEvent
from netring_bpf.events.select import Kinds

__all__ = ["Subscribable"]

_A = TypeVar("_A", bound=Event)
_B = TypeVar("_B", bound=Event)
_C = TypeVar("_C", bound=Event)
_D = TypeVar("_D", bound=Event)
_E = TypeVar("_E", bound=Event)
_F = TypeVar("_F", bound=Event)
#: One class, or a number of them that is not known.
_Class: TypeAlias = type[_A] | tuple[type[_A], ...]
#: Two to six classes. mypy does not see what unlike ones have in common, but takes them one by one.
_Classes: TypeAlias = (
    tuple[type[_A], type[_B]]
    | tuple[type[_A], type[_B], type[_C]]
    | tuple[type[_A], type[_B], type[_C], type[_D]]
    | tuple[type[_A], type[_B], type[_C], type[_D], type[_E]]
    | tuple[type[_A], type[_B], type[_C], type[_D], type[_E], type[_F]]
)
_Of: TypeAlias = Callable[[_A], bool] | None


class Subscribable:
    """A stream of events that any number of subscribers may follow."""

    @overload
    def subscribe(
        self,
        *,
        kinds: None = None,
        where: _Of[SelectableEvent] = None,
        errors: Literal["raise"] = "raise",
        name: str | None = None,
    ) -> FlowSubscriber[SelectableEvent | NeverHidden]: ...
    @overload
    def subscribe(
        self,
        *,
        kinds: None = None,
        where: _Of[SelectableEvent] = None,
        errors: OnError,
        name: str | None = None,
    ) -> FlowSubscriber[Event]: ...
    @overload
    def subscribe(
        self,
        *,
        kinds: _Classes[_A, _B, _C, _D, _E, _F],
        where: _Of[Any] = None,
        errors: Literal["raise"] = "raise",
        name: str | None = None,
    ) -> FlowSubscriber[_A | _B | _C | _D | _E | _F | NeverHidden]: ...
    @overload
    def subscribe(
        self,
        *,
        kinds: _Classes[_A, _B, _C, _D, _E, _F],
        where: _Of[Any] = None,
        errors: OnError,
        name: str | None = None,
    ) -> FlowSubscriber[_A | _B | _C | _D | _E | _F | CaptureError | NeverHidden]: ...
    @overload
    def subscribe(
        self,
        *,
        kinds: _Class[_A],
        where: _Of[_A] = None,
        errors: Literal["raise"] = "raise",
        name: str | None = None,
    ) -> FlowSubscriber[_A | NeverHidden]: ...
    @overload
    def subscribe(
        self,
        *,
        kinds: _Class[_A],
        where: _Of[_A] = None,
        errors: OnError,
        name: str | None = None,
    ) -> FlowSubscriber[_A | CaptureError | NeverHidden]: ...
    @overload
    def subscribe(
        self,
        *,
        kinds: Kinds,
        where: _Of[Any] = None,
        errors: OnError = "raise",
        name: str | None = None,
    ) -> FlowSubscriber[Event]: ...
    def subscribe(
        self,
        *,
        kinds: Any = None,
        where: Callable[[Any], bool] | None = None,
        errors: OnError = "raise",
        name: str | None = None,
    ) -> FlowSubscriber[Any]:
        """Return a new subscriber, which receives the events published from now on.

        ``kinds``: only events of these classes: one, or a tuple. ``where``: only events for which
        it returns true; its exceptions are raised in the subscriber's own iteration. Neither hides
        ``Lagged``, ``SinkFailed`` and the error of the capture. ``errors``: with ``"raise"`` the
        iteration raises that error after the last event; with ``"event"``, or ``CaptureError``
        among ``kinds``, it comes as ``CaptureError`` in its place, and the iteration ends as ever.

        To iterate the subscriber of a ring that was never entered raises ``ClosedError``. Raises
        ``OptionError`` for what is no class of events, for those that ``FlowOptions.events`` of the
        ring leaves out, and for ``StatsUpdated`` without ``stats=``.
        """
        return self._subscribe(kinds, where, errors, name)

    @overload
    def subscribe_batches(
        self,
        *,
        kinds: None = None,
        errors: Literal["raise"] = "raise",
        name: str | None = None,
    ) -> BatchSubscriber[SelectableEvent | NeverHidden]: ...
    @overload
    def subscribe_batches(
        self,
        *,
        kinds: None = None,
        errors: OnError,
        name: str | None = None,
    ) -> BatchSubscriber[Event]: ...
    @overload
    def subscribe_batches(
        self,
        *,
        kinds: _Classes[_A, _B, _C, _D, _E, _F],
        errors: Literal["raise"] = "raise",
        name: str | None = None,
    ) -> BatchSubscriber[_A | _B | _C | _D | _E | _F | NeverHidden]: ...
    @overload
    def subscribe_batches(
        self,
        *,
        kinds: _Classes[_A, _B, _C, _D, _E, _F],
        errors: OnError,
        name: str | None = None,
    ) -> BatchSubscriber[_A | _B | _C | _D | _E | _F | CaptureError | NeverHidden]: ...
    @overload
    def subscribe_batches(
        self,
        *,
        kinds: _Class[_A],
        errors: Literal["raise"] = "raise",
        name: str | None = None,
    ) -> BatchSubscriber[_A | NeverHidden]: ...
    @overload
    def subscribe_batches(
        self,
        *,
        kinds: _Class[_A],
        errors: OnError,
        name: str | None = None,
    ) -> BatchSubscriber[_A | CaptureError | NeverHidden]: ...
    @overload
    def subscribe_batches(
        self,
        *,
        kinds: Kinds,
        errors: OnError = "raise",
        name: str | None = None,
    ) -> BatchSubscriber[Event]: ...
    def subscribe_batches(
        self, *, kinds: Any = None, errors: OnError = "raise", name: str | None = None
    ) -> BatchSubscriber[Any]:
        """Return a new subscriber that receives whole batches, as they were published.

        Use it for many events at a time, for columns, and for bytes: flow events come as
        ``EventBatch``, which decodes an event when you look at it. ``kinds``, ``errors`` and what
        it raises: as ``subscribe``.
        """
        return self._subscribe_batches(kinds, errors, name)

    @abstractmethod
    def _subscribe(
        self,
        kinds: Kinds,
        where: Callable[[Any], bool] | None,
        errors: OnError,
        name: str | None,
    ) -> FlowSubscriber[Any]: ...

    @abstractmethod
    def _subscribe_batches(
        self, kinds: Kinds, errors: OnError, name: str | None
    ) -> BatchSubscriber[Any]: ...
