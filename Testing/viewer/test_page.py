"""The page in headless Chromium: what a visitor sees and does. Its pictures go to build/pictures."""

import io
import re
import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("aiohttp")

from scenes import EXTENT_MM, SHAPE
from visitors import PATIENCE, Page, served

from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume, axial_affine

pytestmark = pytest.mark.browser
VIEWS = ("XRay2CTPAFilm", "Red", "Green", "Yellow", "3D")
SIZES = ((1280, 800), (1920, 1080))
#: Messages of Chromium that follow from what a test does to the server.
EXPECTED = re.compile(r"status of 4(13|22|09)|WebSocket connection")


class Tab:
    """A tab of the browser, and whatever its console has complained of."""

    def __init__(self, context, page: Page, size=SIZES[0]):
        self.complaints: list[str] = []
        self.tab = context.new_page()
        self.tab.set_viewport_size({"width": size[0], "height": size[1]})
        self.tab.set_default_timeout(1000 * PATIENCE)
        self.tab.on("console", self._on_console)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.goto(page.address)

    def _on_console(self, message):
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            self.complaints.append(message.text)

    def phase(self, name: str) -> None:
        self.tab.wait_for_selector(f"body[data-phase={name}]")

    def drawn(self, *names: str) -> None:
        for name in names:
            self.tab.wait_for_selector(f".view[data-view='{name}'] canvas[data-drawn]")

    def number_drawn(self, name: str) -> int:
        canvas = self.tab.locator(f".view[data-view='{name}'] canvas")
        return int(canvas.get_attribute("data-drawn") or 0)

    def redrawn(self, name: str, act) -> None:
        """Does ``act`` and waits until the view has been drawn again."""
        before = self.number_drawn(name)
        act()
        canvas = f".view[data-view='{name}'] canvas"
        for _ in range(int(PATIENCE / 0.05)):
            if int(self.tab.get_attribute(canvas, "data-drawn") or 0) > before:
                return
            self.tab.wait_for_timeout(50)
        raise AssertionError(f"{name} was not drawn again")

    def still(self) -> None:
        """Waits until no view has been drawn for a while."""
        former = None
        while former != (former := [self.number_drawn(name) for name in VIEWS]):
            self.tab.wait_for_timeout(1200)

    def picture(self, name: str) -> np.ndarray:
        """What is seen of a view on the screen, lines of the crosshair included: (rows, columns, RGB)."""
        shot = self.tab.locator(f".view[data-view='{name}']").screenshot()
        with Image.open(io.BytesIO(shot)) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    def hide_crosshair(self) -> None:
        """Also for views that come later; by the CSSOM, as the page's policy allows no style elements."""
        self.tab.evaluate("document.styleSheets[0].insertRule('.line { opacity: 0 !important; }')")


def coloured(picture: np.ndarray) -> np.ndarray:
    """Where a view is coloured, its letters at the edges left out."""
    mask = np.ptp(picture, axis=2) > 60
    mask[:40], mask[-40:], mask[:, :30], mask[:, -30:] = False, False, False, False
    return mask


@pytest.fixture(scope="session")
def pictures(repository) -> Path:
    folder = repository / "build" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def opened(browser, tmp_path, small_result):
    """The page of the small result, in a tab."""
    with served(tmp_path / "temporary", small_result) as page, new_context(browser) as context:
        yield Tab(context, page)


def new_context(browser):
    """Somebody else's browser: its own cookies."""
    return closing(browser.new_context())


def test_the_planes_show_the_volume_and_left_is_left(opened):
    opened.phase("done")
    opened.drawn(*VIEWS)
    opened.hide_crosshair()
    opened.still()
    for name, above, beside in (("Red", True, False), ("Green", True, False), ("Yellow", True, True)):
        mask = coloured(opened.picture(name))
        rows, columns = np.nonzero(mask)
        assert rows.size > 20, name
        assert (rows.mean() < mask.shape[0] / 2) == above, name
        assert (columns.mean() < mask.shape[1] / 2) == beside, name
    assert opened.complaints == []


def test_wheel_click_and_sliders_change_what_is_seen(opened):
    tab = opened.tab
    opened.phase("done")
    opened.drawn(*VIEWS)
    opened.hide_crosshair()
    opened.still()
    start = coloured(opened.picture("Red")).sum()
    tab.hover(".view[data-view=Red]")
    opened.redrawn("Red", lambda: tab.mouse.wheel(0, 100))
    opened.still()
    assert coloured(opened.picture("Red")).sum() == 0, "one slice further there is no hot voxel"
    opened.redrawn("Red", lambda: tab.press(".view[data-view=Red]", "ArrowUp"))
    opened.still()
    assert coloured(opened.picture("Red")).sum() == pytest.approx(start, rel=0.2)
    opened.redrawn("Red", lambda: tab.fill("#opacity", "0"))
    opened.still()
    assert coloured(opened.picture("Red")).sum() == 0
    assert tab.inner_text("#opacity-value") == "0 %"
    tab.fill("#opacity", "1")
    opened.redrawn("Red", lambda: tab.fill("#threshold", "0.95"))
    opened.still()
    assert coloured(opened.picture("Red")).sum() == 0, "the hot voxel is 0.9"
    before = tab.inner_text("#position")
    opened.redrawn("Green", lambda: tab.click(".view[data-view=Red]", position={"x": 60, "y": 200}))
    assert tab.inner_text("#position") != before
    tab.click("#hottest")
    tab.wait_for_selector(f"#position:has-text('{before}')")
    opened.redrawn("Red", lambda: tab.click("#window >> text=lung"))
    opened.still()
    assert opened.picture("Red").mean() > 20, "air is grey in the lung window"
    assert opened.complaints == []


def test_the_words_of_the_record_are_on_the_page(opened):
    opened.phase("done")
    side = opened.tab.inner_text("#side")
    for words in ("score 0.25", "never a diagnosis", "sampling.seed", "42", "dpm++", "The lungs reach"):
        assert words in side
    assert opened.tab.is_visible("header >> text=SYNTHETIC")
    assert opened.tab.is_hidden("#mode"), "there is no truth to compare with"


def test_compare_shows_generated_true_and_difference(browser, tmp_path, small_result):
    truth = tmp_path / "truth.nii.gz"
    air = np.full(SHAPE, AIR_HU, np.float32)  # it lacks the bright voxel
    write_volume(Volume(air, axial_affine(SHAPE, EXTENT_MM)), truth, np.int16)
    with (
        served(tmp_path / "temporary", small_result, "--truth", truth) as page,
        new_context(browser) as context,
    ):
        seen = Tab(context, page)
        seen.phase("done")
        seen.tab.click("text=Compare with truth")
        names = [
            f"{plane}{kind}" for kind in ("", "Truth", "Difference") for plane in ("Red", "Green", "Yellow")
        ]
        seen.drawn(*names)
        seen.hide_crosshair()
        seen.tab.wait_for_timeout(1500)
        assert coloured(seen.picture("RedTruth")).sum() == 0
        difference = seen.picture("RedDifference")
        rows, columns = np.nonzero(coloured(difference))
        assert columns.mean() > difference.shape[1] / 2
        assert difference[rows, columns, 0].mean() > difference[rows, columns, 2].mean() + 100, (
            "too much is red"
        )
        assert seen.complaints == []


def test_a_film_that_is_too_large_is_refused_before_it_is_sent(browser, tmp_path):
    large = tmp_path / "film.png"
    with large.open("wb") as file:
        file.truncate(60 << 20)
    with served(tmp_path / "temporary") as page, new_context(browser) as context:
        seen = Tab(context, page)
        seen.phase("empty")
        seen.tab.set_input_files("#file", large)
        seen.tab.wait_for_selector("#message:has-text('at most 50 MB, got 60 MB')")
        assert [path for path in page.leftovers() if path.is_file()] == []
        (tmp_path / "notes.png").write_text("this is no picture")
        seen.tab.set_input_files("#file", tmp_path / "notes.png")
        seen.tab.wait_for_selector("#message:has-text('notes.png')")
        seen.phase("empty")
        (tmp_path / "page.html").write_text("<html></html>")
        seen.tab.set_input_files("#file", tmp_path / "page.html")
        seen.tab.wait_for_selector("#message:has-text('page.html')")
        dropped = seen.tab.evaluate_handle(
            "() => { const d = new DataTransfer(); d.items.add(new File(['x'], 'dropped.txt')); return d; }"
        )
        seen.tab.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
        seen.tab.wait_for_selector("#message:has-text('dropped.txt')")
        assert seen.complaints == []


@pytest.mark.slow
@pytest.mark.real
def test_a_real_film_becomes_a_result(browser, tmp_path, real_data, pictures):
    film = sorted((real_data / "cxr" / "nih").glob("*.jpg"))[2]
    with served(tmp_path / "temporary") as page, new_context(browser) as context:
        seen = Tab(context, page)
        tab = seen.tab
        seen.phase("empty")
        tab.screenshot(path=pictures / "page-empty.png")
        tab.set_input_files("#file", film)
        seen.phase("ready")
        assert tab.is_visible("text=Accepted as a frontal chest X-ray")
        tab.wait_for_selector("#film[data-drawn]")
        tab.screenshot(path=pictures / "page-ready.png")
        tab.select_option("#steps", "4")
        tab.click("#generate")
        seen.phase("running")
        tab.wait_for_selector("#left:has-text('left')")
        tab.wait_for_selector("#preview[data-drawn]")
        tab.screenshot(path=pictures / "page-running.png")
        tab.reload()
        seen.phase("running")
        second = Tab(context, page)
        second.phase("running")
        seen.phase("done")
        second.phase("done")
        second.tab.close()
        seen.drawn(*VIEWS)
        opened_well(seen, pictures, "page-real")
        seen.hide_crosshair()
        before = seen.picture("Red")
        assert coloured(before).sum() > 1000, "the overlay is seen"
        tab.hover(".view[data-view=Red]")
        seen.redrawn("Red", lambda: tab.mouse.wheel(0, -300))
        seen.redrawn("Red", lambda: tab.fill("#opacity", "0"))
        seen.still()
        assert np.abs(seen.picture("Red") - before).mean() > 1
        assert coloured(seen.picture("Red")).sum() == 0, "no overlay is left"
        assert seen.complaints == []
        assert second.complaints == []


@pytest.mark.slow
def test_the_sample_result_at_two_sizes(browser, tmp_path, real_result, pictures):
    with (
        served(tmp_path / "temporary", real_result, "--cxr", SAMPLE_CXR) as page,
        new_context(browser) as context,
    ):
        seen = Tab(context, page)
        seen.phase("done")
        seen.drawn(*VIEWS)
        opened_well(seen, pictures, "page")
        seen.tab.click("text=Compare with truth")
        seen.drawn("RedTruth", "YellowDifference")
        seen.tab.wait_for_timeout(2500)
        seen.tab.screenshot(path=pictures / "page-compare.png")
        assert seen.complaints == []


def opened_well(seen: Tab, pictures: Path, name: str) -> None:
    """Screenshots at every size; no view is empty, nothing of the page lies outside the window."""
    for width, height in SIZES:
        seen.tab.set_viewport_size({"width": width, "height": height})
        seen.tab.wait_for_timeout(500)
        seen.still()
        seen.tab.screenshot(path=pictures / f"{name}-{width}.png")
        for view in VIEWS:
            assert seen.picture(view).std() > 15, f"{view} at {width} x {height}"
        wide, high = seen.tab.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        assert (wide, high) == (width, height)


@pytest.mark.slow
def test_a_killed_program_is_said_on_the_page(browser, tmp_path, small_result):
    with served(tmp_path / "temporary", small_result) as page, new_context(browser) as context:
        seen = Tab(context, page)
        seen.phase("done")
        page.end(signal.SIGKILL)
        seen.tab.wait_for_selector("#message:has-text('has ended')")
        assert seen.tab.is_visible("header >> text=SYNTHETIC"), "what is still shown is still marked"
