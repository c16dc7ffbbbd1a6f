"""The parsers of the command line: intermixed words, and errors of two lines."""

from __future__ import annotations

import argparse
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from netring_bpf.errors import OptionError, did_you_mean, printable

__all__ = ["CommandParser", "Formatter", "Once", "OverviewFormatter", "Parser"]


class Parser(argparse.ArgumentParser):
    """Tells an error in two lines: the error, and how to get the help.

    A terminal obeys nothing of the words that it quotes.
    """

    def error(self, message: str) -> NoReturn:
        """Print the message and a hint on standard error, and exit with 2."""
        text = f"{self.prog}: error: {message.replace(chr(10), ' ')}"
        self.exit(2, f"{printable(text)}\ntry: {self.prog} --help\n")

    def option_error(self, error: OptionError) -> NoReturn:
        """Exit with the error of an option, under the name of the flag that sets it."""
        flag = self.flag_of(error.option)
        if flag is None:
            self.error(str(error))
        value, _, rule = str(error).partition(": ")
        given = value.removeprefix(error.option).removeprefix("=").strip("()[],'")
        told = re.sub(r"[a-z]+(_[a-z]+)+", lambda name: self.flag_of(name[0]) or name[0], rule)
        self.error(": ".join(filter(None, (f"argument {flag}", given, told))))

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words, or exit with a message that may name the right flag."""
        given, left = self.parse_known_args(args, namespace)
        self._refuse(left)
        return given

    def _refuse(self, left: Sequence[str]) -> None:
        if not left:
            return
        flags = [word.partition("=")[0] for word in left if word.startswith("-")]
        meant = next(filter(None, (did_you_mean(f, self._flags()) for f in flags)), "")
        self.error(f"unrecognized arguments: {' '.join(left)}{meant}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        meant = did_you_mean(str(value), known)
        if action.nargs == argparse.PARSER:
            self.error(f"there is no command {value}{meant or f'; there are {_listed(known)}'}")
        raise argparse.ArgumentError(action, f"{value}: must be {_listed(known, 'or')}{meant}")

    # -- flags by what they set --

    def flag_of(self, option: str) -> str | None:
        """Return the flag that sets the option of this name, None if there is none."""
        for action in self._actions:
            singular = {option, option.removesuffix("s"), option.removesuffix("es")}
            if action.dest in singular and action.option_strings:
                return _longest(action)
        return None

    def given(self, namespace: argparse.Namespace) -> Iterator[tuple[str, str]]:
        """Yield what each flag that was given sets, and the flag itself."""
        for action in self._actions:
            value = getattr(namespace, action.dest, action.default)
            if value not in (action.default, []):
                yield action.dest, _longest(action) if action.option_strings else "a filter"

    def _flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]


def _longest(action: argparse.Action) -> str:
    """Return the flag without its short form, as ``-r`` where it has no other."""
    return max(action.option_strings, key=len)


def _listed(names: Sequence[str], word: str = "and") -> str:
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else names[0]


class CommandParser(Parser):
    """Parses the words of one command; a filter's words may stand between flags.

    Where ``-r`` may be given several times, more files may follow the one after it.
    """

    _intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words, or exit with a message that names this command."""
        # argparse calls this method again to parse intermixed words.
        if self._intermixing:
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        if isinstance(self._option_string_actions.get("-r"), argparse._AppendAction):  # noqa: SLF001
            args = _with_a_flag_each(args or [])
        try:
            given, left = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixing = False
        self._refuse(left)
        return given, []


def _with_a_flag_each(words: Sequence[str]) -> list[str]:
    """Return the words with an ``-r`` before each file that follows another."""
    spread: list[str] = []
    follows = False  # a file after -r, directly
    for n, word in enumerate(words):
        if word == "--":
            return [*spread, *words[n:]]
        is_value = n > 0 and words[n - 1] == "-r"
        if follows and not is_value and _is_file(word):
            spread.append("-r")
        elif not is_value:
            follows = word.startswith("-r") and len(word) > len("-r")
        else:
            follows = True
        spread.append(word)
    return spread


def _is_file(word: str) -> bool:
    """Whether it is no word of a filter, but the name of a file or a pattern of names."""
    if word.startswith("-") or word.isalnum():
        return False
    return os.path.lexists(word) or ("*" in word and bool(glob.glob(word)))


class Once(argparse.Action):
    """Stores a value that may be given only once: the last one would win without a word."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the value. Raises ``ArgumentError`` for a second one."""
        before = getattr(namespace, self.dest, None)
        if before is not None and before != values:
            raise argparse.ArgumentError(
                self, f"{values}: may be given once, and {before} was given before"
            )
        setattr(namespace, self.dest, values)


class Formatter(argparse.HelpFormatter):
    """Writes ``Usage:`` with a capital letter, and the range of a number."""

    def __init__(self, prog: str, **options: Any) -> None:
        # By itself it would load shutil, which loads what packs files.
        options.setdefault("width", _columns() - 2)
        super().__init__(prog, **options)

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = "Usage: ",
    ) -> None:
        """Add the usage line."""
        super().add_usage(usage, actions, groups, prefix or "Usage: ")

    def _expand_help(self, action: argparse.Action) -> str:
        """Return the help of a flag, with the range of its value before the default."""
        text = super()._expand_help(action) or ""
        rule = getattr(action.type, "rule", "")
        does, bracket, default = text.rpartition(" [default")
        return f"{does} ({rule}){bracket}{default}" if rule and bracket else text


class OverviewFormatter(Formatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the examples, and lists the commands without a line above them."""

    def _format_action(self, action: argparse.Action) -> str:
        if action.nargs != argparse.PARSER:
            return super()._format_action(action)
        self._dedent()  # the commands indent themselves
        listed = "".join(map(self._format_action, self._iter_indented_subactions(action)))
        self._indent()
        return listed


def _columns() -> int:
    """Return the width of the terminal, as ``shutil.get_terminal_size`` finds it."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):  # it is closed, or no terminal
        return 80
