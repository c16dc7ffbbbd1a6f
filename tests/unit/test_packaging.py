"""The files for installing: units that systemd accepts, and that open little to the service."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "packaging" / "systemd"
NAMES = ["netring-bpf.service", "netring-bpf@.service"]
needs_systemd = pytest.mark.requires("systemd")
MOST = 2.5  # of 10, what systemd-analyze calls the exposure


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )


def settings(name: str) -> dict[str, list[str]]:
    """The settings of a unit, each with its values in their order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_systemd_rates_the_exposure_low(name: str) -> None:
    done = analyze("security", "--offline=true", "--no-pager", UNITS / name)
    assert done.returncode == 0, done.stderr
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert found is not None
    assert float(found[1]) <= MOST


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    # Only the program and its manual are elsewhere than they will be.
    text = (UNITS / name).read_text().replace("/opt/netring-bpf/bin/netring-bpf", sys.executable)
    text = re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE)
    unit = tmp_path / name.replace("@.", "@lan.")
    unit.write_text(text)
    done = analyze("verify", "--man=no", unit)
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, said) == (0, [])


def test_the_template_is_the_service_with_a_name() -> None:
    plain, template = (settings(name) for name in NAMES)
    assert plain.pop("ExecStart") == [
        "/opt/netring-bpf/bin/netring-bpf run -c /etc/netring-bpf/netring.toml"
    ]
    assert template.pop("ExecStart") == [
        "/opt/netring-bpf/bin/netring-bpf run -c /etc/netring-bpf/%i.toml"
    ]
    del plain["Description"], template["Description"]
    assert template == {
        key: [re.sub(r"netring-bpf(?=$|\.mqtt)", "netring-bpf-%i", value) for value in values]
        if key in {"StateDirectory", "CacheDirectory", "LoadCredential"}
        else values
        for key, values in plain.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_unit_gives_what_a_capture_needs_and_no_more(name: str) -> None:
    unit = settings(name)
    capabilities = {"CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"}
    assert set(unit["AmbientCapabilities"][0].split()) == capabilities
    assert set(unit["CapabilityBoundingSet"][0].split()) == capabilities
    families = set(unit["RestrictAddressFamilies"][0].split())
    assert families == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_XDP"}
    assert unit["SystemCallFilter"] == ["@system-service", "~@privileged", "bpf"]
    assert unit["After"] == ["network.target"]
    assert unit["WantedBy"] == ["multi-user.target"]
    assert (unit["Restart"], unit["RestartPreventExitStatus"]) == (["on-failure"], ["2"])
    assert unit["LimitMEMLOCK"] == ["infinity"]


def test_the_image_has_what_the_command_needs() -> None:
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if line[:1].isupper()]
    names = [name for name, _ in instructions]
    assert names.count("FROM") == 2
    assert set(names) <= {
        "FROM", "RUN", "WORKDIR", "COPY", "ENV", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"
    }  # fmt: skip
    final = text[text.rindex("\nFROM ") :]
    for package in ("libpcap0.8t64", "python3", "python3-bpfcc"):
        assert re.search(rf"\s{package}\s", final)
    assert 'ENTRYPOINT ["netring-bpf"]' in final
    extras = re.search(r'"\.\[([\w,]+)\]"', text)
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert extras is not None
    assert all(
        re.search(rf"^{extra} = \[", pyproject, re.MULTILINE) for extra in extras[1].split(",")
    )
