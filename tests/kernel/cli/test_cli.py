"""The command line as a whole: its overview, its version, and wrong usage."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys

import pytest

import netring_bpf
from netring_bpf.cli.app import parser
from netring_bpf.config import default_text
from tests.kernel.cli.command import COMMAND, LIMIT
from tests.support.rig import PORT

COMMANDS = [
    "flows", "devices", "top", "filter", "record", "serve", "run", "config", "mqtt", "interfaces",
    "doctor",
]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["flow"],
        ["flows"],
        ["flows", "-i", PORT, "--no-such-flag"],
        ["flows", "-i", PORT, "--backend", "pcap"],
        ["flows", "-i", PORT, "-c", "0"],
        ["flows", "-i", PORT, "-c", "many"],
        ["flows", "-i", PORT, "--duration", "-1"],
        ["flows", "-i", PORT, "--duration", "nan"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    done = subprocess.run(
        [COMMAND, *arguments], check=False, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 2
    assert done.stdout == ""
    if arguments:
        error, hint = done.stderr.splitlines()
        assert error.startswith("netring-bpf")
        assert hint.startswith("try: netring-bpf ")


@pytest.mark.parametrize(
    ("arguments", "status", "stream"), [([], 2, "stderr"), (["--help"], 0, "stdout")]
)
def test_without_a_command_the_help_lists_the_commands(
    arguments: list[str], status: int, stream: str
) -> None:
    done = subprocess.run(
        [COMMAND, *arguments], check=False, capture_output=True, text=True, timeout=LIMIT
    )
    said = {"stdout": done.stdout, "stderr": done.stderr}
    shown = said.pop(stream)
    assert done.returncode == status
    assert list(said.values()) == [""]
    assert shown.startswith("Usage: netring-bpf [-h] [--version] [-D] COMMAND ...\n")
    listed = shown.partition("commands:\n")[2].partition("\n\n")[0]
    named = [line.split()[0] for line in listed.splitlines() if not line.startswith("   ")]
    assert named == COMMANDS
    assert "netring-bpf flows -i eth1 tcp port 443\n" in shown
    assert "COMMAND --help" in shown


def test_an_unknown_flag_before_the_command_is_named() -> None:
    done = subprocess.run(
        [COMMAND, "--fast", "flows"], check=False, capture_output=True, text=True, timeout=LIMIT
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "netring-bpf: error: unrecognized arguments: --fast\ntry: netring-bpf --help\n"
    )


def test_the_version_is_the_packages() -> None:
    done = subprocess.run(
        [COMMAND, "--version"], check=False, capture_output=True, text=True, timeout=LIMIT
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"netring-bpf {netring_bpf.__version__}\n",
        "",
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+", netring_bpf.__version__)


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_the_configuration_is_printed_in_any_encoding(encoding: str) -> None:
    done = subprocess.run(
        [COMMAND, "config"], check=False, capture_output=True, timeout=LIMIT,
        env=os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding) == default_text().replace("…", r"\u2026")


def test_a_configuration_that_a_full_disk_does_not_take_is_told() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [COMMAND, "config"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=LIMIT,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1, "netring-bpf: config: No space left on device (errno 28)\n"
    )  # fmt: skip


def test_the_parser_has_a_subparser_for_each_command() -> None:
    whole = parser()
    [commands] = [action for action in whole._actions if action.nargs == argparse.PARSER]
    assert isinstance(commands.choices, dict)
    assert list(commands.choices) == COMMANDS
    for name, command in commands.choices.items():
        assert command.prog == f"netring-bpf {name}"
        flags = [flag for action in command._actions for flag in action.option_strings]
        assert ("-i" in flags) is (name not in {"run", "config", "mqtt", "interfaces"})
        assert all(action.help for action in command._actions)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["flows", "--help"], ["flow"]])
def test_help_and_errors_load_nothing_that_a_command_needs(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", COMMAND, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "netring_bpf.cli.flows" in loaded
    needless = {
        "netring_bpf._core",
        "netring_bpf.capture.capture",
        "netring_bpf.netring",
        "numpy",
        "pyroute2",
        "rich",
    }
    assert needless & loaded == set()
