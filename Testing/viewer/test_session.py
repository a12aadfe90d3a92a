"""One visitor: results that go or were garbled meanwhile, and what he comes back to."""

import asyncio
import json
import shutil
import time

import pytest
from scenes import write_result

pytest.importorskip("trame_slicer")

from xray2ctpa_core.viewer import server
from xray2ctpa_core.viewer.security import Door
from xray2ctpa_core.viewer.session import Opening, Session
from xray2ctpa_core.viewer.shelf import Entry


class Listener:
    """A tab that remembers the last message of each kind."""

    def __init__(self):
        self.told = {}

    def tell(self, kind, content):
        self.told[kind] = content

    def show(self, name, picture):
        pass

    async def phase(self, *names) -> dict:
        async with asyncio.timeout(60):
            while self.told["state"]["phase"] not in names:
                await asyncio.sleep(0.02)
        return self.told["state"]


def visit(tmp_path, opening: Opening, then) -> None:
    """A session of ``opening`` with one tab, in an event loop."""

    async def run() -> None:
        session, tab = Session(tmp_path / "session", opening), Listener()
        session.attach(tab)
        try:
            await then(session, tab)
        finally:
            await session.close()

    asyncio.run(run())


def test_who_comes_back_goes_on_from_what_he_looked_at(tmp_path):
    async def then(session, tab):
        await tab.phase("done")
        session.act({"do": "show", "window": "lung", "slab_mm": 20}, tab)
        session.act({"do": "slice", "view": "Red", "number": 3}, tab)
        session.act({"do": "zoom", "view": "Red", "factor": 2.0}, tab)
        before = tab.told["place"]
        session.detach(tab)
        session.rest()
        later = Listener()
        session.attach(later)
        state = await later.phase("done")
        assert (state["display"]["window"], state["display"]["slab_mm"]) == ("lung", 20)
        assert later.told["place"] == before
        assert before["views"]["Red"]["slice"] == 3

    visit(tmp_path, Opening(write_result(tmp_path / "result")), then)


def test_a_result_that_went_meanwhile_is_said_without_its_path_and_another_stays_open(tmp_path):
    gone = Entry(write_result(tmp_path / "gone"), "gone.png")

    async def then(session, tab):
        await tab.phase("done")
        session._shelf.add(gone)
        shutil.rmtree(gone.folder)
        session.act({"do": "open", "id": gone.identifier}, tab)
        await tab.phase("opening")
        state = await tab.phase("done", "empty")
        assert state["phase"] == "done"
        assert "result.json, got gone" in state["message"]["text"]
        assert str(tmp_path) not in state["message"]["text"]
        assert [one["current"] for one in state["results"]] == [False, True]

    visit(tmp_path, Opening(write_result(tmp_path / "result")), then)


def test_a_result_that_was_garbled_meanwhile_leads_back_to_the_start_with_a_message(tmp_path):
    folder = write_result(tmp_path / "result")
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    record["pe"]["probability"] = "high"
    (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")

    async def then(session, tab):
        state = await tab.phase("empty", "done")
        assert state["phase"] == "empty"
        assert "result/result.json as `xray2ctpa generate` writes it" in state["message"]["text"]

    visit(tmp_path, Opening(folder), then)


@pytest.mark.parametrize(
    ("is_own", "days", "is_kept"), [(False, 0.1, False), (True, 6, True), (True, 8, False)]
)
def test_a_visitor_with_results_of_his_own_is_kept_for_a_week(tmp_path, is_own, days, is_kept):
    async def run() -> None:
        site = server.Site(Door("127.0.0.1"), Opening(), tmp_path)
        session = await site._new_session("visitor")
        if is_own:
            result = write_result(session.folder / "result")
            session._shelf.add(Entry(result, "radiograph.png", owned=(result,)))
        await site.close_idle(time.monotonic() + days * 86400)
        assert session.folder.is_dir() == is_kept
        await site.close()

    asyncio.run(run())


def test_results_outlast_visitors_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "MAX_KEPT_SESSIONS", 3)

    async def run() -> None:
        site = server.Site(Door("127.0.0.1"), Opening(), tmp_path)
        owner = await site._new_session("owner")
        result = write_result(owner.folder / "result")
        owner._shelf.add(Entry(result, "radiograph.png", owned=(result,)))
        for number in range(10):
            await site._new_session(f"visitor {number}")
        assert result.is_dir()
        assert len(list(tmp_path.iterdir())) == 3
        await site.close()
        assert list(tmp_path.iterdir()) == []

    asyncio.run(run())
