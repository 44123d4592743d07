"""The site: every public name has an entry, every page one place; it builds without a warning, and
in a browser every link leads somewhere, nothing is asked of another host, and it fits a phone."""

import importlib.util
import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest

import jaxpg
from jaxpg import agents
from tests.browser import find_browser, open_browser
from tests.pages import ROOT

THEME = ROOT / "docs" / "theme"
# Pages whose pictures are taken, into the folder JAXPG_SHOTS if there is one, to be looked at.
SHOTS = ("index", "start", "ppo", "api", "results", "statistics")
WIDTHS = {1280: 900, 390: 844}
API = ("docs/api.md", "docs/api_modules.md")
AUDIT = (ROOT / "tests" / "audit.js").read_text()
FIRST_PAINT = 3000  # milliseconds

PAGE = """({
  links: [...document.links].map(x => x.href),
  ids: [...document.querySelectorAll("[id]")].map(x => x.id),
  tooWide: document.documentElement.scrollWidth - innerWidth,
  paint: performance.getEntriesByType("paint").map(x => x.startTime),
})"""


def theme(name):
    """A module of the site's own."""
    spec = importlib.util.spec_from_file_location(f"theme_{name}", THEME / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_has_an_entry():
    text = "".join((ROOT / page).read_text() for page in API)
    named = re.findall(r"^\| `jaxpg\.(\w+)` \|", text, re.M)
    assert Counter([*named, *agents.NAMES]) == Counter(jaxpg.__all__)


def test_every_page_has_one_place_in_the_menu():
    """A page that is new: its line goes into docs/how_to.md, reference.md or explanation.md."""
    navigation, placed = theme("navigation"), Counter()
    for page in navigation.LISTS:
        groups = navigation.find_groups((ROOT / f"{page}.md").read_text(), page)
        placed.update(x.lstrip("/") for pages in groups.values() for x in pages)
    paths = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "course").glob("*.md")]
    pages = {f"{path.parent.relative_to(ROOT)}/{path.stem}" for path in paths} - {"docs/index"}
    assert placed == Counter(pages | {"CONTRIBUTING", "CHANGELOG", "benchmarks/README"})


@pytest.mark.parametrize(
    ("said", "parameters", "expected"),
    [
        ("A `key` of x_ *y*.", [], "A ``key`` of x\\_ \\*y\\*."),
        ("What.\n\nkey: a. b, c: of d.", ["key", "b", "c"], "- **key**: a.\n- **b**, **c**: of d."),
        ("A. Raises ValueError for x.", [], "A.\n\n- **Raises** ValueError for x."),
        ("Files:\n\na.py   one\nb.py   two", [], "::\n\n    a.py   one\n    b.py   two"),
        ("So:\n\n>>> 1\n1", [], "So:\n\n>>> 1\n1"),
    ],
)
def test_a_docstring_becomes_what_sphinx_reads(said, parameters, expected):
    found = theme("docstrings").as_rst(said, parameters)
    assert expected in found


def test_an_equation_with_an_unknown_command_is_refused():
    pytest.importorskip("latex2mathml", reason="the extra docs")
    pytest.importorskip("sphinx", reason="the extra docs")
    equations = theme("equations")
    assert "<mfrac>" in equations.set_equation(r"\frac{1}{2}", True)
    with pytest.raises(Exception, match=r"\\nosuch"):
        equations.set_equation(r"\nosuch{x}", True)


@pytest.mark.slow
def test_the_site_is_built_and_small(site):
    files = [path for path in site.rglob("*") if path.is_file() and ".doctrees" not in path.parts]
    assert "url=docs/index.html" in (site / "index.html").read_text()
    assert sum(path.stat().st_size for path in files) < 60e6
    text = (site / "docs" / "api.html").read_text()
    assert not [name for name in jaxpg._HOME if f'id="jaxpg.{name}"' not in text]
    for name in agents.NAMES:
        assert f'id="jaxpg.{name}"' in (site / "docs" / f"{name}.html").read_text()


def heard_wrong(browser):
    """What a page complained of, and what it asked of another host."""
    wrong = []
    for method, what in browser.heard:
        if method == "Network.requestWillBeSent":
            url = what["request"]["url"]
            wrong += [] if url.startswith(("file:", "data:", "blob:")) else [url]
        elif method == "Network.loadingFailed" and not what.get("canceled"):
            wrong.append(what["errorText"])
        elif method == "Runtime.exceptionThrown":
            wrong.append(what["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and what["entry"]["level"] == "error":
            wrong.append(what["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and what["type"] in ("error", "assert"):
            wrong.append(str(what["args"]))
    return wrong


@pytest.mark.slow
def test_every_link_leads_somewhere_in_a_browser(site, tmp_path):
    if find_browser() is None:
        pytest.skip("there is no Chromium here")
    seen, waiting, parts = {}, [f"file://{site}/docs/index.html"], set()
    with open_browser(tmp_path / "profile") as browser:
        browser.look(390, WIDTHS[390])
        while waiting:
            url = waiting.pop()
            browser.open(url)
            found = browser.run(PAGE)
            assert not heard_wrong(browser), url
            assert not browser.run(AUDIT), url
            assert found["tooWide"] <= 0, url
            assert max(found["paint"], default=0) < FIRST_PAINT, url
            seen[url] = set(found["ids"])
            for link in found["links"]:
                page, _, part = link.partition("#")
                parts |= {(page, part)} if part else set()
                new = page.startswith("file:") and page.endswith(".html") and page not in seen
                if new and page not in waiting:
                    waiting.append(page)
                elif page.startswith("file:") and not page.endswith(".html"):
                    assert Path(page.removeprefix("file://")).is_file(), f"{url}: {page}"
        browser.look(1280, WIDTHS[1280], dark=True)
        for url in seen:
            browser.open(url)
            assert not browser.run(AUDIT), url
    lost = [(page, part) for page, part in parts if page in seen and part not in seen[page]]
    assert not lost
    reached = {Path(url).name for url in seen}
    assert {f"{path.stem}.html" for path in (ROOT / "docs").rglob("*.md")} <= reached


BAD_PAGE = """<html><body style="background: white"><main><h1>A</h1><h3>B</h3>
<p style="color: #999">pale</p><p style="color: #666">fair</p><img src="x.png"><a href="#"></a>
<button>said</button><p id="i" tabindex="3"></p><p id="i"></p></main></body></html>"""


@pytest.mark.slow
def test_the_audit_finds_what_is_wrong(tmp_path):
    if find_browser() is None:
        pytest.skip("there is no Chromium here")
    (tmp_path / "bad.html").write_text(BAD_PAGE)
    with open_browser(tmp_path / "profile") as browser:
        browser.open(f"file://{tmp_path}/bad.html")
        found = [words.partition(":")[0] for words in browser.run(AUDIT)]
    assert sorted(found) == sorted([
        "no language", "no title", "a level of headings is left out", "no text for", "no name",
        "out of the order of tabs", "twice", "contrast 2.85",
    ])  # fmt: skip


@pytest.mark.slow
def test_pictures_and_search(site, tmp_path):
    if find_browser() is None:
        pytest.skip("there is no Chromium here")
    shots = Path(os.environ.get("JAXPG_SHOTS", tmp_path))
    shots.mkdir(parents=True, exist_ok=True)
    with open_browser(tmp_path / "profile") as browser:
        for page in SHOTS:
            browser.open(f"file://{site}/docs/{page}.html")
            for width, height in WIDTHS.items():
                for dark in (False, True):
                    browser.look(width, height, dark)
                    time.sleep(0.5)  # colours pass into one another
                    browser.shoot(shots / f"{page}-{width}{'-dark' * dark}.png")
                    background = browser.run("getComputedStyle(document.body).backgroundColor")
                    light = sum(map(int, re.findall(r"\d+", background)[:3])) > 3 * 128
                    assert light is not dark, page
        browser.open(f"file://{site}/search.html?q=clip_eps")
        for _ in range(100):
            results = browser.run("document.querySelectorAll('#search-results li a').length")
            if results:
                break
            time.sleep(0.1)
        assert results
        time.sleep(0.5)
        browser.run("1")  # hears what has come since
        assert not heard_wrong(browser)
    assert all((shots / f"{p}-{w}.png").stat().st_size > 10_000 for p in SHOTS for w in WIDTHS)
