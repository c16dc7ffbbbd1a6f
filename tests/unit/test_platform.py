"""A machine that cannot build or run the package is told so in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from netring_bpf.errors import PlatformError, UnavailableError
from tests.support.paths import ROOT

FOREIGN = pytest.mark.parametrize("platform", ["darwin", "win32", "cygwin", "freebsd14"])


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@FOREIGN
def test_an_import_elsewhere_than_on_linux_raises_a_typed_import_error(platform: str) -> None:
    code = """
import sys
sys.platform = sys.argv[1]
try:
    import netring_bpf
except ImportError as error:
    print(type(error).__name__, error.platform, error, sep="|")
from_linux = {"fcntl", "resource", "pyroute2", "cffi", "netring_bpf._core"} & set(sys.modules)
print(sorted(name for name in sys.modules if name.startswith("netring_bpf")), from_linux)
"""
    told, loaded = python(code, platform).stdout.splitlines()
    assert told == (
        f"PlatformError|{platform}|netring_bpf runs on Linux alone, and this is {platform}: use "
        "it in a Linux machine, virtual machine or container"
    )
    assert loaded == "['netring_bpf.errors'] set()"


def test_the_error_has_its_place_in_the_tree() -> None:
    assert issubclass(PlatformError, UnavailableError)
    assert issubclass(PlatformError, ImportError)


@FOREIGN
def test_a_build_elsewhere_than_on_linux_ends_with_one_sentence(platform: str) -> None:
    code = """
import sys
import setuptools.build_meta as backend
sys.platform = sys.argv[1]
backend.get_requires_for_build_wheel()
"""
    done = python(code, platform)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"error: netring-bpf runs on Linux alone, and this is {platform}: install it in a Linux "
        "machine, virtual machine or container"
    ]


def build_core(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Begin a build of the C core in a folder of its own."""
    kept = {key: value for key, value in os.environ.items() if key not in {"CC", "CFLAGS"}}
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--build-temp", folder / "temp",
         "--build-lib", folder / "lib"],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def test_a_build_without_a_compiler_names_the_packages(tmp_path: Path) -> None:
    done = build_core(tmp_path, PATH=str(tmp_path), CC="gcc")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: netring-bpf has a core in C, and this machine has no C compiler 'gcc': install "
        "gcc (Debian, Ubuntu: gcc libc6-dev python3-dev; Fedora: gcc python3-devel; Alpine: gcc "
        "musl-dev linux-headers python3-dev), or take the wheel, which needs none"
    )
    assert list(tmp_path.rglob("*.o")) == []


def test_a_build_without_headers_names_their_package(tmp_path: Path) -> None:
    done = build_core(tmp_path, CC="gcc -nostdinc")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: netring-bpf has a core in C, and gcc finds no <stdlib.h>: install the C library's "
        "headers (Debian, Ubuntu: libc6-dev;"
    )
    assert list(tmp_path.rglob("*.o")) == []
