"""The flag of serving metrics, and the sink that it asks for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netring_bpf.sinks.base import Sink

__all__ = ["add_metrics_flags", "metrics_sinks"]


def add_metrics_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--metrics``."""
    parser.add_argument_group("Prometheus").add_argument(
        "--metrics",
        metavar="ADDRESS:PORT",
        help="also serve all counters to Prometheus at http://ADDRESS:PORT/metrics, as "
        "127.0.0.1:9560",
    )


def metrics_sinks(parser: argparse.ArgumentParser, given: argparse.Namespace) -> tuple[Sink, ...]:
    """Return the sink that the flag asks for, if any; exit with a message for a wrong address.

    Raises ``PackageMissingError``.
    """
    if given.metrics is None:
        return ()
    from netring_bpf.errors import OptionError
    from netring_bpf.sinks.metrics import MetricsSink

    try:
        return (MetricsSink(given.metrics),)
    except OptionError as error:
        parser.error(f"--metrics: {error}")
