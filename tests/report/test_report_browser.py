"""The page in a real browser, opened from its file: drawn, read, zoomed, typed at, printed."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from report_runs import HOSTILE, STEPS, trained, written

from defib.report.html import page
from defib.views import portray

CHROMIUM = os.environ.get("DEFIB_CHROMIUM", "/usr/bin/chromium")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"there is no Chromium at {CHROMIUM}")


@dataclass
class Visit:
    """An open page, what it complained about and what it asked for."""

    tab: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def value(self, script: str) -> Any:
        return self.tab.evaluate(script)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def payloads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("pages")
    from defib.api import open_run
    from defib.therapy.engine import prescribe

    sick = open_run(trained(folder / "sick.rec"))
    diagnosis = sick.diagnose()
    return {
        "run": portray(written(folder / "run.rec", broken_loss=True)),
        "sick": portray(sick, diagnosis=diagnosis, prescriptions=prescribe(diagnosis, sick.view)),
        "hostile": portray(written(folder / "hostile.rec", HOSTILE, units=6)),
    }


@pytest.fixture
def visit(browser: Any, payloads: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    """Opens a page from its file; at the end it must have asked for nothing and complained about nothing."""
    contexts = []

    def open_page(
        name: str, width: int = 1280, scheme: str = "light", *, more: dict[str, Any] | None = None
    ) -> Visit:
        path = tmp_path / f"{name}-{width}.html"
        path.write_text(page(payloads[name] | (more or {})), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        seen = Visit(tab=context.new_page())
        # that our own reading of pixels is slow is said by the browser, not by the page
        seen.tab.on("console", lambda m: "willRead" in m.text or seen.complaints.append(m.text))
        seen.tab.on("pageerror", lambda e: seen.complaints.append(str(e)))
        seen.tab.on("request", lambda r: seen.requests.append(r.url))
        seen.tab.goto(path.as_uri())
        for _ in range(100):  # the page's policy forbids what playwright waits with
            if seen.value(PAINTED):
                break
            seen.tab.wait_for_timeout(50)
        seen.tab.wait_for_timeout(50)
        visits.append((seen, path))
        return seen

    visits: list[tuple[Visit, Path]] = []
    yield open_page
    for seen, path in visits:
        assert seen.complaints == []
        assert seen.requests == [path.as_uri()]
    for context in contexts:
        context.close()


PAINTED = "window.defib && defib.data && defib.drawn.every((c) => c.plot && (c.g !== null || !c.grid))"

INKED = """() => Array.from(document.querySelectorAll('.plot')).map((box) => {
  const canvas = box.querySelector('canvas');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Map();
  for (let i = 0; i < data.length; i += 4) {
    const key = data[i] + ',' + data[i + 1] + ',' + data[i + 2] + ',' + data[i + 3];
    colours.set(key, (colours.get(key) || 0) + 1);
  }
  return { label: box.getAttribute('aria-label'), clear: colours.get('0,0,0,0') || 0,
           colours: colours.size, pixels: data.length / 4 };
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_plot_is_drawn(visit: Any, scheme: str) -> None:
    seen = visit("sick", scheme=scheme)
    plots = seen.value(INKED)
    assert len(plots) >= 8
    for plot in plots:
        inked = plot["pixels"] - plot["clear"]
        assert inked > 300, plot
        assert plot["colours"] > 3, plot
    assert seen.value("document.querySelectorAll('#network rect.derivative').length") >= 1
    assert seen.value("document.querySelectorAll('#network .spread .end .std').length") >= 2
    assert seen.value("document.querySelectorAll('svg.flow circle').length") == 3


def test_a_curve_is_drawn_in_its_own_colour(visit: Any) -> None:
    seen = visit("run")
    found = seen.value("""() => {
      const canvas = document.querySelector('[data-key="plot:loss"] canvas');
      const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      let n = 0;
      const blue = [0, 114, 178, 255];
      for (let i = 0; i < data.length; i += 4) if (blue.every((c, k) => data[i + k] === c)) n++;
      return n;
    }""")
    assert found > 100


def test_a_large_number_beside_an_axis_is_short_enough_for_its_place(visit: Any) -> None:
    seen = visit("run")
    said = seen.value("[0, 0.05, 10000, 999999, 1e6, 1e10, 2.5e16, -1e13, 1e100].map(defib.tick)")
    assert said == ["0", "0.05", "10,000", "999,999", "1e6", "1e10", "2.5e16", "-1e13", "1e100"]
    assert max(map(len, said)) <= 8


@pytest.mark.parametrize("width", [1400, 400])
def test_every_heat_map_says_what_grey_is_and_its_legend_breaks_between_entries_only(
    visit: Any, width: int
) -> None:
    seen = visit("sick", width=width)
    legends = seen.value("""[...document.querySelectorAll('.scale')].map(one => ({
      text: one.textContent,
      torn: [...one.querySelectorAll('.sample')].some(s => s.getClientRects().length > 1
        || s.getBoundingClientRect().height > 24),
    }))""")
    assert len(legends) >= 2
    for legend in legends:
        assert "not read" in legend["text"]
        assert not legend["torn"]


def test_a_heat_map_shows_each_share_in_its_colour(visit: Any) -> None:
    seen = visit("run")
    found, wanted = seen.value("""() => {
      const chart = defib.drawn.find((c) => c.spec && c.spec.key === 'liveness');
      const context = chart.plot.getContext('2d');
      const at = (row, share) => Array.from(context.getImageData(
        chart.g.left + share * chart.g.inner, 6 + (row + 0.5) * chart.g.tall, 1, 1).data).slice(0, 3);
      return [[at(1, 0.9), at(2, 0.2), at(2, 0.9)], [defib.ramp(1), defib.ramp(1), defib.ramp(2 / 3)]];
    }""")
    for colour, expected in zip(found, wanted, strict=True):
        assert colour == pytest.approx(expected, abs=3)


def test_the_verdict_stands_first_and_the_finding_is_told_with_its_prescription(visit: Any) -> None:
    seen = visit("sick")
    assert seen.tab.locator("h1").inner_text().startswith("16 of 16 units of layer 2")
    card = seen.tab.locator("article.card").first
    assert "dead-unit" in card.inner_text()
    assert card.locator(".prescriptions .command code").first.inner_text().startswith("defib ")
    assert seen.tab.locator("#coverage").inner_text().count("3 of 3 layers") == 1


def test_a_click_on_a_layer_shows_each_of_its_units(visit: Any) -> None:
    seen = visit("run")
    assert not seen.tab.locator("#layer").is_visible()
    heat = seen.tab.locator('[data-key="plot:liveness"] canvas')
    box = heat.bounding_box()
    heat.click(position={"x": box["width"] * 0.7, "y": 6 + 18 * 2.5})
    assert seen.tab.locator("#layer h2").inner_text() == "Layer body.1"
    assert "from step 0" in seen.tab.locator("#layer table").inner_text()
    assert seen.tab.locator('#layer [data-key="plot:units:2"] canvas').is_visible()
    seen.tab.locator("#layer .close").click()
    assert not seen.tab.locator("#layer").is_visible()
    seen.tab.locator("#network .layer button").nth(1).click()
    assert seen.tab.locator("#layer h2").inner_text() == "Layer body.0"


def test_a_drag_zooms_all_plots_and_a_double_click_shows_all_again(visit: Any) -> None:
    seen = visit("run")
    over = seen.tab.locator('[data-key="plot:loss"] .u-over')
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    y = box["y"] + 40
    seen.tab.mouse.move(box["x"] + box["width"] * 0.25, y)
    seen.tab.mouse.down()
    seen.tab.mouse.move(box["x"] + box["width"] * 0.75, y, steps=5)
    seen.tab.mouse.up()
    low, high = seen.value("defib.state.range")
    assert low == pytest.approx(STEPS * 0.25, abs=5)
    assert high == pytest.approx(STEPS * 0.75, abs=5)
    scales = seen.value(
        "defib.drawn.map((c) => c.plot.scales).filter(Boolean).map((s) => [s.x.min, s.x.max])"
    )
    assert len(scales) >= 4
    assert all(s == [low, high] for s in scales)
    over.dblclick(position={"x": 100, "y": 30})
    assert seen.value("defib.state.range") is None


def test_a_heat_map_is_read_and_zoomed_with_the_keyboard_alone(visit: Any) -> None:
    seen = visit("run")
    plot = seen.tab.locator('[data-key="plot:liveness"]')
    plot.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "End"):
        plot.press(key)
    readout = seen.tab.locator('[data-key="plot:liveness"] + .under .readout')
    said = readout.inner_text()
    assert said.startswith("body.1, step 39")
    assert "67 %" in said
    plot.press("+")
    assert seen.value("defib.state.range") == [STEPS / 4, STEPS * 3 / 4]
    plot.press("0")
    assert seen.value("defib.state.range") is None
    plot.press("Enter")
    assert seen.value("defib.state.chosen") == 2
    seen.tab.locator("#layer .close").focus()
    seen.tab.keyboard.press("Escape")
    assert seen.value("defib.state.chosen") is None
    assert seen.value("document.activeElement.dataset.key") == "layer:2"


def test_charts_that_leave_the_page_let_go_of_it(visit: Any) -> None:
    seen = visit("run")
    before = seen.value("defib.drawn.length")
    destroyed = seen.value("""() => {
      let count = 0;
      for (const chart of defib.drawn) {
        const old = chart.plot.destroy;
        if (old) chart.plot.destroy = () => { count++; old(); };
      }
      for (let i = 0; i < 5; i++) defib.redraw('time');
      return count;
    }""")
    assert destroyed >= 2
    assert seen.value("defib.drawn.length") == before


def test_a_curve_is_read_with_the_arrow_keys(visit: Any) -> None:
    seen = visit("run")
    plot = seen.tab.locator('[data-key="plot:loss"]')
    plot.focus()
    plot.press("ArrowRight")
    plot.press("ArrowRight")
    assert seen.tab.locator('[data-key="plot:loss"] + .readout').inner_text().startswith("step 1: 2.2")


def test_everything_can_be_reached_by_the_tab_key_in_the_order_of_the_page(visit: Any) -> None:
    seen = visit("sick")
    tops, keys = [], []
    for _ in range(60):
        seen.tab.keyboard.press("Tab")
        found = seen.value("""() => {
          const a = document.activeElement;
          const said = a.className + '|' + (a.getAttribute('aria-label') || a.textContent).slice(0, 40);
          return a === document.body ? null : [a.getBoundingClientRect().top + scrollY, said];
        }""")
        if found is None:
            break
        tops.append(found[0])
        keys.append(found[1])
    assert keys[0].startswith("skip")
    assert any("plot" in key for key in keys)
    assert any("copy" in key for key in keys)
    main = [top for top, key in zip(tops, keys, strict=True) if "plot" in key or "link" in key]
    assert main == sorted(main)


def test_every_plot_has_a_name_and_those_outside_cards_a_table(visit: Any) -> None:
    seen = visit("run")
    labels = seen.value(
        "Array.from(document.querySelectorAll('.plot')).map((p) => p.getAttribute('aria-label'))"
    )
    assert labels
    assert all(len(label) > 20 for label in labels)
    tables = seen.tab.locator("#time details.as-table")
    assert tables.count() == 4
    tables.nth(1).locator("summary").click()
    rows = seen.tab.locator("#time details.as-table").nth(1).locator("tbody tr")
    rows.first.wait_for()
    assert rows.count() == 4
    assert rows.nth(2).inner_text().startswith("body.1")


def test_the_dark_page_is_dark_by_preference_and_by_the_button(visit: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = visit("run"), visit("run", scheme="dark")
    assert light.value(ground) == "rgb(255, 255, 255)"
    assert dark.value(ground) == "rgb(20, 20, 19)"
    corner = """() => Array.from(document.querySelector('[data-key="plot:liveness"] canvas').getContext('2d')
      .getImageData(0, 0, 400, 60).data).join()"""
    before = light.value(corner)
    light.tab.locator("#theme").click()
    assert light.value(ground) == "rgb(20, 20, 19)"
    assert light.value(corner) != before
    light.tab.locator("#theme").click()
    assert light.value(corner) == before


@pytest.mark.parametrize("width", [320, 390, 800, 1280])
@pytest.mark.parametrize("name", ["sick", "hostile"])
def test_nothing_is_wider_than_the_screen(visit: Any, name: str, width: int) -> None:
    seen = visit(name, width)
    assert seen.value("document.documentElement.scrollWidth") <= width


def test_hostile_names_are_text_everywhere(visit: Any) -> None:
    seen = visit("hostile")
    for i in range(len(HOSTILE)):
        seen.value(f"defib.choose({i}, true)")
    seen.value("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    seen.value("defib.state.as.gradient = 'lines'; defib.redraw('time')")
    seen.tab.wait_for_timeout(200)
    assert seen.value("window.hacked") is None
    assert (
        seen.value(
            "document.querySelectorAll('main img, main script, main iframe, [onerror], [onload]').length"
        )
        == 0
    )
    shown = seen.value(
        "Array.from(document.querySelectorAll('#network .layer button')).map((b) => b.textContent)"
    )
    wanted = seen.value(f"{json.dumps(list(HOSTILE))}.map((n) => n ? defib.name(n, 34) : '(whole model)')")
    assert len(shown) == len(HOSTILE)
    assert sorted(shown) == sorted(wanted)
    text = seen.value("document.body.innerText")
    assert not set("\u202e\u2066\u2069\x1b") & set(text)
    assert "\\u202e" in text


def test_a_script_that_is_no_part_of_the_page_does_not_run(visit: Any) -> None:
    seen = visit("run")
    blocked = seen.value("""async () => {
      const said = [];
      document.addEventListener('securitypolicyviolation', (e) => said.push(e.effectiveDirective));
      const script = document.createElement('script');
      script.textContent = 'window.hacked = 1';
      document.body.append(script);
      await fetch('https://example.invalid/').catch(() => null);
      await new Promise((r) => setTimeout(r, 100));
      return said;
    }""")
    assert sorted(set(blocked)) == ["connect-src", "script-src-elem"]
    assert seen.value("window.hacked") is None
    seen.complaints.clear()  # the browser says that it refused them
    del seen.requests[1:]


def test_an_update_changes_what_is_new_and_keeps_what_the_reader_did(visit: Any) -> None:
    seen = visit("run")
    seen.value("defib.choose(1, true); defib.zoom([100, 300])")
    seen.value("document.querySelector('#coverage dl').mine = true")
    seen.tab.locator("#time details.as-table summary").first.click()
    seen.tab.locator('[data-key="plot:liveness"]').focus()
    seen.value("""() => {
      const next = JSON.parse(JSON.stringify(defib.data));
      next.verdict.sentence = 'Another sentence.';
      next.layers[3].silent = 5;
      next.loss[0].values[10] = 7;
      window.kept = document.querySelectorAll('#network tbody tr')[0];
      defib.update(next);
    }""")
    seen.tab.wait_for_timeout(150)
    assert seen.tab.locator("h1").inner_text() == "Another sentence."
    assert "5 of 24 get none" in seen.tab.locator("#network tbody tr").nth(3).inner_text()
    assert seen.value("document.querySelectorAll('#network tbody tr')[0] === window.kept")
    assert seen.value("document.querySelector('#coverage dl').mine") is True
    assert seen.value("defib.state.range") == [100, 300]
    assert seen.tab.locator("#layer h2").inner_text() == "Layer body.0"
    assert seen.tab.locator("#time details.as-table").first.get_attribute("open") is not None
    assert seen.value("document.activeElement.dataset.key") == "plot:liveness"


def test_on_paper_everything_stands_open_in_the_colours_of_day(visit: Any) -> None:
    seen = visit("sick", scheme="dark")
    assert seen.tab.locator("#rules h4").count() == 0
    seen.tab.emulate_media(media="print", color_scheme="dark")
    seen.value("window.dispatchEvent(new Event('beforeprint'))")
    assert seen.value("Array.from(document.querySelectorAll('details')).every((d) => d.open)")
    assert seen.tab.locator("#rules h4").count() > 3
    assert seen.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not seen.tab.locator("header.bar").is_visible()
    seen.value("window.dispatchEvent(new Event('afterprint'))")
    assert seen.value("getComputedStyle(document.body).backgroundColor") == "rgb(20, 20, 19)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_small_text_stands_out_from_its_ground(visit: Any, scheme: str) -> None:
    seen = visit("run", scheme=scheme)
    for ground in ("ground", "raised"):
        below = _luminance(seen.value(f"defib.colour('{ground}')"))
        for ink in ("ink", "ink-2", "ink-3", "accent", "good", "bad", "warn"):
            above = _luminance(seen.value(f"defib.colour('{ink}')"))
            contrast = (max(above, below) + 0.05) / (min(above, below) + 0.05)
            assert contrast >= 4.5, (ink, ground, contrast)


def _luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
