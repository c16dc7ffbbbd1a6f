"""``netring-bpf top`` on a screen, driven by its keys, over a real capture file."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot
from textual.widgets import Static

from netring_bpf import FlowOptions, Netring, StatsOptions, StatsUpdated
from netring_bpf.cli.top_app import Details, Lines, TopApp
from netring_bpf.cli.top_model import TopModel
from netring_bpf.cli.top_source import KINDS_OF_A_FILE, RingSource
from netring_bpf.cli.top_views import VIEWS
from tests.support.home import DEVICES, home_frames
from tests.support.made_stats import stats
from tests.support.savefiles import pcap

Use: TypeAlias = Callable[[TopApp, Pilot[None]], Awaitable[None]]
HOSTILE = b"[red]\x1b[2J\xe2\x80\xae[@click=app.quit]evil[/]" + b"x" * 200


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home") / "home.pcap"
    path.write_bytes(pcap(home_frames(60)))
    return path


async def _on_screen(path: Path, use: Use, size: tuple[int, int]) -> None:
    ring = Netring.replay(
        path,
        flow=FlowOptions(update_interval=None, events=KINDS_OF_A_FILE),
        devices=True,
        stats=StatsOptions(interval=1.0, top=100),
    )
    model = TopModel(keeps_all=True)
    async with RingSource(ring, None) as source:
        app = TopApp(model, source)
        async with app.run_test(size=size) as pilot:
            await model.until_end()
            app.draw(everything=True)
            await pilot.pause()
            await use(app, pilot)


def on_screen(path: Path, use: Use, *, size: tuple[int, int] = (80, 24)) -> None:
    """Use the screen once the file was read."""
    asyncio.run(_on_screen(path, use, size))


def screen(app: TopApp) -> list[str]:
    """The lines of the screen, as a person sees them."""
    width, height = app.size
    rows = app.screen._compositor.render_strips()
    assert len(rows) == height
    lines = ["".join(segment.text for segment in row) for row in rows]
    assert all(cell_len(line) <= width for line in lines)
    return [line.rstrip() for line in lines]


def column(app: TopApp, n: int = 0) -> list[str]:
    """The texts of a column of the table on the screen."""
    table = app.query_one(Lines)
    return [str(table.get_cell_at((row, n))).strip() for row in range(table.row_count)]  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 50)])
def test_throughput_loss_books_and_the_tables_are_in_sight(
    home: Path, size: tuple[int, int]
) -> None:
    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        for n, view in enumerate(VIEWS):
            await pilot.press(str(n + 1))
            await pilot.pause()
            shown = screen(app)
            text = "\n".join(shown)
            assert shown[0].startswith("netring-bpf top  ")
            assert shown[0].endswith("2023-11-14 22:14:20 ended") or "ended" in shown[0]
            for word in ("total ", "in ", "out ", "peak "):
                assert word in text
            assert "loss 0 (0 %)  books balanced  events lost 0, missed 0" in text
            assert f" {n + 1} {view.title}" in text
            assert "q quit" in shown[-1]
            assert app.query_one(Lines).row_count > 0

    on_screen(home, use, size=size)


def test_the_sums_on_the_screen_are_those_of_the_flows(home: Path) -> None:
    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        model = app._model
        assert sum(line.total for line in model.flows()) == model.traffic.total.bytes
        assert sum(point.total for point in model.points) == model.traffic.total.bytes
        assert len(model.flows()) == model.traffic.total.flows
        assert model.sums.received == len(home_frames(60))

    on_screen(home, use)


def test_devices_have_their_names(home: Path) -> None:
    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        assert {name for _, _, name in DEVICES} <= set(column(app))

    on_screen(home, use)


def test_the_keys_sort_by_a_column_and_turn_the_order_around(home: Path) -> None:
    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("4")
        assert column(app)[0] == "cdn.video.example"  # of a file: by the total
        await pilot.press("<", "<")
        names = column(app)
        assert names == sorted(names)
        assert "name▲" in "\n".join(screen(app))
        await pilot.press("r")
        assert column(app) == names[::-1]
        await pilot.press(">", ">", ">")
        flows = [int(text) for text in column(app, 3)]
        assert flows == sorted(flows, reverse=True)

    on_screen(home, use)


def test_the_filter_keeps_lines_with_all_words_until_escape(home: Path) -> None:
    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("4")
        everything = column(app)
        await pilot.press("slash", *"EXAMPLE.o", "enter")
        found = [name for name in everything if "example.o" in name]
        assert found
        assert column(app) == found
        assert f"/EXAMPLE.o {len(found)} of {len(everything)}" in screen(app)[-1]
        await pilot.press("3", "4")
        assert column(app) == found  # each table has its own
        await pilot.press("escape")
        assert column(app) == everything

    on_screen(home, use)


def test_tables_stand_still_while_paused_and_the_books_do_not(home: Path) -> None:
    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("3", "p")
        before = column(app)
        model = app._model
        assert model.stats is not None
        late: StatsUpdated = stats(rows=5)
        model.add_stats(late._replace(ts=model.stats.ts + 1, start=model.stats.ts))
        app.draw()
        await pilot.pause()
        assert column(app) == before
        assert "PAUSED" in screen(app)[0]
        assert "loss 5 " in "\n".join(screen(app))
        await pilot.press("space")
        assert column(app) != before
        assert "PAUSED" not in screen(app)[0]

    on_screen(home, use)


def test_enter_shows_all_that_is_known_of_a_line(home: Path) -> None:
    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        for key, wanted in (
            ("1", ("community_id", "app_ja4", "conn_state")),
            ("2", ("mac", "bytes_sent", "offers")),
            ("4", ("since_start_bytes", "latest_interval")),
        ):
            await pilot.press(key, "enter")
            await pilot.pause()
            assert isinstance(app.screen, Details)
            told = str(app.screen.query_one(Static).content)
            assert all(name in told for name in wanted[:2]), told
            await pilot.press("escape")
            assert not isinstance(app.screen, Details)

    on_screen(home, use)


def test_the_books_and_the_help_have_a_page_each(home: Path) -> None:
    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("b")
        await pilot.pause()
        told = str(app.screen.query_one(Static).content)
        assert "flows started = ended" in told
        assert "is not" not in told
        await pilot.press("escape", "question_mark")
        await pilot.pause()
        assert "turn the order around" in str(app.screen.query_one(Static).content)
        await pilot.press("escape")

    on_screen(home, use)


def test_loss_and_unbalanced_books_stand_out(home: Path) -> None:
    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        model = app._model
        event = stats()
        model.add_stats(event._replace(health=event.health._replace(balanced=False)))
        app.draw()
        await pilot.pause()
        text = "\n".join(screen(app))
        assert "loss 5 (" in text
        assert "BOOKS OFF" in text

    on_screen(home, use)


def test_a_screen_that_gets_smaller_or_larger_shows_what_fits(home: Path) -> None:
    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        for width, height in ((120, 40), (80, 24), (40, 12), (160, 50)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            await pilot.pause()
            shown = screen(app)
            assert ("vendor" in "\n".join(shown)) == (width >= 120)
            assert "loss 0" in "\n".join(shown)

    on_screen(home, use)


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "8"])
def test_names_from_the_network_are_text(tmp_path: Path, key: str) -> None:
    path = tmp_path / "hostile.pcap"
    path.write_bytes(pcap(home_frames(3, hostile=HOSTILE)))

    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        app._model.note(1 << 62, HOSTILE.decode())
        await pilot.press(key, "enter")
        app.draw(everything=True)
        await pilot.pause()
        text = "\n".join(screen(app))
        assert "\x1b" not in text
        assert "\u202e" not in text
        told = str(app.screen.query_one(Static).content) if key == "8" else ""
        assert key != "8" or "[red]\\x1b[2J\\u202e[@click=app.quit]evil[/]" in told

    on_screen(path, use, size=(160, 40))


def test_a_name_with_markup_is_shown_letter_for_letter(tmp_path: Path) -> None:
    path = tmp_path / "hostile.pcap"
    path.write_bytes(pcap(home_frames(3, hostile=b"[b]bold[/b].example")))

    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("4")
        assert "[b]bold[/b].example" in column(app)
        assert any("[b]bold[/b].example" in line for line in screen(app))

    on_screen(path, use)


def test_no_colour_is_drawn_where_nobody_wants_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("4")
        picture = app.export_screenshot()
        assert app.no_color
        # What is chosen is still seen: it is reversed.
        assert "cdn.video.example" in re.sub(r"&#160;", " ", picture)

    on_screen(home, use)


def test_a_broken_file_shows_its_flows_and_the_error(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.pcap"
    path.write_bytes(home.read_bytes()[:-7])

    async def use(app: TopApp, pilot: Pilot[None]) -> None:
        assert len(app._model.flows()) > 10
        await pilot.press("8")
        assert any(text.startswith("read capture file ") for text in column(app, 1))

    on_screen(path, use)
