"""A mount namespace in which packages of Debian can be removed and installed, for nobody else."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PrivateSystem", "owner", "pack"]

_LAYERS = ("/usr", "/var", "/etc")
_ENOUGH = 120.0  # seconds, for any command


class PrivateSystem:
    """The machine's files below layers of their own, which end with this context manager.

    apt-get installs from ``folder`` alone, where ``pack`` puts packages that are installed now.
    Needs no network. The folder must not be below /usr, /var or /etc.
    """

    def __init__(self, folder: Path, network: str) -> None:
        self.folder = folder
        site = sysconfig.get_path("purelib")
        layers = "".join(
            f"mkdir -p $T/{n}/upper $T/{n}/work && mount -t overlay none -o "
            f"lowerdir={layer},upperdir=$T/{n}/upper,workdir=$T/{n}/work {layer} && "
            for n, layer in enumerate((*_LAYERS, site))
        )
        script = (
            f"mount --make-rprivate / && T=/mnt && mount -t tmpfs none $T && {layers}"
            # An installation that runs outside at this moment is none of this system's.
            "rm -rf /etc/apt/sources.list.d /var/lib/apt/lists /var/lib/dpkg/updates/* && "
            "mkdir -p /var/lib/apt/lists && "
            f"echo 'deb [trusted=yes] file:{folder} ./' >/etc/apt/sources.list && "
            "echo ready && exec cat"
        )
        self._holder = subprocess.Popen(
            ["nsenter", f"--net={network}", "unshare", "--mount", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            _, error = self._holder.communicate()
            raise RuntimeError(f"no layers over the file systems: {error.strip()}")

    def run(self, argv: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        inside = ["nsenter", f"--target={self._holder.pid}", "--mount", "--net", *argv]
        done = subprocess.run(inside, check=False, capture_output=True, text=True, timeout=_ENOUGH)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
        return done

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run the command of a shell inside."""
        return self.run(["bash", "-c", command])

    def remove(self, package: str) -> None:
        """Remove a package, and all that needs it."""
        self.run(["apt-get", "remove", "--yes", package])

    def update(self) -> None:
        """Have apt-get read the folder."""
        self.run(["apt-get", "update", "--quiet"])

    def close(self) -> None:
        """Let the layers go."""
        if self._holder.returncode is None:
            self._holder.kill()
            self._holder.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pack(package: str, folder: Path) -> None:
    """Add to the folder a package made of the files that are installed, and index it."""
    tree = folder / f"{package}.tree"
    for line in _say("dpkg-query", "--listfiles", package):
        source, target = Path(line), tree / line.lstrip("/")
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    control = [
        line
        for line in _say("dpkg-query", "--status", package)
        if not line.startswith(("Status:", "Conffiles:", " /etc/"))
    ]
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text("".join(f"{line}\n" for line in control))
    made = folder / f"{package}.deb"
    _say("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(made))
    shutil.rmtree(tree)
    data = made.read_bytes()
    control += [
        f"Filename: ./{made.name}",
        f"Size: {len(data)}",
        f"SHA256: {hashlib.sha256(data).hexdigest()}",
    ]
    with (folder / "Packages").open("a") as index:
        index.write("".join(f"{line}\n" for line in control if line) + "\n")


def owner(path: str) -> str:
    """Return the package that a file belongs to."""
    [line] = _say("dpkg-query", "--search", path)[:1]
    return line.split(":")[0]


def _say(*argv: str) -> list[str]:
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()
