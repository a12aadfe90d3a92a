"""The page in headless Firefox: rows of test_page, all of which run there by XRAY2CTPA_BROWSER=firefox."""

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("axe_playwright_python")

from test_page import (  # noqa: F401
    opened,
    test_a_lost_connection_comes_back_by_itself,
    test_a_screenshot_says_synthetic_and_holds_every_view,
    test_a_trackpad_scrolls_by_what_it_has_moved,
    test_compare_shows_generated_true_and_difference,
    test_names_and_roles_are_right,
    test_only_loopback_is_asked_for_anything,
    test_results_are_discarded_only_after_a_question,
    test_the_planes_show_the_volume_and_left_is_left,
    test_the_rendering_turns_by_keys_and_a_view_is_maximised,
    test_the_slider_and_the_keys_go_to_a_slice,
    test_the_tools_of_a_reader,
    test_wheel_click_and_sliders_change_what_is_seen,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser_kind() -> str:
    """Headless Firefox; a visible skip where there is none."""
    return "firefox"
