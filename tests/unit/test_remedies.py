"""Remedies are words that a shell reads as they were meant."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from netring_bpf import remedies
from netring_bpf.remedies import install, install_anywhere, switch_off, word

HOSTILE = ["eth0", "it's", "$(touch x)", "`x`", "a b", "-i", "a;b", "*", "~", "é", "語", "\x1b[2J",
           "\x9b", "\\'\n", os.fsdecode(b"\xff\xfe"), "\u202e", "!x", "", "a\x7f0"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_shell_reads_a_word_as_the_name(name: str) -> None:
    said = word(name)
    assert said.isprintable()
    done = subprocess.run(
        ["bash", "-c", f"printf %s {said}"], check=True, capture_output=True, env={"LC_ALL": "C"}
    )
    assert done.stdout == os.fsencode(name)


@pytest.mark.parametrize(
    ("told", "command"),
    [
        ("ID=debian\n", "apt-get install --yes libpcap0.8"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "apt-get install --yes libpcap0.8"),
        ("ID=rocky\nID_LIKE='rhel centos fedora'\n", "dnf install --assumeyes libpcap"),
        ("ID=arch\n", "pacman -S --noconfirm libpcap"),
        ("", "apt-get install --yes libpcap0.8"),
    ],
)
def test_a_library_is_installed_as_the_distribution_does(
    told: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "os-release"
    path.write_text(told)
    monkeypatch.setattr(remedies, "_OS_RELEASE", str(path))
    monkeypatch.setattr(remedies, "_DPKG", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert install("libpcap") == command
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert install("libpcap") == f"sudo {command}"
    path.unlink()
    assert install("BCC") == "sudo apt-get install --yes python3-bpfcc"


@pytest.mark.parametrize(
    "listed", ["libpcap0.8.list", "libpcap0.8:amd64.list", "libpcap0.8t64:amd64.list"]
)
def test_a_package_that_lost_its_files_is_installed_again(
    listed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remedies, "_OS_RELEASE", "/nonexistent")
    monkeypatch.setattr(remedies, "_DPKG", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / listed).touch()
    assert install("libpcap") == "apt-get install --reinstall --yes libpcap0.8"
    assert install("BCC") == "apt-get install --yes python3-bpfcc"


def test_errors_name_the_same_packages() -> None:
    assert install_anywhere("BCC") == (
        "Debian, Ubuntu: apt-get install python3-bpfcc; Fedora: dnf install python3-bcc; "
        "Arch: pacman -S python-bcc"
    )


def test_offloads_are_switched_off_in_one_command() -> None:
    assert switch_off("a b", {"rx-lro", "rx-gro-hw"}) == "ethtool -K 'a b' rx-gro-hw off rx-lro off"
