"""The page in a real browser: how it looks, what its controls do, and what must not run.

Without Chromium and its driver these tests are skipped; where ``CI`` is true they fail.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.reporting.page import write_page

pytestmark = pytest.mark.thorough

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip
EVIL = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>${1}'+1+'"
METHOD_LABELS = {
    "lora": EVIL,
    "loha": "שלום (a) مرحبا \u202e<b>",
    "prompt": "x" * 100,
    "ia3": "a label of many words " * 4,
    "bitfit": "\"'`&amp;\\",
}
MEASURE_CONTRASTS = Path(__file__).with_name("contrasts.js").read_text("utf-8")


def find_programs() -> tuple[str, str]:
    """Paths of a browser and its driver; skips the test without them, and fails it in CI."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    reason = "needs Chromium or Chrome, and chromedriver (Debian: chromium, chromium-driver)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    program, driver = find_programs()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # With its path Selenium looks for no driver to download.
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


def show(browser: Any, page: Path, width: int = 1400, scheme: str = "light") -> None:
    """Open a page and wait for its chart, where it has one that a script draws."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get_log("browser")  # of the page before
    browser.get(page.as_uri())
    stills = find(browser, "#front-still")
    wait_until(browser, lambda: not any(still.is_displayed() for still in stills))


def wait_until(browser: Any, holds: Callable[[], bool]) -> None:
    """Wait for a script of the page; TimeoutException after a minute."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 60, poll_frequency=0.05).until(lambda _: holds())


def find(browser: Any, selector: str) -> list[Any]:
    elements: list[Any] = browser.find_elements("css selector", selector)
    return elements


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two tasks, whose names no study would choose."""
    labels = ["<b>yes</b>", "\u202egnp.exe", "n" * 100]
    study = fake.study(
        tasks=[{**fake.own_task("topics"), "labels": labels}, fake.own_task("t" * 100)],
        models=[{"name": "m", "label": "m" * 100}],
        methods=["full", *METHOD_LABELS],
    )
    study = fake.labelled(study, METHOD_LABELS)
    report = build_report(study, fake.whole(study))
    return write_page(report, tmp_path_factory.mktemp("page") / "r.html")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1400, "light"),
        (390, "dark"),
        (1400, "dark"),
        (390, "light"),
    ],
)
def test_a_finished_study_fits_any_screen_is_legible_and_runs_no_name(
    browser: Any, hostile_page: Path, width: int, scheme: str
) -> None:
    show(browser, hostile_page, width, scheme)
    assert len(find(browser, "#front-live [data-part=chart] > svg")) == 1
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    is_dark = sum(map(int, re.findall(r"\d+", background))) < 3 * 128
    assert is_dark == (scheme == "dark")
    browser.execute_script(
        "document.querySelectorAll('details').forEach((e) => { e.open = true; })"
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    if width == 1400:  # long names leave room for the numbers beside them
        for box in find(browser, ".scroll")[:3]:
            assert box.get_property("scrollWidth") == box.get_property("clientWidth")
    too_pale = browser.execute_script(MEASURE_CONTRASTS, 4.5)
    assert too_pale == []
    assert browser.title == "sample · paretune" and not find(browser, "img, td b, th b")
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [1400, 390])
def test_the_controls_of_a_page(browser: Any, hostile_page: Path, width: int) -> None:
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.select import Select

    show(browser, hostile_page, width)
    (slide,), (number,), (sentence,) = (
        find(browser, f"#front-live [data-part={name}]") for name in ("slide", "number", "said")
    )

    def wait_until_faded(number: int) -> None:
        faded = "#front-live svg text[opacity='0.3']"
        wait_until(browser, lambda: len(find(browser, faded)) == number)

    assert sentence.text.startswith("No budget: move the slider")
    slide.send_keys(Keys.HOME)
    assert sentence.text.startswith("0 of 7 fit into") and float(number.get_attribute("value")) > 0
    wait_until_faded(7)
    slide.send_keys(Keys.PAGE_UP * 5)
    assert re.match(
        r"6 of 7 fit into 1\.\d+ GiB of peak memory in training; the highest", sentence.text
    )
    wait_until_faded(1)
    slide.send_keys(Keys.END)
    wait_until_faded(0)
    assert sentence.text.startswith("No budget")
    (task,) = find(browser, "#front-live [data-part=task]")
    Select(task).select_by_index(1)
    assert "t" * 100 in find(browser, "#front-title")[0].text

    table = find(browser, "table.sortable")[2]  # scores beside the baselines
    button = table.find_element("css selector", 'button[aria-label^="Sort by score"]')
    column = 1 + table.find_elements("tag name", "button").index(button)
    for direction in ("descending", "ascending"):
        button.click()
        cells = table.find_elements("css selector", f"tbody tr > :nth-child({column})")
        scores = [float(re.search(r"\d\.\d+", cell.text)[0]) for cell in cells]
        assert len(set(scores)) > 3
        assert scores == sorted(scores, reverse=direction == "descending")
        sorted_heads = table.find_elements("css selector", "[aria-sort]")
        assert [head.get_attribute("aria-sort") for head in sorted_heads] == [direction]

    find(browser, "code.command + button")[0].click()
    find(browser, "details:has(.disagree-data) > summary")[0].click()
    first, second = (
        find(browser, f"#disagree-1 [data-part={name}]")[0] for name in ("first", "second")
    )
    Select(first).select_by_index(1)
    Select(second).select_by_index(3)
    caption = find(browser, "#disagree-1 caption")[0].text
    assert caption.startswith(f"{METHOD_LABELS['lora']} beside {METHOD_LABELS['prompt']}")
    Select(first).select_by_index(3)
    assert find(browser, "#disagree-1 [data-part=same]")[0].is_displayed()
    assert browser.get_log("browser") == []


def test_five_tasks_and_the_memory_stand_beside_each_other(browser: Any, tmp_path: Path) -> None:
    tasks = [
        fake.own_task(name) for name in ("sib200", "rte-en", "boolq-en", "complaints", "routing")
    ]
    study = fake.study(tasks=tasks, methods=["full", "prompt"])
    show(browser, write_page(build_report(study, fake.whole(study)), tmp_path / "r.html"))
    table = find(browser, ".matrix")[0]
    assert "take" in table.text and "constant" in table.text and "1.85 GiB" in table.text
    (box,) = find(browser, ".scroll:has(.matrix)")
    assert box.get_property("scrollWidth") == box.get_property("clientWidth")


def test_a_page_without_a_front_has_no_library_and_no_error(browser: Any, tmp_path: Path) -> None:
    study = fake.study()
    page = write_page(build_report(study, []), tmp_path / "r.html")
    assert "<script" not in page.read_text("utf-8")
    show(browser, page)
    assert "Nothing has been trained yet" in browser.page_source
    assert browser.get_log("browser") == []


def test_hostile_translations_do_not_run(browser: Any, tmp_path: Path) -> None:
    study = fake.translation_study()
    records = [
        replace(
            r,
            predictions={
                name: replace(part, prediction=(EVIL, *part.prediction[1:]))
                for name, part in r.predictions.items()
            },
        )
        for r in fake.whole(study)
    ]
    show(browser, write_page(build_report(study, records), tmp_path / "r.html"))
    assert browser.title == "help · paretune" and not find(browser, "img")
    assert browser.page_source.count("copied source</option>") == 2
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail), ("", pytest.skip)])
def test_without_a_browser_these_tests_are_skipped_and_in_ci_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str, outcome: Any
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(outcome.Exception, match="chromium-driver"):
        find_programs()
