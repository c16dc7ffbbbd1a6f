"""Mistakes of a file that no table shows alone: two things that cannot both be, or one missing."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from netring_bpf.config.tables import CaptureConfig, Configuration, RecorderConfig
from netring_bpf.errors import FilterError, LibpcapMissingError, OptionError, did_you_mean
from netring_bpf.events.select import check_made
from netring_bpf.filter.filter import Filter
from netring_bpf.sinks.mqtt_options import Broker, MqttOptions

if TYPE_CHECKING:
    from netring_bpf.config.places import Path as Way

__all__ = ["contradictions", "filter_of"]

_KINDS: Final = MqttOptions().kinds


def filter_of(config: CaptureConfig | RecorderConfig) -> Filter | None:
    """Return the filter of a capture, compiled. Raises ``FilterError``, ``OptionError``."""
    if config.filter is None and not config.hosts and not config.nets:
        return None
    wanted = Filter(config.filter or "")
    if config.hosts or config.nets:
        sets = [*map(Filter.hosts, config.hosts), *map(Filter.nets, config.nets)]
        wanted &= functools.reduce(operator.or_, sets)
    return wanted


def contradictions(
    whole: Configuration, named: Sequence[str], *, is_sound: bool
) -> Iterator[tuple[Way, str]]:
    """Yield each mistake and the key that has it.

    ``named``: all captures of the file, also those with mistakes. ``is_sound``: there is none.
    """
    if is_sound and not whole.captures and not whole.recorders:
        yield (), "nothing to do: give a [captures.NAME] or a [recorders.NAME]"
    yield from _lists(whole)
    yield from _interfaces(whole)
    yield from _files(whole)
    yield from _names(whole, named)
    if is_sound:
        yield from _brokers(whole)
        yield from _listeners(whole)


def _lists(whole: Configuration) -> Iterator[tuple[Way, str]]:
    for kind, tables in (("captures", whole.captures), ("recorders", whole.recorders)):
        for name, table in tables.items():
            for key, paths in (("hosts", table.hosts), ("nets", table.nets)):
                for number, path in enumerate(paths):
                    if str(path).startswith("$"):
                        continue  # the service will know the folder
                    try:
                        Filter.hosts(path) if key == "hosts" else Filter.nets(path)
                    except LibpcapMissingError:
                        return
                    except (FilterError, OptionError) as error:
                        yield (kind, name, key, number), str(error)


def _names(whole: Configuration, named: Sequence[str]) -> Iterator[tuple[Way, str]]:
    for name, broker in whole.mqtt.items():
        for number, capture in enumerate(broker.captures):
            if capture not in named:
                near = did_you_mean(capture, named)
                yield ("mqtt", name, "captures", number), f"there is no capture {capture!r}{near}"
        if not named:
            yield ("mqtt", name), "there is no capture that could publish there"
    for name, metrics in whole.metrics.items():
        if metrics.capture is None and len(named) != 1:
            yield (
                ("metrics", name),
                f"capture is missing: it must name one of the {len(named)} captures",
            )
        elif metrics.capture is not None and metrics.capture not in named:
            near = did_you_mean(metrics.capture, named)
            yield ("metrics", name, "capture"), f"there is no capture {metrics.capture!r}{near}"


def _interfaces(whole: Configuration) -> Iterator[tuple[Way, str]]:
    """AF_XDP takes the frames of an interface for one capture alone."""
    seen: dict[tuple[str, str | None], tuple[str, str]] = {}
    for kind, tables in (("captures", whole.captures), ("recorders", whole.recorders)):
        for name, table in tables.items():
            place = table.interface, table.netns
            other, backend = seen.setdefault(place, (f"{kind}.{name}", table.backend))
            if other != f"{kind}.{name}" and {backend, table.backend} != {"tpacket_v3"}:
                yield (
                    (kind, name, "interface"),
                    (
                        f"{table.interface!r} is the interface of {other} too: both need "
                        'backend = "tpacket_v3", as AF_XDP takes all frames for one of them'
                    ),
                )


def _files(whole: Configuration) -> Iterator[tuple[Way, str]]:
    seen: dict[str, str] = {}
    for name, recorder in whole.recorders.items():
        other = seen.setdefault(str(recorder.path), f"recorders.{name}")
        if other != f"recorders.{name}":
            yield ("recorders", name, "path"), f"{other} writes this file already"
    states: dict[str, str] = {}
    for name, capture in whole.captures.items():
        if capture.devices is None or capture.devices.state is None:
            continue
        other = states.setdefault(str(capture.devices.state), f"captures.{name}")
        if other != f"captures.{name}":
            way = "captures", name, "devices", "state"
            yield way, f"{other} keeps its devices in this file already"


def _brokers(whole: Configuration) -> Iterator[tuple[Way, str]]:
    nodes: dict[tuple[str, str, str], str] = {}
    taken: dict[tuple[str, ...], str] = {}
    for name, broker in whole.mqtt.items():
        way, me, options = ("mqtt", name), f"mqtt.{name}", broker.options
        served = [c for c in whole.captures if not broker.captures or c in broker.captures]
        address = str(Broker.parse(broker.url))
        for capture in served:
            config = whole.captures[capture]
            node = options.node or config.interface
            own = f"{me} of captures.{capture}"
            other = nodes.setdefault((address, options.prefix, node), own)
            if other != own:
                key = (*way, "node") if options.node else way
                yield (
                    key,
                    (
                        f"{own} and {other} would publish on the same topics: give one a node or a "
                        "prefix of its own, in a table of its own"
                    ),
                )
            if options.kinds != _KINDS:
                try:
                    check_made(options.kinds, config.flow.events, f"captures.{capture}.flow.events")
                except OptionError:
                    yield (
                        (*way, "kinds"),
                        (f"captures.{capture}.flow.events does not make all of these events"),
                    )
        for what, value in (
            ("outbox_dir", (str(options.outbox_dir),) if options.outbox_dir else None),
            ("client_id", (address, options.client_id) if options.client_id else None),
        ):
            if value is None:
                continue
            if len(served) > 1:
                yield (
                    (*way, what),
                    f"only one capture can have it, and {len(served)} publish there: name one in "
                    "captures, and give the others tables of their own",
                )
            elif (other := taken.setdefault((what, *value), me)) != me:
                yield (*way, what), f"{other} has the same one"


def _listeners(whole: Configuration) -> Iterator[tuple[Way, str]]:
    seen: dict[str, str] = {}
    for name, metrics in whole.metrics.items():
        other = seen.setdefault(metrics.address, f"metrics.{name}")
        if other != f"metrics.{name}" and not metrics.address.endswith(":0"):
            yield ("metrics", name, "address"), f"{other} listens there already"
