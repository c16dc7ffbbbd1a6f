"""The receivers that a benchmark starts are gone when it is done with them."""

from __future__ import annotations

import os
import select

import pytest

from benchmarks.receivers import Receiver, Running
from tests.support.lab import Namespace
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.requires("root", "netns")


def test_closing_ends_a_receiver_and_what_it_has_started() -> None:
    command = ["sh", "-c", "sleep 60 & echo $!; echo ready; cat"]
    with Namespace() as namespace:
        with Running(Receiver("two processes", command, favoured=False), namespace) as running:
            child = os.pidfd_open(int(running._said().split()[0]))
        try:
            assert select.select([child], [], [], PATIENCE)[0] == [child]  # it has ended
        finally:
            os.close(child)
