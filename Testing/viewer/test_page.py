"""The page in headless Chromium (XRAY2CTPA_BROWSER=firefox: in Firefox): what a visitor sees and does.

Its pictures go to build/pictures.
"""

import base64
import io
import json
import re
import shutil
import signal
import time
import zipfile
from contextlib import closing
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("aiohttp")
pytest.importorskip("axe_playwright_python")

import axe_playwright_python
from scenes import EXTENT_MM, SHAPE, UNLIKE, add_second_opinion, write_result
from visitors import PATIENCE, Page, served

from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume, axial_affine

pytestmark = pytest.mark.browser
#: axe-core itself.
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
#: Red, green and blue of an element's text.
COLOUR = "(name) => getComputedStyle(document.querySelector(name)).color.match(/\\d+/g).map(Number)"
VIEWS = ("XRay2CTPARadiograph", "Red", "Green", "Yellow", "3D")
SIZES = ((390, 844), (768, 1024), (1280, 800), (1920, 1080), (2560, 1440))
#: Messages of the browsers that follow from what a test does to the server. In Firefox, playwright's
#: screenshots try to add a style to a page; styles of the page's own would be blocked in Chromium, too.
EXPECTED = re.compile(
    r"status of 4(03|13|22|09)|WebSocket connection|ERR_CONNECTION_REFUSED|can’t establish a connection"
    r"|was interrupted while the page was loading|blocked an inline style \(style-src-elem\)"
)


#: How far each shown picture's proportions are from those that it has on the screen.
DISTORTION = """[...document.querySelectorAll(".frame")].filter((frame) => frame.clientWidth).map((frame) => {
  const { width, height } = frame.querySelector("canvas");
  return Math.abs((width / height) / (frame.clientWidth / frame.clientHeight) - 1);
})"""
FILLED = (
    "[...document.querySelectorAll('.frame')].every((f) => f.clientWidth === f.parentElement.clientWidth)"
)
#: Whether a page scrolls sideways; Firefox's scroll bar takes a part of the window's width.
IS_WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
#: Playwright hears of no downloads in a released Firefox: what is to be saved stays in the page.
KEEP_INSTEAD_OF_SAVING = """kept = {};
URL.createObjectURL = (blob) => {
  const reader = new FileReader();
  reader.onload = () => { kept.content = reader.result; };
  reader.readAsDataURL(blob);
  return "";
};
HTMLAnchorElement.prototype.click = function () { kept.name = this.download; };"""


class Tab:
    """A tab of the browser, and whatever its console has complained of."""

    def __init__(self, context, page: Page, size=SIZES[2]):
        self.complaints: list[str] = []
        self.requested: set[str] = set()
        self.tab = context.new_page()
        self.tab.set_viewport_size({"width": size[0], "height": size[1]})
        self.tab.set_default_timeout(1000 * PATIENCE)
        self.tab.on("console", self._on_console)
        self.tab.on("pageerror", lambda error: self._complain(str(error)))
        self.tab.on("request", lambda request: self.requested.add(request.url.split("/")[2]))
        self.tab.goto(page.address)

    def _on_console(self, message):
        if message.type in ("error", "warning"):
            self._complain(message.text)

    def _complain(self, text: str) -> None:
        if not EXPECTED.search(text):
            self.complaints.append(text)

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
        self.wait_for(lambda: self.number_drawn(name) > before, f"{name} was not drawn again")

    def still(self) -> None:
        """Waits until no view has been drawn for a while; a page that never rests fails."""
        drawn = "[...document.querySelectorAll('.view canvas')].map((canvas) => canvas.dataset.drawn)"
        seen = [self.tab.evaluate(drawn)]

        def rests() -> bool:
            self.tab.wait_for_timeout(1200)
            seen.append(self.tab.evaluate(drawn))
            return seen[-1] == seen[-2]

        self.wait_for(rests, "views are drawn again and again")

    def until(self, expression: str) -> None:
        """Waits until a JavaScript expression is true; the page's policy forbids playwright's own way."""
        self.wait_for(lambda: self.tab.evaluate(expression), f"{expression} did not become true")

    def wait_for(self, happened, failure: str) -> None:
        """Waits while the browser goes on; ``failure`` is said after PATIENCE."""
        ends = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < ends, failure
            self.tab.wait_for_timeout(50)

    def picture(self, name: str) -> np.ndarray:
        """What is seen of a view on the screen, lines of the crosshair included: (rows, columns, RGB)."""
        shot = self.tab.locator(f".view[data-view='{name}'] .box").screenshot(caret="initial")
        with Image.open(io.BytesIO(shot)) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    def hide_crosshair(self) -> None:
        """Also for views that come later; by the CSSOM, as the page's policy allows no style elements."""
        self.tab.evaluate(
            "document.styleSheets[0].insertRule('.line, .scale-bar, .values { opacity: 0 !important; }')"
        )

    def number(self, name: str) -> str:
        """What stands beside the slider of a plane."""
        return self.tab.inner_text(f".view[data-view='{name}'] .number")

    def saved(self, button: str, path: Path) -> str:
        """Has the page save a file, as ``path``; returns the name that it proposes."""
        if self.tab.context.browser.browser_type.name == "chromium":
            with self.tab.expect_download() as download:
                self.tab.click(button)
            download.value.save_as(path)
            return download.value.suggested_filename
        self.tab.evaluate(KEEP_INSTEAD_OF_SAVING)
        self.tab.click(button)
        self.until("Boolean(window.kept?.content)")
        name, content = self.tab.evaluate("[kept.name, kept.content]")
        path.write_bytes(base64.b64decode(content.partition(",")[2]))
        return name

    def drag(self, name: str, start, end, button="left") -> None:
        """Drags over a view, from and to parts of its width and height."""
        box = self.tab.locator(f".view[data-view='{name}'] .box").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
        self.tab.mouse.move(*places[0])
        self.tab.mouse.down(button=button)
        self.tab.mouse.move(*places[1], steps=6)
        self.tab.mouse.up(button=button)


def coloured(picture: np.ndarray) -> np.ndarray:
    """Where a view is coloured, its letters at the edges left out."""
    mask = np.ptp(picture, axis=2) > 60
    mask[:40], mask[-40:], mask[:, :30], mask[:, -30:] = False, False, False, False
    return mask


@pytest.fixture
def opened(browser, shown):
    """The page of the small result, in a tab of somebody's own browser."""
    with new_context(browser) as context:
        yield Tab(context, shown)


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
    tab.hover(".view[data-view=Red] .box")
    opened.redrawn("Red", lambda: tab.mouse.wheel(0, 100))
    opened.still()
    assert coloured(opened.picture("Red")).sum() == 0, "one slice further there is no hot voxel"
    opened.redrawn("Red", lambda: tab.press(".view[data-view=Red] .box", "ArrowUp"))
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
    opened.redrawn("Green", lambda: tab.click(".view[data-view=Red] .box", position={"x": 60, "y": 200}))
    assert tab.inner_text("#position") != before
    tab.click("#hottest")
    tab.wait_for_selector(f"#position:has-text('{before}')")
    opened.redrawn("Red", lambda: tab.click("#window >> text=lung"))
    opened.still()
    assert opened.picture("Red").mean() > 20, "air is grey in the lung window"
    assert opened.complaints == []


def test_the_words_of_the_record_are_on_the_page(opened):
    opened.phase("done")
    opened.tab.click("summary:has-text('Provenance')")
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


def test_a_radiograph_that_is_too_large_is_refused_before_it_is_sent(browser, tmp_path):
    large = tmp_path / "radiograph.png"
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


def test_who_has_no_radiograph_takes_the_sample(browser, tmp_path, pipeline_bundle):
    with (
        served(tmp_path / "temporary", "--bundle", pipeline_bundle) as page,
        new_context(browser) as context,
    ):
        seen = Tab(context, page)
        seen.phase("empty")
        seen.tab.click("#sample")
        seen.phase("ready")
        assert seen.tab.inner_text("#radiograph-name") == SAMPLE_CXR.name
        seen.tab.wait_for_selector("#radiograph[data-drawn]")
        seen.tab.click("#start-over")
        seen.phase("empty")
        assert SAMPLE_CXR.is_file(), "it is the package's own file"
        assert seen.complaints == []


@pytest.mark.slow
def test_a_pair_of_header_and_data_is_one_radiograph_and_other_pairs_are_two(browser, tmp_path):
    pixels = (read_radiograph(SAMPLE_CXR).pixels * 4095).astype(np.int16)
    pair = nib.Nifti1Pair(pixels.T[..., None], np.diag([-1.2, -1.2, 1.0, 1.0]))
    nib.save(pair, tmp_path / "chest.hdr")
    shutil.copy(tmp_path / "chest.img", tmp_path / "another.img")
    shutil.copy(SAMPLE_CXR, tmp_path / "chest.png")
    with served(tmp_path / "temporary") as page, new_context(browser) as context:
        seen = Tab(context, page)
        seen.phase("empty")
        seen.tab.set_input_files("#file", [tmp_path / "another.img", tmp_path / "chest.hdr"])
        seen.tab.wait_for_selector("#message:has-text('Expected one radiograph, got 2 files')")
        seen.tab.set_input_files("#file", [tmp_path / "chest.img", tmp_path / "chest.hdr"])
        seen.phase("ready")
        assert seen.tab.is_visible("text=Accepted as a frontal chest radiograph")
        assert seen.tab.is_hidden("#message")
        seen.tab.set_input_files("#file", [tmp_path / "chest.png", tmp_path / "chest.hdr"])
        seen.tab.wait_for_selector("#message:has-text('Expected one radiograph, got 2 files')")
        assert seen.complaints == []


@pytest.mark.slow
@pytest.mark.real
def test_a_real_radiograph_becomes_a_result(browser, tmp_path, real_data, pictures):
    radiograph = sorted((real_data / "cxr" / "nih").glob("*.jpg"))[2]
    with served(tmp_path / "temporary") as page, new_context(browser) as context:
        seen = Tab(context, page)
        tab = seen.tab
        seen.phase("empty")
        tab.screenshot(path=pictures / "page-empty.png", caret="initial")
        tab.set_input_files("#file", radiograph)
        seen.phase("ready")
        assert tab.is_visible("text=Accepted as a frontal chest radiograph")
        tab.wait_for_selector("#radiograph[data-drawn]")
        tab.screenshot(path=pictures / "page-ready.png", caret="initial")
        tab.select_option("#preset", "0")
        tab.click("#generate")
        seen.phase("running")
        tab.screenshot(path=pictures / "page-running.png", caret="initial")
        tab.reload()
        second = Tab(context, page)
        seen.phase("done")
        second.phase("done")
        second.tab.close()
        seen.drawn(*VIEWS)
        opened_well(seen, pictures, "page-real")
        seen.hide_crosshair()
        before = seen.picture("Red")
        assert coloured(before).sum() > 1000, "the overlay is seen"
        tab.hover(".view[data-view=Red] .box")
        seen.redrawn("Red", lambda: tab.mouse.wheel(0, -300))
        seen.redrawn("Red", lambda: tab.fill("#opacity", "0"))
        seen.still()
        assert np.abs(seen.picture("Red") - before).mean() > 1
        assert coloured(seen.picture("Red")).sum() == 0, "no overlay is left"
        assert seen.complaints == []
        assert second.complaints == []


@pytest.mark.slow
def test_the_sample_result_at_every_size_in_both_modes(browser, tmp_path, real_result, pictures):
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
        opened_well(seen, pictures, "page-compare", ("Red", "RedTruth", "YellowDifference"))
        assert seen.complaints == []


def opened_well(seen: Tab, pictures: Path, name: str, views=VIEWS) -> None:
    """Screenshots at every size; no view is empty or small, nothing of the page lies beside the window."""
    for width, height in SIZES:
        seen.tab.set_viewport_size({"width": width, "height": height})
        seen.tab.wait_for_timeout(800)
        seen.until(FILLED)  # on a busy machine, views are drawn late in their new sizes
        seen.still()
        seen.tab.evaluate("scrollTo(0, 0)")  # what stays above while it scrolls is seen at the top
        seen.tab.screenshot(path=pictures / f"{name}-{width}.png", full_page=True, caret="initial")
        for view in views:
            picture = seen.picture(view)
            assert picture.std() > 15, f"{view} at {width} x {height}"
            assert min(picture.shape[:2]) >= 190, f"{view} at {width} x {height} has {picture.shape}"
        cut = "[...document.querySelectorAll('.title, select')].some((e) => e.scrollWidth > e.clientWidth)"
        assert not seen.tab.evaluate(cut), f"a title is cut off at {width} x {height}"
        rows = seen.tab.evaluate("document.querySelector('header').clientHeight")
        assert rows < 48 or width < 1000, f"the header has one line, not {rows} pixels, at {width}"
        assert not seen.tab.evaluate(IS_WIDER), f"something lies beside the window at {width} x {height}"
        high = seen.tab.evaluate("document.documentElement.scrollHeight")
        assert high == height or width < 1000, "only narrow pages scroll"


@pytest.mark.slow
def test_a_killed_program_is_said_and_a_restarted_one_is_found_again(browser, tmp_path, small_result):
    with served(tmp_path / "temporary", small_result) as page, new_context(browser) as context:
        seen = Tab(context, page)
        seen.phase("done")
        page.end(signal.SIGKILL)
        seen.tab.wait_for_selector("#message:has-text('has ended')")
        assert seen.tab.is_visible("header >> text=SYNTHETIC"), "what is still shown is still marked"
        port = page.address.split(":")[2].split("/")[0]
        with served(tmp_path / "again", small_result, "--port", port):
            seen.tab.wait_for_selector("#message:has-text('Open the address')")


def test_a_lost_connection_comes_back_by_itself(browser, shown):
    with new_context(browser) as context:
        context.add_init_script(
            "sockets = []; WebSocket = class extends WebSocket {"
            "constructor(address) { super(address); sockets.push(this); } };"
        )
        seen = Tab(context, shown)
        seen.phase("done")
        seen.drawn("Red")
        seen.tab.evaluate("document.querySelector('.view').dataset.former = true; sockets[0].close()")
        seen.phase("lost")
        seen.phase("done")
        seen.drawn(*VIEWS)
        assert seen.tab.locator(".view[data-former]").count() == 0, "the views were made anew"
        assert seen.complaints == []


def test_two_tabs_of_different_sizes_distort_no_picture(browser, shown):
    with new_context(browser) as context:
        large = Tab(context, shown)
        large.phase("done")
        large.drawn(*VIEWS)
        large.still()
        assert max(large.tab.evaluate(DISTORTION)) < 0.01
        assert large.tab.evaluate(FILLED)
        small = Tab(context, shown, SIZES[0])
        small.phase("done")
        small.drawn(*VIEWS)
        small.still()
        assert max(small.tab.evaluate(DISTORTION)) < 0.01
        assert max(large.tab.evaluate(DISTORTION)) < 0.01, "drawn for the other tab, in its proportions"
        assert not large.tab.evaluate(FILLED)
        across = "document.querySelector('[data-view=Red] .line.down').getBoundingClientRect().left"
        frame = "document.querySelector('[data-view=Red] .frame').getBoundingClientRect()"
        part = "import('./views.js').then((v) => v.placed.views.Red.crosshair[0])"
        left, width = (large.tab.evaluate(f"{frame}.{side}") for side in ("left", "width"))
        assert large.tab.evaluate(across) == pytest.approx(left + width * large.tab.evaluate(part), abs=1)
        large.tab.evaluate("dispatchEvent(new Event('focus'))")
        large.until(FILLED)
        assert max(large.tab.evaluate(DISTORTION)) < 0.01
        assert large.complaints == small.complaints == []


def test_very_wide_very_low_and_very_narrow_windows_show_every_view(opened):
    tab = opened.tab
    opened.phase("done")
    opened.drawn(*VIEWS)
    for width, height in ((3840, 900), (1000, 400), (320, 500)):
        tab.set_viewport_size({"width": width, "height": height})
        opened.still()
        assert max(tab.evaluate(DISTORTION)) < 0.02, f"{width} x {height}"
        assert not tab.evaluate(IS_WIDER), f"{width} x {height}"
        for name in VIEWS:
            box = tab.locator(f"[data-view='{name}'] .box").bounding_box()
            assert min(box["width"], box["height"]) >= 130, f"{name} at {width} x {height}"
    tab.set_viewport_size({"width": 3840, "height": 900})
    opened.still()
    opened.redrawn("Red", lambda: tab.press("[data-view=Red] .box", "m"))
    opened.still()
    assert max(tab.evaluate(DISTORTION)) < 0.01, "a view larger than is drawn keeps its proportions"
    assert opened.complaints == []


@pytest.fixture
def told(browser, shown):
    """The page of the small result; ``tell`` of its window changes what its session says."""
    with new_context(browser) as context:
        context.add_init_script(
            "sockets = []; WebSocket = class extends WebSocket {"
            "constructor(address) { super(address); sockets.push(this); } };"
            "tell = (change) => import('./page.js').then(({ state }) =>"
            "sockets[0].onmessage({ data: JSON.stringify({ ...state, ...change(state) }) }));"
        )
        seen = Tab(context, shown)
        seen.phase("done")
        seen.drawn(*VIEWS)
        yield seen


def test_a_file_dropped_during_a_run_is_refused_in_words_that_stay(told):
    progress = "{ stage: 'Generating', fraction: 0.1, seconds_left: 3, warnings: [] }"
    run = f"tell(() => ({{ phase: 'running', progress: {progress} }}))"
    told.tab.evaluate(run)
    told.phase("running")
    dropped = told.tab.evaluate_handle(
        "() => { const d = new DataTransfer(); d.items.add(new File(['x'], 'second.png')); return d; }"
    )
    told.tab.dispatch_event("body", "drop", {"dataTransfer": dropped})
    told.tab.wait_for_selector("#message:has-text('wait for the present run')")
    told.tab.evaluate(run)
    assert told.tab.is_visible("#message"), "progress leaves it where it is"
    told.tab.evaluate("tell(() => ({ phase: 'done' }))")
    told.phase("done")
    assert told.tab.is_hidden("#message")


def test_lengths_of_one_result_are_not_shown_in_another(told):
    told.still()
    told.tab.click("button:has-text('Length')")
    told.drag("Red", (0.25, 0.5), (0.75, 0.5))
    assert told.tab.locator("[data-view=Red] svg text").count() == 1
    other = "{ results: state.results.map((one) => ({ ...one, id: 'another' })) }"
    told.tab.evaluate(f"tell((state) => ({other}))")
    told.until("document.querySelectorAll('[data-view=Red] svg text').length === 0")
    assert told.tab.is_hidden("#clear")


def test_only_loopback_is_asked_for_anything(opened):
    opened.phase("done")
    opened.drawn("Red")
    assert {host.split(":")[0] for host in opened.requested} == {"127.0.0.1"}


def test_a_trackpad_scrolls_by_what_it_has_moved(opened):
    opened.phase("done")
    opened.drawn(*VIEWS)
    assert opened.number("Red") == "13 / 16"
    opened.tab.hover(".view[data-view=Red] .box")
    for _ in range(20):
        opened.tab.mouse.wheel(0, 4)
    opened.tab.wait_for_selector(".view[data-view=Red] .number:has-text('11 / 16')")
    opened.tab.wait_for_timeout(400)
    assert opened.number("Red") == "11 / 16", "80 pixels are two slices"


def test_the_slider_and_the_keys_go_to_a_slice(opened):
    opened.phase("done")
    opened.drawn(*VIEWS)
    opened.tab.fill(".view[data-view=Green] .slice", "3")
    opened.tab.wait_for_selector(".view[data-view=Green] .number:has-text('3 / 24')")
    assert opened.number("Green") == "3 / 24"
    opened.tab.press(".view[data-view=Green] .box", "End")
    opened.tab.wait_for_selector(".view[data-view=Green] .number:has-text('24 / 24')")
    assert opened.number("Green") == "24 / 24"
    opened.tab.press(".view[data-view=Green] .box", "PageDown")
    opened.tab.wait_for_selector(".view[data-view=Green] .number:has-text('19 / 24')")
    assert opened.number("Green") == "19 / 24"


def test_keys_pan_and_zoom_a_plane_and_leave_its_slice(opened):
    opened.phase("done")
    opened.drawn(*VIEWS)
    opened.still()
    number, before = opened.number("Green"), opened.picture("Green")
    for key in ("Shift+ArrowRight", "+"):
        opened.redrawn("Green", lambda key=key: opened.tab.press(".view[data-view=Green] .box", key))
        opened.still()
        after = opened.picture("Green")
        assert np.abs(after - before).mean() > 0.5, key
        before = after
    assert opened.number("Green") == number


def test_the_tools_of_a_reader(opened):
    tab = opened.tab
    opened.phase("done")
    opened.drawn(*VIEWS)
    opened.still()
    box = tab.locator(".view[data-view=Red] .box").bounding_box()
    style = "document.querySelector('[data-view=Red] .line.%s').style.%s"
    left, top = (float(tab.evaluate(style % which)[:-1]) for which in (("down", "left"), ("across", "top")))
    tab.mouse.move(box["x"] + left * box["width"] / 100 + 2, box["y"] + top * box["height"] / 100 + 2)
    tab.wait_for_selector("[data-view=Red] .values:has-text('HU 700')")
    tab.click("text=Window >> visible=true")
    opened.redrawn("Red", lambda: opened.drag("Red", (0.5, 0.5), (0.6, 0.5)))
    opened.until("Number(document.getElementById('width').value) > 900")
    assert tab.input_value("#level") == "150"
    tab.click("button:has-text('Pan')")
    before = opened.picture("Green")
    opened.redrawn("Green", lambda: opened.drag("Green", (0.5, 0.5), (0.7, 0.5)))
    opened.still()
    assert np.abs(opened.picture("Green") - before).mean() > 0.5
    tab.click("button:has-text('Zoom')")
    opened.redrawn("Yellow", lambda: opened.drag("Yellow", (0.5, 0.5), (0.5, 0.3)))
    tab.click("button:has-text('Length')")
    opened.redrawn("Red", lambda: tab.press("[data-view=Red] .box", "r"))
    opened.drag("Red", (0.25, 0.5), (0.75, 0.5))
    text = tab.text_content("[data-view=Red] svg text")
    mm = float(text.split(" mm")[0])
    shown = tab.evaluate("import('./views.js').then((v) => v.placed.views.Red.extent[2])")
    assert mm == pytest.approx(shown / 2, rel=0.02)
    assert "(assumed)" in text, "the small result has no measured millimetres"
    tab.press("[data-view=Red] .box", "ArrowUp")
    opened.until("document.querySelectorAll('[data-view=Red] svg text').length === 0")
    tab.click("text=Clear lengths")
    assert tab.is_visible("text=mm assumed")
    assert opened.complaints == []


def test_the_rendering_turns_by_keys_and_a_view_is_maximised(opened):
    tab = opened.tab
    opened.phase("done")
    opened.drawn(*VIEWS)
    opened.still()
    opened.redrawn("3D", lambda: tab.press("[data-view='3D'] .box", "ArrowLeft"))
    small = tab.locator("[data-view=Red] .box").bounding_box()
    tab.press("[data-view=Red] .box", "m")
    large = tab.locator("[data-view=Red] .box").bounding_box()
    assert large["width"] > 1.5 * small["width"]
    assert tab.is_hidden("[data-view=Green] .box")
    tab.press("[data-view=Red] .box", "Escape")
    assert tab.is_visible("[data-view=Green] .box")


def test_a_screenshot_says_synthetic_and_holds_every_view(opened, pictures):
    opened.phase("done")
    opened.drawn(*VIEWS)
    pixels = screenshot_of(opened, pictures / "screenshot.png")
    assert orange(pixels[-46:-24]).sum() > 300, "the notice below all views"
    assert orange(pixels[: len(pixels) // 2]).sum() > 100


def test_a_narrow_screenshot_has_its_notice_in_legible_lines(opened, pictures):
    opened.phase("done")
    opened.tab.set_viewport_size({"width": 390, "height": 844})
    opened.drawn(*VIEWS)
    pixels = screenshot_of(opened, pictures / "screenshot-narrow.png")
    rows = orange(pixels[-110:]).any(axis=1)
    lines = np.count_nonzero(np.diff(rows.astype(int)) == 1) + int(rows[0])
    assert lines >= 3, "letters keep their width, so that the notice takes several lines"


def orange(pixels: np.ndarray) -> np.ndarray:
    """Where a picture has the colour of the notice."""
    return (pixels[..., 0] > 200) & (abs(pixels[..., 1] - 180) < 40) & (pixels[..., 2] < 120)


def test_a_finger_scrolls_and_two_fingers_zoom(browser, shown):
    if browser.browser_type.name != "chromium":
        pytest.skip("fingers are moved by Chromium's own protocol")
    with closing(browser.new_context(has_touch=True, viewport={"width": 390, "height": 844})) as context:
        seen = Tab(context, shown, (390, 844))
        seen.phase("done")
        seen.drawn("Red")
        seen.tab.locator("[data-view=Red] .box").scroll_into_view_if_needed()
        touch = context.new_cdp_session(seen.tab)
        box = seen.tab.locator("[data-view=Red] .box").bounding_box()
        y = box["y"] + box["height"] / 2

        def fingers(kind, *places):
            points = [{"x": x, "y": y, "id": number} for number, x in enumerate(places)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        fingers("touchStart", 200)
        for x in range(196, 160, -4):
            fingers("touchMove", x)
        fingers("touchEnd")
        seen.tab.wait_for_selector("[data-view=Red] .number:has-text('10 / 16')")
        width = "import('./views.js').then((v) => v.placed.views.Red.extent[2])"
        before = seen.tab.evaluate(width)
        fingers("touchStart", 180, 220)
        for apart in range(4, 60, 4):
            fingers("touchMove", 180 - apart, 220 + apart)
        fingers("touchEnd")
        seen.until(f"{width}.then((now) => now < {before / 1.5})")
        assert seen.complaints == []


def test_results_are_discarded_only_after_a_question(opened):
    tab = opened.tab
    opened.phase("done")
    tab.click("#results >> text=Discard")
    tab.click("dialog >> text=Keep it")
    opened.phase("done")
    tab.click("#start-over")
    opened.phase("empty")
    assert tab.is_visible("text=Results of this visit")
    tab.click("#earlier li button:first-child")
    opened.phase("done")
    tab.click("#results >> text=Discard")
    tab.click("dialog >> text=Discard it")
    opened.phase("empty")


def test_the_triage_pathway_answers_what_is_entered_and_says_research_use(opened, pictures):
    tab = opened.tab
    opened.phase("done")
    tab.click("#triage summary")
    tab.wait_for_selector("#triage-headline:has-text('Wells 0. Next: measure D-dimer.')")
    assert "Research use only" in tab.inner_text("#triage-notice")
    assert "score 0.25, below its operating point 0.50" in tab.inner_text("#triage-beside")
    tab.fill("[name=age]", "80")
    tab.fill("[name=d_dimer]", "750")
    tab.wait_for_selector("#triage-headline:has-text('excluded by D-dimer')")
    tab.click("text=Clinical signs of DVT (3)")
    tab.click("text=Heart rate over 100")
    tab.wait_for_selector("#triage-headline:has-text('Wells 4.5. Next: CTPA.')")
    assert "NICE NG158" in tab.inner_text("#triage-reasons")
    label = tab.get_attribute("#workflow", "aria-label")
    assert "Suspected PE, Wells score, CTPA. Research use only." in label
    assert tab.locator("#workflow rect.on").count() == 3
    assert "Research use only." in tab.text_content("#workflow")
    assert violations(tab) == []
    tab.set_viewport_size({"width": 1280, "height": 2600})
    tab.locator("#triage").screenshot(path=pictures / "page-triage.png", caret="initial")
    assert opened.complaints == []


def test_the_radiographs_own_grad_cam_can_be_chosen_where_there_is_a_second_opinion(browser, tmp_path):
    folder = add_second_opinion(
        write_result(tmp_path / "result"), np.full((120, 90), 0.2), (slice(40, 80), slice(20, 60))
    )
    with served(tmp_path / "temporary", folder) as page, new_context(browser) as context:
        seen = Tab(context, page)
        seen.phase("done")
        seen.drawn(*VIEWS)
        choice = seen.tab.locator("#overlay [value=radiograph_gradcam]")
        assert choice.get_attribute("hidden") is None
        assert "can be laid over the radiograph" in seen.tab.inner_text("#other-scores")
        before = seen.picture("XRay2CTPARadiograph")
        seen.redrawn("XRay2CTPARadiograph", lambda: seen.tab.select_option("#overlay", "radiograph_gradcam"))
        assert np.abs(seen.picture("XRay2CTPARadiograph") - before).max() > 60
        assert "of the second opinion" in seen.tab.inner_text("#bars")
        assert not seen.tab.is_disabled("#threshold")
        assert seen.complaints == []


def test_a_score_that_means_nothing_is_greyed_out_below_the_reason(browser, tmp_path, pictures):
    folder = write_result(tmp_path / "result", unreliable=UNLIKE)
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    opinion = {"probability": 0.61, "threshold": 0.5, "positive": True, "calibrated": True}
    record["pe"]["second_opinion"] = opinion | {"rests_on": "radiograph alone"}
    (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")
    with served(tmp_path / "temporary", folder) as page, new_context(browser) as context:
        seen = Tab(context, page)
        tab = seen.tab
        seen.phase("done")
        seen.drawn(*VIEWS)
        assert tab.inner_text("#unreliable") == UNLIKE
        assert tab.get_attribute("#scores", "aria-describedby") == "unreliable"
        greyed = tab.inner_text("#scores.greyed")
        for words in ("score 0.25", "Over 2 samples the score runs from 0.20 to 0.30", "Second opinion 0.61"):
            assert words in greyed
        grey, text = (tab.evaluate(COLOUR, name) for name in ("#score-text", "#sentences"))
        assert [tab.evaluate(COLOUR, name) for name in ("#other-scores li", "#opinion-key")] == [grey, grey]
        assert sum(grey) < sum(text) - 150, "darker than what is meant to be read"
        assert float(tab.evaluate("getComputedStyle(document.querySelector('#scale')).opacity")) < 0.5
        assert violations(tab) == [], "greyed out, and legible"
        tab.click("#triage summary")
        tab.wait_for_selector("#triage-beside:has-text('is not used')")
        beside = tab.inner_text("#triage-beside")
        assert beside == f"The score of the generated CTPA is not used. {UNLIKE}"
        assert "score,not used" in tab.text_content("#workflow").replace("\n", "")
        tab.click("#triage summary")
        said = screenshot_of(seen, pictures / "screenshot-unreliable.png")
        tab.evaluate("import('./page.js').then(({ state }) => { state.result.unreliable = null; })")
        assert said.shape[0] > screenshot_of(seen, pictures / "screenshot.png").shape[0] + 15, "one line more"
        assert seen.complaints == []


def test_a_score_that_nothing_speaks_against_is_not_greyed_out(opened):
    opened.phase("done")
    assert opened.tab.is_hidden("#unreliable")
    assert opened.tab.locator(".greyed").count() == 0


def screenshot_of(seen: Tab, path: Path) -> np.ndarray:
    """What the button Screenshot saves: (rows, columns, RGB)."""
    seen.still()
    assert seen.saved("#screenshot", path) == "SYNTHETIC-ctpa-view.png"
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def violations(tab) -> list[str]:
    """What axe-core finds wrong with names, roles, contrast and structure."""
    tab.evaluate(AXE)
    found = tab.evaluate("axe.run(document)")
    return [f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}" for one in found["violations"]]


def test_names_and_roles_are_right(browser, tmp_path, small_result):
    truth = tmp_path / "truth.nii.gz"
    write_volume(Volume(np.full(SHAPE, AIR_HU, np.float32), axial_affine(SHAPE, EXTENT_MM)), truth, np.int16)
    with (
        served(tmp_path / "temporary", small_result, "--truth", truth) as page,
        new_context(browser) as context,
    ):
        seen = Tab(context, page)
        seen.phase("done")
        assert violations(seen.tab) == []
        label = seen.tab.get_attribute("[data-view=Red] .box", "aria-label")
        assert label == "Axial, generated, SYNTHETIC"
        seen.tab.click("text=Compare with truth")
        seen.drawn("RedTruth")
        assert violations(seen.tab) == []
        assert seen.tab.get_attribute("[data-view=RedTruth] .box", "aria-label") == "Axial, true CTPA"
        assert "millimetres are assumed" in seen.tab.inner_text("#doubts")
        seen.tab.click("#start-over")
        seen.phase("empty")
        assert violations(seen.tab) == []
        stops = seen.tab.evaluate(
            "[...document.querySelectorAll('#choose *')].filter((e) => e.tabIndex >= 0).length"
        )
        assert stops == 4, "the file, the sample, the earlier result, and to discard it"
        seen.tab.click("#earlier >> text=Discard")
        assert violations(seen.tab) == [], "the question"
        seen.tab.click("dialog >> text=Keep it")
        seen.tab.set_input_files("#file", {"name": "x.txt", "mimeType": "text/plain", "buffer": b"x"})
        seen.tab.wait_for_selector("#message:has-text('x.txt')")
        assert violations(seen.tab) == [], "a message"


def test_names_and_roles_are_right_before_during_and_after_a_run(told):
    gate = "{ accepted: false, is_frontal_cxr: 0.1, warnings: ['It is a lateral view.'] }"
    ready = f"tell(() => ({{ phase: 'ready', verdict: {{ input: {{ notes: [] }}, gate: {gate} }} }}))"
    progress = "{ stage: 'Generating', fraction: 0.1, seconds_left: 3, warnings: [] }"
    for change, phase in (
        ("tell(() => ({ phase: 'checking' }))", "checking"),
        (ready, "ready"),
        (f"tell(() => ({{ phase: 'running', progress: {progress} }}))", "running"),
        ("tell(() => ({ phase: 'opening' }))", "opening"),
        ("WebSocket = class {}; sockets[0].close()", "lost"),  # it stays lost
    ):
        told.tab.evaluate(change)
        told.phase(phase)
        assert violations(told.tab) == [], phase
    assert told.tab.is_visible("#message")


def test_escape_gives_a_maximised_view_back_wherever_the_focus_is(opened):
    opened.phase("done")
    opened.drawn("Red")
    opened.tab.click("[data-view=Red] .maximise")
    assert opened.tab.is_hidden("[data-view=Green] .box")
    opened.tab.keyboard.press("Escape")
    assert opened.tab.is_visible("[data-view=Green] .box")


def test_a_download_that_fails_says_why_and_the_page_stays(browser, tmp_path, small_result):
    with served(tmp_path / "temporary", small_result) as page, new_context(browser) as context:
        seen = Tab(context, page)
        seen.phase("done")
        assert seen.saved("#download", tmp_path / "result.zip") == "SYNTHETIC-radiograph-ctpa.zip"
        assert zipfile.is_zipfile(tmp_path / "result.zip")
        (small_result / "ctpa.nii.gz").unlink()
        seen.tab.click("#download")
        seen.tab.wait_for_selector("#message:has-text('ctpa.nii.gz')")
        assert str(tmp_path) not in seen.tab.inner_text("#message")
        seen.phase("done")
        assert seen.complaints == []
