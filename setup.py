"""Builds the C core, and the pages of the command; all else is in pyproject.toml.

A machine that cannot build it is told so in one sentence, not by the compiler.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

from distutils.command.install_data import install_data  # isort: skip - setuptools brings it

# Free-threaded Pythons have no stable ABI, so each of them gets a module of its own.
FREE_THREADED: Final = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
HEADERS: Final = {
    "stdlib.h": "the C library's headers (Debian, Ubuntu: libc6-dev; Fedora: glibc-devel; "
    "Alpine: musl-dev)",
    "linux/if_xdp.h": "the Linux kernel's headers for programs, of Linux 5.11 or newer (Debian, "
    "Ubuntu: linux-libc-dev; Fedora: kernel-headers; Alpine: linux-headers)",
    "Python.h": "Python's headers (Debian, Ubuntu: python3-dev; Fedora: python3-devel; Alpine: "
    "python3-dev)",
}


class BuildCore(build_ext):
    """Compiles the C core, after a look at what that needs."""

    def build_extensions(self) -> None:
        """Raise ``CompileError`` if there is no compiler, or if it lacks headers."""
        compiler = self.compiler.compiler[0]
        if shutil.which(compiler) is None:
            raise CompileError(
                f"netring-bpf has a core in C, and this machine has no C compiler {compiler!r}: "
                "install gcc (Debian, Ubuntu: gcc libc6-dev python3-dev; Fedora: gcc "
                "python3-devel; Alpine: gcc musl-dev linux-headers python3-dev), or take the "
                "wheel, which needs none"
            )
        for header, meaning in HEADERS.items():
            if not self._finds(header):
                raise CompileError(
                    f"netring-bpf has a core in C, and {compiler} finds no <{header}>: install "
                    f"{meaning}, or take the wheel, which needs no compiler"
                )
        super().build_extensions()

    def _finds(self, header: str) -> bool:
        include = [f"-I{folder}" for folder in self.compiler.include_dirs]
        done = subprocess.run(  # noqa: S603 - the build's own compiler
            [*self.compiler.compiler, *include, "-E", "-x", "c", "-o", "/dev/null", "-"],
            input=f"#include <{header}>\n",
            text=True,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0


class InstallPages(install_data):
    """Makes the manual page and the shells' completions out of the parsers, and installs them."""

    def run(self) -> None:
        """Write them into a folder first. A checkout that is installed has none."""
        if "editable_wheel" in self.distribution.commands:
            return
        sys.path.insert(0, str(Path(__file__).resolve().parent / "packaging"))
        import pages

        with tempfile.TemporaryDirectory() as made:
            self.data_files = [
                (str(path.parent), [str(Path(made, path))]) for path in pages.write(Path(made))
            ]
            super().run()


def why_not() -> str | None:
    """Return why the package cannot run here, None if nothing speaks against it."""
    if sys.platform != "linux":
        return (
            f"netring-bpf runs on Linux alone, and this is {sys.platform}: install it in a Linux "
            "machine, virtual machine or container"
        )
    if FREE_THREADED and sys.version_info < (3, 14):
        return (
            "netring-bpf needs cffi, which knows free-threaded Pythons from 3.14 on: install it "
            "into Python 3.14t, or into a Python that is not free-threaded"
        )
    return None


if reason := why_not():
    sys.exit(f"error: {reason}")

setup(
    cffi_modules=["netring_bpf/ring/_build.py:ffibuilder"],
    cmdclass={"build_ext": BuildCore, "install_data": InstallPages},
    data_files=[("share", [])],  # what InstallPages makes
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
