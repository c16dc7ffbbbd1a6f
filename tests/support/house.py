"""The rooms of the package, and which room may import which.

Python files are read by their imports, C files by their includes and by the functions they call.
A room is a folder of ``netring_bpf``, a file beside the folders, or a folder of the C core.
``scripts/house`` prints what this module measures, of this tree or of another.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

__all__ = ["MAY_IMPORT", "House", "circles"]

ROOT: Final = Path(__file__).resolve().parents[2]

# A row a room, from the lowest to the highest. An entry names a room, or one file of a room.
MAY_IMPORT: Final[dict[str, frozenset[str]]] = {
    room: frozenset(allowed.split())
    for room, allowed in {
        "errors": "",
        "version": "",
        "lazy": "",
        "kernel_release": "",
        "loggers": "",
        "fork": "",
        "threads": "",
        "secret_file": "",
        "program_cache": "errors",
        "privileges": "errors",
        "remedies": "",
        "statistics": "errors",
        "interface": "privileges errors",
        "events": "errors lazy _core",
        "filter": "errors lazy program_cache remedies _core",
        "formats": "events errors _core",
        "bpf": "filter interface kernel_release privileges program_cache remedies errors fork "
        "_core",
        "ring": "events filter bpf/xdp_mode.py remedies statistics errors fork threads _core",
        "capture": "ring bpf filter events interface kernel_release privileges remedies statistics "
        "errors fork lazy loggers threads version",
        "doctor": "capture ring bpf filter interface kernel_release privileges remedies errors "
        "version",
        "read": "capture filter events interface statistics errors lazy threads",
        "recording": "capture ring filter statistics errors lazy",
        "devices": "events errors lazy _core",
        "aggregate": "events statistics errors lazy _core",
        "broadcast": "events errors lazy",
        "sinks": "formats broadcast aggregate devices events statistics errors lazy secret_file "
        "fork",
        "netring_statistics": "statistics broadcast sinks",
        "netring": "capture recording broadcast aggregate devices sinks events errors "
        "netring_statistics",
        "__init__": "netring netring_statistics sinks read recording broadcast aggregate devices "
        "capture ring/options.py ring/flow_options.py ring/names.py bpf/xdp_mode.py filter events "
        "statistics errors lazy version",
        "web": "__init__ netring netring_statistics aggregate devices sinks/metrics.py events "
        "errors lazy secret_file",
        "config": "recording capture ring sinks aggregate devices filter events errors secret_file",
        "cli": "doctor __init__ config web netring netring_statistics sinks broadcast aggregate "
        "devices read recording capture ring bpf formats filter events interface statistics errors "
        "loggers",
        "__main__": "cli",
        # The C core: the files that lie in ring/ itself are "core".
        "C core": "",
        "C bpf": "core",
        "C source": "bpf core",
        "C dissect": "source/frame.h core",
        "C app": "dissect core",
        "C aggregate": "app dissect core",
        "C flow": "aggregate app dissect core",
        "C loop": "flow aggregate app dissect source core",
        "C formats": "app core",
    }.items()
}
# A function with external linkage, from its first column to its opening brace; and its calls.
_DEFINED: Final = re.compile(r"^(?!static)[a-z][\w *]*?\b(nr_\w+)\([^;{]*\)\s*\{", re.MULTILINE)
_CALLED: Final = re.compile(r"\b(nr_\w+)\(")

Graph: TypeAlias = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Arrow:
    """One file's use of another; ``source`` and ``target`` are paths below ``netring_bpf``."""

    source: str
    target: str
    source_room: str
    target_room: str

    @property
    def is_allowed(self) -> bool:
        """Whether the table allows it."""
        if self.source_room == self.target_room:
            return True
        allowed = MAY_IMPORT.get(self.source_room, frozenset())
        if self.source_room.startswith("C "):
            room, path = self.target_room.removeprefix("C "), self.target.removeprefix("ring/")
        else:
            room, path = self.target_room, self.target
        return room in allowed or path in allowed

    def complaint(self) -> str:
        """The use that the table forbids, and the remedy."""
        allowed = ", ".join(sorted(MAY_IMPORT.get(self.source_room, ()))) or "nothing of ours"
        return (
            f"netring_bpf/{self.source} ({self.source_room}) uses netring_bpf/{self.target} "
            f"({self.target_room}), and {self.source_room} may use only: {allowed}. Move the code "
            "to a room that may, pass the value in, or declare a Protocol for what is needed of it."
        )


class House:
    """The files of a tree, their rooms, and their arrows."""

    def __init__(self, root: Path = ROOT) -> None:
        self._package = root / "netring_bpf"
        files = sorted(self._package.rglob("*.py")) + sorted(
            path for path in (self._package / "ring").rglob("*") if path.suffix in {".c", ".h"}
        )
        self.files: Final = [path.relative_to(self._package).as_posix() for path in files]
        self._imports: Final = {
            file: list(self._read_imports(file)) for file in self.files if file.endswith(".py")
        }
        self.arrows: Final = list(self._arrows())

    def room(self, file: str) -> str:
        """Return the room of a file, given by its path below ``netring_bpf``."""
        parts = file.split("/")
        if file.endswith((".c", ".h")):
            return "C core" if len(parts) == 2 else f"C {parts[1]}"
        return parts[0].removesuffix(".py")

    @property
    def rooms(self) -> dict[str, list[str]]:
        """The files of each room."""
        found: dict[str, list[str]] = {}
        for file in self.files:
            found.setdefault(self.room(file), []).append(file)
        return found

    def foreign(self, name: str) -> set[str]:
        """Return the Python files that import this package, or a module of it."""
        return {
            file
            for file, imports in self._imports.items()
            if any(m == name or m.startswith(f"{name}.") for m, _ in imports)
        }

    # -- graphs --

    def room_graph(self) -> Graph:
        """Return the rooms that each room uses: Python rooms and rooms of the C core."""
        return _graph(
            self.rooms,
            # The Python side of the core uses what its C side declares, whichever room that is.
            ((a.source_room, a.target_room) for a in self.arrows if a.target_room != "_core"),
        )

    def file_graph(self) -> Graph:
        """Return the files that each file uses."""
        return _graph(
            self.files, ((a.source, a.target) for a in self.arrows if a.target != "_core")
        )

    # -- reading --

    def _arrows(self) -> Iterator[Arrow]:
        known = set(self.files)
        code = {file: self._code(file) for file in self.files if file.endswith((".c", ".h"))}
        home = {
            name: file
            for file, text in code.items()
            if file.endswith(".c")
            for name in _DEFINED.findall(text)
        }
        for file in self.files:
            if file in code:
                called = {home.get(name, file) for name in _CALLED.findall(code[file])} - {file}
                found = {*self._included(file), *(called if file.endswith(".c") else ())}
            else:
                found = set(self._imported(file))
            for target in sorted(found):
                if target in known:
                    yield Arrow(file, target, self.room(file), self.room(target))
                elif target == "_core":
                    yield Arrow(file, target, self.room(file), "_core")

    def _code(self, file: str) -> str:
        """The C file without its comments and strings."""
        text = (self._package / file).read_text(encoding="utf-8")
        return re.sub(r'/\*.*?\*/|"(\\.|[^"\\\n])*"', "", text, flags=re.DOTALL)

    def _included(self, file: str) -> Iterator[str]:
        text = (self._package / file).read_text(encoding="utf-8")
        for name in re.findall(r'^#include "([^"]+)"', text, re.MULTILINE):
            yield f"ring/{name}"

    def _imported(self, file: str) -> Iterator[str]:
        for module, name in self._imports[file]:
            if module != "netring_bpf" and not module.startswith("netring_bpf."):
                continue
            path = module.removeprefix("netring_bpf").replace(".", "/").lstrip("/")
            for found in (f"{path}/{name}" if path else str(name), path):
                if found == "_core":
                    yield "_core"
                    break
                if (self._package / f"{found}.py").is_file():
                    yield f"{found}.py"
                    break
                if (self._package / found / "__init__.py").is_file():
                    yield f"{found}/__init__.py".lstrip("/")
                    break

    def _read_imports(self, file: str) -> Iterator[tuple[str, str | None]]:
        """The modules a file imports, wherever in the file, with the names it takes from them."""
        tree = ast.parse((self._package / file).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((node.module, alias.name) for alias in node.names)


def _graph(nodes: Iterable[str], arrows: Iterable[tuple[str, str]]) -> Graph:
    found: dict[str, set[str]] = {node: set() for node in nodes}
    for source, target in arrows:
        if source != target:
            found[source].add(target)
    return {node: frozenset(targets) for node, targets in found.items()}


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of nodes that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            group = sorted(stack[at:])
            del stack[at:]
            if len(group) > 1:
                found.append(group)

    for node in graph:
        if node not in index:
            visit(node)
    return sorted(found)


def _floors(graph: Graph) -> dict[str, int]:
    """Return each room's floor: one above the highest room it uses; a circle shares a floor."""
    group_of = {node: tuple(group) for group in circles(graph) for node in group}
    floors: dict[str, int] = {}

    def floor(node: str) -> int:
        if node not in floors:
            members = group_of.get(node, (node,))
            below = {t for member in members for t in graph[member]} - set(members)
            level = 1 + max(map(floor, below), default=-1)
            floors.update(dict.fromkeys(members, level))
        return floors[node]

    for node in graph:
        floor(node)
    return floors


def report(house: House) -> str:
    """Return the table of rooms, and the figures under it."""
    rooms, graph = house.rooms, house.room_graph()
    floors = _floors(graph)
    lines = [f"{'floor':>5}  {'room':<20} {'files':>5}  uses"]
    lines += [
        f"{floors[room]:>5}  {room:<20} {len(rooms[room]):>5}  {', '.join(sorted(graph[room]))}"
        for room in sorted(rooms, key=lambda room: (floors[room], room))
    ]
    against = [arrow for arrow in house.arrows if not arrow.is_allowed]
    between, within = circles(graph), circles(house.file_graph())
    inside = sum(len(graph[room] & set(group)) for group in between for room in group)
    lines += [
        "",
        f"rooms                        {len(rooms)}",
        f"floors                       {1 + max(floors.values())}",
        f"files in the largest room    {max(map(len, rooms.values()))}",
        f"arrows between rooms         {sum(map(len, graph.values()))}",
        f"  of them in a circle        {inside}",
        f"circles between rooms        {len(between)}",
        f"circles between files        {len(within)}",
        f"uses that the table forbids  {len(against)}",
    ]
    lines += [f"circle: {' ↔ '.join(group)}" for group in (*between, *within)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(House(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT)))
