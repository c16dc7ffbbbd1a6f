"""The manual page and the completions: they say what the parsers say, and shells take them."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from netring_bpf.cli.app import parser

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files as an installation has them, made as a wheel's build makes them."""
    folder = tmp_path_factory.mktemp("prefix")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "install_data", "--install-dir", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder / "share"


@pytest.fixture(scope="module")
def bash_file(share: Path) -> Path:
    return share / "bash-completion/completions/netring-bpf"


@pytest.fixture(scope="module")
def fish_file(share: Path) -> Path:
    return share / "fish/vendor_completions.d/netring-bpf.fish"


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def flags(command: argparse.ArgumentParser) -> set[str]:
    return {flag for action in command._actions for flag in action.option_strings}


def test_the_files_are_where_the_shells_look(share: Path) -> None:
    found = {str(path.relative_to(share)) for path in share.rglob("*") if path.is_file()}
    assert found == {
        "man/man1/netring-bpf.1",
        "bash-completion/completions/netring-bpf",
        "zsh/site-functions/_netring-bpf",
        "fish/vendor_completions.d/netring-bpf.fish",
    }


# -- the manual --


def test_the_manual_has_every_command_and_every_flag(share: Path) -> None:
    text = (share / "man/man1/netring-bpf.1").read_text().replace("\\-", "-").replace("\\fR", "")
    text = re.sub(r"\\f[BI]", "", text)
    assert text.startswith(".TH NETRING-BPF") or ".TH NETRING-BPF" in text.splitlines()[0]
    for name, command in commands():
        assert f"netring-bpf {name}" in text
        assert [flag for flag in flags(command) if flag not in text] == []


@pytest.mark.requires("shells")
def test_groff_takes_the_manual(share: Path) -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-Wbreak", "-z", share / "man/man1/netring-bpf.1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- bash --


def completed(file: Path, *words: str, before: Sequence[str | Path] = ()) -> set[str]:
    """Return what bash offers for the last word; ``before``: a command that runs bash."""
    script = r"""
        source "$1"; shift
        function=$(complete -p netring-bpf | sed 's/.*-F \([^ ]*\) .*/\1/')
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        "$function" netring-bpf "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        [*before, "bash", "--norc", "-c", script, "bash", file, "netring-bpf", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.strip() for line in done.stdout.splitlines()} - {""}


def test_bash_completes_commands(bash_file: Path) -> None:
    assert completed(bash_file, "fl") == {"flows"}
    assert {name for name, _ in commands()} <= completed(bash_file, "")


def test_bash_completes_the_flags_of_each_command(bash_file: Path) -> None:
    for name, command in commands():
        offered = completed(bash_file, name, "--")
        assert offered == {flag for flag in flags(command) if flag.startswith("--")}, name


def test_bash_completes_values(bash_file: Path, tmp_path: Path) -> None:
    assert completed(bash_file, "flows", "--backend", "") == {"auto", "af_xdp", "tpacket_v3"}
    assert completed(bash_file, "flows", "-i", "l") >= {"lo"}
    (tmp_path / "net.toml").touch()
    assert completed(bash_file, "run", "-c", f"{tmp_path}/n") == {f"{tmp_path}/net.toml"}


# Any program that may make a link gives it such a name.
HOSTILE = ("$(>made)", "`>made`", "a;b", "*")


@pytest.fixture
def among_hostile_links(tmp_path: Path) -> list[str | Path]:
    """A command that runs another where links have these names, in a folder of its own."""
    script = """
        mount -t sysfs none /sys
        cd "$1"; shift
        number=0
        while [ "$1" != -- ]; do
            ip link add "$1" type veth peer name "peer$number"
            number=$((number + 1)); shift
        done
        shift
        exec "$@"
    """
    (tmp_path / "here").mkdir()
    inside = ["unshare", "--net", "--mount", "sh", "-ec", script, "sh"]
    return [*inside, tmp_path / "here", *HOSTILE, "--"]


PEERS = {f"peer{number}" for number in range(len(HOSTILE))}


@pytest.mark.requires("root", "netns")
def test_bash_takes_the_name_of_a_link_for_no_command(
    bash_file: Path, tmp_path: Path, among_hostile_links: list[str | Path]
) -> None:
    offered = completed(bash_file, "flows", "-i", "", before=among_hostile_links)
    assert offered == {r"\$\(\>made\)", r"\`\>made\`", r"a\;b", r"\*", "lo", *PEERS}
    assert list((tmp_path / "here").iterdir()) == []


# -- zsh and fish --


@pytest.mark.requires("root", "netns", "shells")
def test_fish_takes_the_name_of_a_link_for_no_command(
    fish_file: Path, tmp_path: Path, among_hostile_links: list[str | Path]
) -> None:
    script = f"source {fish_file}; complete -C 'netring-bpf flows -i '"
    done = subprocess.run(
        [*among_hostile_links, "fish", "--no-config", "-c", script],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    offered = {row.partition("\t")[0] for row in done.stdout.splitlines()}
    assert offered == {*HOSTILE, "lo", *PEERS}
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.requires("shells")
def test_zsh_takes_the_completions(share: Path) -> None:
    done = subprocess.run(
        ["zsh", "-n", share / "zsh/site-functions/_netring-bpf"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_zsh_has_every_flag(share: Path) -> None:
    text = (share / "zsh/site-functions/_netring-bpf").read_text()
    assert text.startswith("#compdef netring-bpf\n")
    for name, command in commands():
        assert f"\n    {name}:'" in text
        assert [flag for flag in flags(command) if flag not in text] == []


@pytest.mark.requires("shells")
def test_fish_completes(fish_file: Path) -> None:
    def offered(line: str) -> set[str]:
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source {fish_file}; complete -C '{line}'"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return {row.partition("\t")[0] for row in done.stdout.splitlines()}

    assert offered("netring-bpf fl") == {"flows"}
    assert offered("netring-bpf flows --backend ") == {"auto", "af_xdp", "tpacket_v3"}
    assert "lo" in offered("netring-bpf flows -i ")
    for name, command in commands():
        long = {flag for flag in flags(command) if flag.startswith("--")}
        assert long <= offered(f"netring-bpf {name} --")


def test_fish_has_a_line_for_every_flag(fish_file: Path) -> None:
    lines = fish_file.read_text().splitlines()
    for name, command in commands():
        own = [line for line in lines if f"'__fish_seen_subcommand_from {name}'" in line]
        words = {word for line in own for word in re.findall(r" -(?:l|s|o) (\S+)", line)}
        assert {flag.lstrip("-") for flag in flags(command)} <= words
        assert all(line.count("'") % 2 == line.count("\\'") % 2 for line in own)
