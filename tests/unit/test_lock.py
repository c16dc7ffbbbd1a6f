"""requirements-dev.txt pins what pyproject.toml asks for, within its ranges."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
REMEDY = "run scripts/lock"
PYTHONS = ("3.11.0", "3.12.0", "3.13.0", "3.14.0")
MACHINES = ("x86_64", "aarch64")


def locked() -> list[tuple[Requirement, list[str]]]:
    """Each pinned requirement and its hashes."""
    lines = (ROOT / "requirements-dev.txt").read_text().replace("\\\n", "").splitlines()
    found = []
    for line in lines:
        if not line.startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", line.strip())
            found.append((Requirement(requirement), hashes))
    return found


def wanted() -> list[Requirement]:
    """The requirements of the build, the package, its extras and the tools; pip besides."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        tables = tomllib.load(file)
    lines = [
        "pip",
        *tables["build-system"]["requires"],
        *tables["project"]["dependencies"],
        *(line for group in tables["project"]["optional-dependencies"].values() for line in group),
        *tables["dependency-groups"]["dev"],
    ]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_every_range(python: str, machine: str) -> None:
    environment = {
        **default_environment(),
        "python_full_version": python,
        "python_version": python.removesuffix(".0"),
        "platform_machine": machine,
    }
    pins = [
        (canonicalize_name(pin.name), str(pin.specifier))
        for pin, _ in locked()
        if pin.marker is None or pin.marker.evaluate(environment)
    ]
    versions = dict(pins)
    assert len(versions) == len(pins)
    for requirement in wanted():
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        pin = versions.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement} is not in requirements-dev.txt: {REMEDY}"
        version = Version(pin.removeprefix("=="))
        assert version in requirement.specifier, f"{requirement}, not {version}: {REMEDY}"


def test_every_pin_is_exact_and_has_hashes() -> None:
    for pin, hashes in locked():
        assert re.fullmatch(r"==[0-9][^*,]*", str(pin.specifier)), pin
        assert hashes, pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), pin


def test_the_lock_names_no_place_to_fetch_from() -> None:
    text = (ROOT / "requirements-dev.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
