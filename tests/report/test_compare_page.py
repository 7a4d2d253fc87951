"""The page of two runs in a real browser: curves drawn, hostile names shown as text, nothing fetched."""

from dataclasses import replace
from pathlib import Path

import pytest

import defib as package
from defib.core.comparison import RunComparison
from defib.report.comparison_page import comparison_page

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "\u202egnp",
    "x" * 10_000,
)


@pytest.fixture(scope="module")
def comparison(dying, treated) -> RunComparison:
    """Real runs, with layers, settings and curves renamed."""
    found = package.compare(dying, treated)
    bad = tuple(replace(found.findings[0], layer=name, message=f"{name} is dead") for name in HOSTILE)
    curves = tuple(replace(found.curves[0], name=name) for name in HOSTILE)
    settings = tuple(replace(s, what=HOSTILE[0], name=HOSTILE[1], before=HOSTILE[3]) for s in found.settings)
    side = replace(found.before, path=HOSTILE[0], status=HOSTILE[1])
    return replace(
        found,
        before=side,
        findings=(*found.findings, *bad),
        curves=(*found.curves, *curves),
        settings=settings,
    )


def test_the_page_is_one_file_with_nothing_of_the_data_as_markup(comparison):
    page = comparison_page(comparison)
    assert "<img src=x" not in page
    assert "</script><script>window" not in page
    assert "\u202e" not in page
    assert "Content-Security-Policy" in page
    assert len(page) < 600_000


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_draws_the_curves_and_runs_nothing_else(comparison, tmp_path, width, scheme):
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("no Chromium at /usr/bin/chromium")
    place = tmp_path / "compare.html"
    place.write_text(comparison_page(comparison), encoding="utf-8")
    said: list[str] = []
    asked: list[str] = []
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda m: said.append(m.text))
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("request", lambda r: asked.append(r.url))
        page.goto(place.as_uri())
        page.wait_for_selector("canvas")
        inked = page.evaluate(
            "Array.from(document.querySelectorAll('canvas'), (c) => {"
            " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            " const seen = new Set();"
            " for (let i = 0; i < d.length; i += 4)"
            "  if (d[i + 3]) seen.add([d[i] >> 5, d[i + 1] >> 5, d[i + 2] >> 5].join());"
            " return seen.size; })"
        )
        text = page.inner_text("main")
        hacked = page.evaluate("window.hacked")
        wide = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert said == []
    assert asked == [place.as_uri()]
    assert hacked is None
    assert len(inked) >= 1 + len(HOSTILE)
    assert min(inked) > 3
    assert "window.hacked=1" in text
    assert "x" * 400 not in text
    assert wide <= width
