"""The pages in a real Chromium: refreshing, schemes, widths, keyboard, and what a screen reader finds."""

from __future__ import annotations

from typing import Any

import pytest

from support.synced import DOCS

ALL = (
    "/pipelines", "/pipelines/support_tickets", "/pipelines/products", "/pipelines/reviews", "/pipelines/wiki",
    "/runs", "/dead-letters", "/workers", "/pipelines/gone",
)  # fmt: skip
REFRESH = 5_500
"""Milliseconds in which a page refreshes itself once."""
HIDDEN = """
Object.defineProperty(document, 'hidden', {configurable: true, get: () => window.isHidden ?? false});
"""
CONTRAST = """
() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || element.closest('svg, .sr, noscript')) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)}: ${walker.currentNode.textContent.trim().slice(0, 40)}`);
  }
  return poor;
}
"""
LABELLED = """
() => [
  ...[...document.querySelectorAll('table')].filter((t) => !t.querySelector('thead th[scope=col]') || !t.querySelector('tbody th[scope=row]'))
    .map(() => 'a table without headers'),
  ...[...document.querySelectorAll('svg:not([aria-hidden])')].filter((s) => s.getAttribute('role') !== 'img' || !s.getAttribute('aria-label'))
    .map((s) => 'a picture without a text: ' + s.outerHTML.slice(0, 80)),
  ...[...document.querySelectorAll('input, select')].filter((i) => !i.labels.length).map((i) => 'a field without a label: ' + i.name),
  ...[...document.querySelectorAll('nav, section, [role=region]')]
    .filter((n) => !n.getAttribute('aria-label') && !document.getElementById(n.getAttribute('aria-labelledby')) && !n.matches('.first, .failed'))
    .map((n) => 'a landmark without a name: ' + n.outerHTML.slice(0, 80)),
  ...['header', 'nav', 'main'].filter((name) => !document.querySelector(name)).map((name) => 'missing: ' + name),
  ...(document.querySelectorAll('h1').length === 1 ? [] : ['not exactly one h1']),
  ...(document.documentElement.lang ? [] : ['no language']),
  ...[...document.querySelectorAll('[id]')].map((e) => e.id).filter((id, i, ids) => ids.indexOf(id) !== i).map((id) => 'twice: ' + id),
]
"""


class Looking:
    """A tab, and everything that it has requested and complained about."""

    def __init__(self, browser: Any, **how: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 700}, **how)
        self.tab = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", lambda message: self.complaints.append(message.text))

    def asked_for(self, path: str) -> int:
        """How often it has requested a path. The browser requests the icon whenever it likes."""
        return sum(url.endswith(path) for url in self.requests)


@pytest.fixture
def look(browser):
    opened = []

    def open_tab(**how):
        opened.append(Looking(browser, **how))
        return opened[-1]

    yield open_tab
    for each in opened:
        each.context.close()


@pytest.fixture
def docs(pages):
    pages.synced.run(DOCS)
    pages.synced.pipeline()
    return pages


@pytest.mark.slow
def test_a_page_refreshes_itself_and_keeps_focus_scroll_and_what_was_typed(docs, look):
    looking = look()
    tab = looking.tab
    tab.set_viewport_size({"width": 600, "height": 150})
    tab.clock.install()
    tab.goto(f"{docs.server.url}/pipelines")
    tab.fill("input[name=q]", "half a na")
    tab.focus("a[href='/pipelines/docs']")
    tab.evaluate("scrollTo(0, 60)")
    docs.synced.run("UPDATE pgvector_sync.pipeline SET state = 'paused', reason = 'by hand'")
    assert tab.get_by_text("by hand").count() == 0
    tab.clock.run_for(REFRESH)
    tab.get_by_text("by hand").first.wait_for()
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "/pipelines/docs"
    assert tab.evaluate("scrollY") == 60
    assert tab.input_value("input[name=q]") == "half a na"
    assert looking.complaints == []


@pytest.mark.slow
def test_a_page_says_when_its_data_is_old_and_recovers(docs, look):
    tab = look().tab
    tab.clock.install()
    tab.goto(f"{docs.server.url}/pipelines/docs")
    docs.server.stop()
    tab.clock.run_for(REFRESH)
    tab.get_by_text("The server can't be reached.").wait_for()
    assert tab.locator("#stale").get_attribute("role") == "status"
    assert tab.get_by_role("heading", name="docs", exact=True).is_visible()
    docs.server.start()
    tab.clock.run_for(REFRESH)
    tab.locator("#stale").wait_for(state="hidden")


@pytest.mark.slow
def test_a_hidden_or_paused_page_asks_for_nothing(docs, look):
    looking = look()
    tab = looking.tab
    tab.add_init_script(HIDDEN)
    tab.clock.install()
    tab.goto(f"{docs.server.url}/pipelines")
    tab.evaluate("isHidden = true; document.dispatchEvent(new Event('visibilitychange'))")
    before = looking.asked_for("/pipelines")
    assert before == 1
    tab.clock.run_for(10 * REFRESH)
    assert looking.asked_for("/pipelines") == before
    with tab.expect_response("**/pipelines"):  # at once, when it is shown again
        tab.evaluate("isHidden = false; document.dispatchEvent(new Event('visibilitychange'))")
    tab.get_by_role("button", name="Pause").click()
    before = looking.asked_for("/pipelines")
    tab.clock.run_for(10 * REFRESH)
    assert looking.asked_for("/pipelines") == before
    with tab.expect_response("**/pipelines"):
        tab.get_by_role("button", name="Resume").click()


@pytest.mark.slow
def test_a_pipeline_that_is_removed_while_its_page_is_open_becomes_a_page_with_a_link_back(docs, look):
    tab = look().tab
    tab.clock.install()
    tab.goto(f"{docs.server.url}/pipelines/docs")
    docs.synced.remove("docs")
    tab.clock.run_for(REFRESH)
    tab.get_by_text("there is no pipeline docs").wait_for()
    tab.get_by_role("link", name="Back to all pipelines").click()
    tab.get_by_text("No pipeline is declared yet").wait_for()


@pytest.mark.slow
def test_selected_text_is_not_replaced_under_the_hand(docs, look):
    tab = look().tab
    tab.clock.install()
    tab.goto(f"{docs.server.url}/pipelines")
    tab.locator(".todo code").first.click()  # selects the command
    selected = tab.evaluate("getSelection().toString()")
    assert selected.startswith("pgvector-sync ")
    docs.synced.run("UPDATE pgvector_sync.pipeline SET state = 'paused', reason = 'by hand'")
    tab.clock.run_for(3 * REFRESH)
    assert tab.evaluate("getSelection().toString()") == selected


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read(staged, look, scheme):
    """No error, no request elsewhere, enough contrast, names for everything; in both schemes, at 1280 and 390 pixels."""
    looking = look(color_scheme=scheme)
    tab = looking.tab
    for path in ALL:
        for width in (1280, 390, 320):
            tab.set_viewport_size({"width": width, "height": 800})
            tab.goto(staged.server.url + path)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            assert tab.evaluate(CONTRAST) == [], (path, width)
            assert tab.evaluate(LABELLED) == [], (path, width)
    dark = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 23, 27)"
    assert dark == (scheme == "dark")
    assert [text for text in looking.complaints if "404" not in text] == []
    assert {url for url in looking.requests if not url.startswith(staged.server.url)} == set()


@pytest.mark.slow
def test_without_javascript_a_page_shows_the_same(staged, look):
    with_script, without = look().tab, look(java_script_enabled=False).tab
    for path in ALL:
        for tab in (with_script, without):
            tab.goto(staged.server.url + path)
        assert len(without.locator("#main").inner_text()) > 20
        assert without.locator("table tbody tr").count() == with_script.locator("table tbody tr").count()
        assert without.locator("svg.chart").count() == with_script.locator("svg.chart").count()
        assert not without.get_by_role("button", name="Pause").is_visible()
    without.goto(staged.server.url + "/pipelines")
    without.select_option("select[name=state]", "paused")
    without.get_by_role("button", name="Filter").click()
    assert without.locator("table.pipelines tbody tr").count() == 1


@pytest.mark.slow
def test_a_page_is_used_with_the_keyboard(staged, look):
    tab = look().tab
    tab.goto(staged.server.url + "/pipelines")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    seen = set()
    for _ in range(60):
        tab.keyboard.press("Tab")
        outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        name = tab.evaluate("document.activeElement.getAttribute('href') ?? document.activeElement.tagName")
        if name == "BODY":
            break
        assert outline != "none", name
        seen.add(name)
    assert "/pipelines/support_tickets" in seen
    assert {"INPUT", "SELECT", "BUTTON"} <= seen


@pytest.mark.slow
def test_colour_is_never_the_only_sign(staged, look):
    tab = look().tab
    tab.goto(staged.server.url + "/pipelines")
    states = tab.locator("td .state")
    shapes = {
        states.nth(n).inner_text().strip(): states.nth(n).locator("svg").inner_html()
        for n in range(states.count())
    }
    assert len(shapes) >= 4
    assert len(set(shapes.values())) == len(shapes)
