"""The namespace in which a command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.rig import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab import Namespace


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with wire() as ns:
        yield ns
