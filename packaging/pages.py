"""Makes the manual page and the shells' completions of ``netring-bpf`` out of its parsers.

The build of a wheel calls ``write()``; ``scripts/pages DIR`` does the same by hand.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAM: Final = "netring-bpf"
#: The files, below the prefix of an installation.
MAN: Final = f"share/man/man1/{PROGRAM}.1"
BASH: Final = f"share/bash-completion/completions/{PROGRAM}"
ZSH: Final = f"share/zsh/site-functions/_{PROGRAM}"
FISH: Final = f"share/fish/vendor_completions.d/{PROGRAM}.fish"

_INTERFACES: Final = {"bash": "_netring_bpf_interfaces", "zsh": "_net_interfaces"}
_PREAMBLE: Final = {
    "bash": """\
_netring_bpf_interfaces() {
  local name
  for name in /sys/class/net/*; do
    name=${name##*/}
    [[ $name != "$1"* ]] || printf '%q\\n' "$name"
  done
}
"""
}
_FISH_INTERFACES: Final = "(command ls /sys/class/net 2>/dev/null)"

if TYPE_CHECKING:
    Parser = argparse.ArgumentParser


def write(folder: Path) -> list[Path]:
    """Write all files below the folder, and return them, relative to it."""
    made = {MAN: manual(), BASH: completion("bash"), ZSH: completion("zsh"), FISH: fish()}
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(map(Path, made))


def parser() -> Parser:
    """Return the parser of the whole command line, as of a wide terminal."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    os.environ["COLUMNS"] = "100"  # else the text depends on where it is built
    from netring_bpf.cli.app import parser as whole

    return whole()


def commands(whole: Parser) -> Iterator[tuple[str, str, Parser]]:
    """Yield the name, the summary and the parser of each command."""
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                if name in helps:  # not another name of it
                    yield name, helps[name], command


def kind_of(action: argparse.Action) -> str:
    """Return what the value of a flag names: interface, file, folder, choice, other or none."""
    if action.nargs == 0:
        return "none"
    if action.choices is not None:
        return "choice"
    words = {"IFACE": "interface", "FILE": "file", "DIR": "folder"}
    return words.get(str(action.metavar), "other")


# -- the manual --


def manual() -> str:
    """Return the manual page, in roff."""
    from argparse_manpage.manpage import Manpage

    from netring_bpf.version import __version__

    whole = parser()
    text = str(
        Manpage(
            whole,
            _data={
                "project_name": PROGRAM,
                "prog": PROGRAM,
                "version": __version__,
                "manual_title": "User Commands",
                "manual_section": "1",
                "date": "",
                "authors": [],
                "description": "packets and flows of network interfaces",
            },
        )
    )
    # A date would make two builds of one version differ.
    text = re.sub(r'^(\.TH \S+ "1") "[^"]*"', r'\1 ""', text)
    return text if text.endswith("\n") else f"{text}\n"


# -- bash and zsh --


def completion(shell: str) -> str:
    """Return the completions of this shell."""
    import shtab

    whole = parser()
    for _, summary, command in commands(whole):
        command.description = summary  # a list of commands has room for that
        for action in command._actions:
            place: Any = action
            match kind_of(action):
                case "interface":
                    place.complete = _INTERFACES
                case "file":
                    place.complete = shtab.FILE
                case "folder":
                    place.complete = shtab.DIRECTORY
    text: str = shtab.complete(whole, shell=shell, preamble=_PREAMBLE)
    return text if text.endswith("\n") else f"{text}\n"


# -- fish --


def fish() -> str:
    """Return the completions of fish, which has a line for each flag."""
    lines = [
        f"# completions of {PROGRAM} for fish",
        f"complete -c {PROGRAM} -f",
        *_fish_flags(parser(), "__fish_use_subcommand"),
    ]
    for name, summary, command in commands(parser()):
        lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand -a {name} -d {_q(summary)}")
        lines += _fish_flags(command, f"__fish_seen_subcommand_from {name}")
    return "\n".join(lines) + "\n"


def _fish_flags(command: Parser, condition: str) -> Iterator[str]:
    for action in command._actions:
        if not action.option_strings:
            continue
        words = [f"complete -c {PROGRAM} -n {_q(condition)}"]
        for flag in action.option_strings:
            if flag.startswith("--"):
                words.append(f"-l {flag[2:]}")
            else:
                words.append(f"-s {flag[1:]}" if len(flag) == 2 else f"-o {flag[1:]}")
        match kind_of(action):
            case "choice":
                assert action.choices is not None
                words.append(f"-x -a {_q(' '.join(map(str, action.choices)))}")
            case "interface":
                words.append(f"-x -a {_q(_FISH_INTERFACES)}")
            case "file":
                words.append("-r -F")
            case "folder":
                words.append("-x -a '(__fish_complete_directories)'")
            case "other":
                words.append("-x")
        words.append(f"-d {_q(_help(command, action))}")
        yield " ".join(words)


def _help(command: Parser, action: argparse.Action) -> str:
    formatter = command._get_formatter()
    text = " ".join(formatter._expand_help(action).split()) if action.help else ""
    return text.split("; ")[0].split(" [default")[0]


def _q(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
