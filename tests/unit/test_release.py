"""Version, tag and CHANGELOG agree, and the release has what it promises."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import netring_bpf
from tests.support.paths import ROOT

VERSION = netring_bpf.__version__
FILES = ("CHANGELOG.md", "README.md", "netring_bpf/version.py", "pyproject.toml", "scripts/release")


@pytest.fixture(scope="module")
def release() -> Any:
    """The script as a module."""
    path = str(ROOT / "scripts" / "release")
    loader = importlib.machinery.SourceFileLoader("release_script", path)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    was, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = was
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What the check reads, in a folder without git."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def check(tree: Path, *arguments: str) -> tuple[int, list[str]]:
    """The exit status, and the problems."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GITHUB_")}
    command = [sys.executable, tree / "scripts" / "release", "--check", *arguments]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False)
    return done.returncode, [line.removeprefix("release: ") for line in done.stderr.splitlines()]


def test_the_installed_version_is_that_of_the_one_place() -> None:
    assert importlib.metadata.version("netring-bpf") == VERSION


@pytest.mark.parametrize("tag", [(), ("--tag", VERSION), ("--tag", f"v{VERSION}")])
def test_this_tree_agrees_with_its_tag(tree: Path, tag: tuple[str, ...]) -> None:
    assert check(tree, *tag) == (0, [])


@pytest.mark.parametrize("tag", ["0.0.1", "v99.0", f"{VERSION}.1", f"vv{VERSION}", "main"])
def test_a_tag_of_another_version_is_refused(tree: Path, tag: str) -> None:
    problem = f"tag {tag!r}: version.py says {VERSION!r}"
    assert check(tree, "--tag", tag) == (1, [problem])


def test_a_changelog_of_another_version_is_refused(tree: Path) -> None:
    change(tree / "CHANGELOG.md", f"## {VERSION}", "## 9.9.9")
    problem = f"CHANGELOG.md: its newest section is of '9.9.9', and version.py says {VERSION!r}"
    assert check(tree) == (1, [problem])


def test_a_version_of_another_place_is_refused(tree: Path) -> None:
    change(tree / "pyproject.toml", 'dynamic = ["version"]', 'version = "1.0"')
    problem = "pyproject.toml: the version has to be dynamic, out of version.py"
    assert check(tree) == (1, [problem])


def test_text_that_is_not_released_is_refused(tree: Path) -> None:
    change(tree / "CHANGELOG.md", f"## {VERSION}", f"## Unreleased\n\n- More.\n\n## {VERSION}")
    problem = f"CHANGELOG.md: Unreleased has text; move it below '## {VERSION} - YYYY-MM-DD'"
    assert check(tree) == (1, [problem])


@pytest.mark.parametrize("date", ["", " - soon", " - 2026-13-01", " - 20261127"])
def test_a_tag_needs_a_date(tree: Path, date: str) -> None:
    text = (tree / "CHANGELOG.md").read_text()
    heading = re.compile(rf"^## {re.escape(VERSION)}.*$", re.MULTILINE)
    (tree / "CHANGELOG.md").write_text(heading.sub(f"## {VERSION}{date}", text))
    problem = f"CHANGELOG.md: the section {VERSION} has no date: '## {VERSION} - YYYY-MM-DD'"
    assert check(tree, "--tag", VERSION) == (1, [problem])
    assert check(tree) == (0, [])


def test_the_metadata_gets_the_urls_of_the_home_and_the_readme_links_into_it(
    release: Any, tree: Path
) -> None:
    (tree / "README.md").write_text(
        "[a](docs/a.md#b) ![p](docs/p.png) [c](#c) [d](https://d.example/)"
    )
    release.write_urls(tree, "https://code.example/x/netring", "0.1.0")
    urls = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["urls"]
    assert urls == {
        "Repository": "https://code.example/x/netring",
        "Documentation": "https://code.example/x/netring/tree/0.1.0/docs",
        "Changelog": "https://code.example/x/netring/blob/0.1.0/CHANGELOG.md",
        "Issues": "https://code.example/x/netring/issues",
    }
    assert (tree / "README.md").read_text() == (
        "[a](https://code.example/x/netring/blob/0.1.0/docs/a.md#b) "
        "![p](https://code.example/x/netring/raw/0.1.0/docs/p.png) [c](#c) [d](https://d.example/)"
    )


def test_publishing_needs_both_wheels_the_source_and_the_urls(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    wheel = out / f"netring_bpf-{VERSION}-cp311-abi3-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"netring_bpf-{VERSION}.dist-info/METADATA", "Name: netring-bpf\n")
    (out / "left-over.txt").touch()
    command = [sys.executable, tree / "scripts" / "release", "--publish", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"release: {out} lacks netring_bpf-{VERSION}-cp311-abi3-manylinux_2_28_aarch64.whl",
        f"release: {out} lacks netring_bpf-{VERSION}.tar.gz",
        f"release: {out} has left-over.txt as well",
        f"release: {wheel.name}: no project URLs; build it with --home URL",
    ]


def test_publishing_refuses_files_that_it_did_not_make(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wanted = [
        *(f"-cp311-abi3-manylinux_2_28_{machine}.whl" for machine in ("aarch64", "x86_64")),
        ".tar.gz",
    ]
    lacking = [f"release: {out} lacks netring_bpf-{VERSION}{kind}" for kind in wanted]
    command = [sys.executable, tree / "scripts" / "release", "--publish", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (1, lacking)
    others = [f"netring_bpf-{VERSION}-cp311-abi3-linux_x86_64.whl", f"netring_bpf-{VERSION}1.zip"]
    out.mkdir()
    for name in others:
        (out / name).touch()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    strange = [f"release: {out} has {name} as well" for name in others]
    assert (done.returncode, done.stderr.splitlines()) == (1, [*lacking, *strange])


@pytest.mark.long
def test_the_source_distribution_builds_a_wheel_for_each_python_and_both_are_whole(
    release: Any, tmp_path: Path
) -> None:
    tree, unpacked = tmp_path / "tree", tmp_path / "unpacked"
    names = ("build", "dist", ".venv", ".git", "*.so", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*names))
    backend = "import setuptools.build_meta as b, sys; getattr(b, sys.argv[1])(sys.argv[2])"

    def build(kind: str, place: Path) -> Path:
        command = [sys.executable, "-c", backend, f"build_{kind}", tmp_path / kind]
        (tmp_path / kind).mkdir()
        subprocess.run(command, cwd=place, check=True, capture_output=True)
        [made] = (tmp_path / kind).iterdir()
        return made

    sdist = build("sdist", tree)
    assert sdist.name == f"netring_bpf-{VERSION}.tar.gz"
    with tarfile.open(sdist) as archive:
        release.unpack(archive, unpacked)
    wheel = build("wheel", unpacked / f"netring_bpf-{VERSION}")
    assert wheel.name.startswith(f"netring_bpf-{VERSION}-cp311-abi3-linux_")
    release.check_contents(sdist, wheel)


def test_the_page_on_installation_tells_of_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    page = (ROOT / "docs" / "install.md").read_text().partition("\n## Extras\n")[2]
    told = re.findall(r"^\| `(\w+)` \|", page.partition("\n## ")[0], re.MULTILINE)
    assert sorted(told) == sorted(extras)
