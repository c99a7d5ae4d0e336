"""The page in a real browser, where one is installed: what runs, and what must not."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support import fake_records as fake
from support import fake_translations as translations

from paretune.reporting.build import build_report
from paretune.reporting.page import write_page

pytestmark = pytest.mark.thorough

BROWSER = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), ""
)
needs_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome is installed")
EVIL = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>${1}'+1+'"


def dom(page: Path, folder: Path) -> str:
    """The document after its scripts have run, and its console on stderr."""
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder}", "--window-size=1200,900", "--virtual-time-budget=8000",
            "--enable-logging=stderr", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    messages = re.findall(r"CONSOLE[^\n]*", done.stderr)
    assert messages == []  # no error, and nothing that the page's own policy refused
    return done.stdout


@pytest.mark.wide
@needs_browser
def test_the_front_is_drawn_and_hostile_names_do_not_run(tmp_path: Path) -> None:
    study = fake.study(
        models=[{"name": "m", "label": EVIL}],
        methods=["full", {"name": "lora", "label": EVIL}],
    )
    page = write_page(build_report(study, fake.whole(study)), tmp_path / "r.html")
    html = dom(page, tmp_path / "browser")
    assert "<title>sample · paretune</title>" in html
    assert len(re.findall(r'data-part="chart"[^>]*>\s*<svg', html)) == 1
    assert re.search(r'id="front-still"[^>]*hidden', html)
    assert "trained parameters</option>" in html
    assert "No budget: move the slider" in html
    assert 'aria-label="Sort by peak memory"' in html and ">Copy</button>" in html
    # Two selects of methods for each task, with every configuration in them.
    assert html.count("linear probe</option>") == 4


@needs_browser
def test_a_page_without_a_front_has_no_library_and_no_error(tmp_path: Path) -> None:
    study = fake.study()
    page = write_page(build_report(study, []), tmp_path / "r.html")
    assert "<script" not in page.read_text("utf-8")
    assert "nothing has been trained yet" in dom(page, tmp_path / "browser")


@needs_browser
def test_hostile_translations_do_not_run(tmp_path: Path) -> None:
    study = translations.study()
    records = [
        replace(
            r,
            predictions={
                name: replace(part, prediction=(EVIL, *part.prediction[1:]))
                for name, part in r.predictions.items()
            },
        )
        for r in translations.whole(study)
    ]
    html = dom(write_page(build_report(study, records), tmp_path / "r.html"), tmp_path / "browser")
    assert "<title>help · paretune</title>" in html
    assert "<img src=x" not in html.replace("&lt;", "<!")
    assert html.count("copied source</option>") == 2
