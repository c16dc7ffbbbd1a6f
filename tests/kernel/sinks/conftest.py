"""The registry of vendors stays mapped once it is loaded, so it is loaded before the tests."""

from __future__ import annotations

import asyncio

import pytest

from netring_bpf.devices.vendors import load_vendors


@pytest.fixture(scope="session", autouse=True)
def vendors() -> bool:
    return asyncio.run(load_vendors())
