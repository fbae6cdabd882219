"""The page of a profile: every claim, table and figure, each with working links to what is behind it."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from browser import CONTRAST, LEAST_CONTRAST, SIZES, Watched, launched, picture
from result_files import write_data

from sdtp_lib import paths, results
from sdtp_lib.ledger.ledger import ledger_rows
from sdtp_lib.ledger.page import expanded, write_page
from sdtp_lib.ledger.result_files import RESULT_FILES

METADATA = {"model": "demo", "dtype": "bfloat16", "device": "a processor"}
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Reader(HTMLParser):
    """Links, pictures and elements of a page."""

    def __init__(self, html):
        super().__init__()
        self.links, self.pictures, self.tags = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.links += [found["href"]] if tag == "a" else []
        self.pictures += [found] if tag == "img" else []


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """(file, HTML) of the demo's page of the results that the repository stores."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, variable in paths.MOVED.items():
            patch.setenv(variable, str(paths.stored(kind)))
        patch.setattr("sdtp_lib.ledger.page.outputs_of", lambda notebook, profile: notebook)  # not those of a last run
        file = tmp_path_factory.mktemp("report") / "page.html"
        write_page(file)
    return file, file.read_text(encoding="utf-8")


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A profile with one result file, its table and picture, and no outputs of a notebook."""
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SDTP_FIGURES", str(tmp_path / "figures"))
    share = {"layers": [0, 4, 8, 13], "share": [0.5, 0.4, 0.2, 0.1]}
    results.write_json(paths.results("demo_full") / "fig2_salient_share.json", {"metadata": METADATA, "data": share})
    results.write_text(
        paths.results("demo_full") / "table1_longbench.md", "| a <b> | b |\n|---|--:|\n| <i>x</i> | 1 |\n"
    )
    paths.figures("demo_full").mkdir(parents=True)
    (paths.figures("demo_full") / "fig2_salient_share.png").write_bytes(DOT)
    return tmp_path


def test_every_claim_table_and_figure_is_on_the_page(tracked):
    reader = Reader(tracked[1])
    notebooks = [nbformat.read(file, as_version=4) for file in sorted(paths.NOTEBOOKS.glob("*.ipynb"))]
    shown = [out.get("data", {}) for book in notebooks for cell in book.cells for out in cell.get("outputs", [])]
    assert [found["src"].partition(",")[2] for found in reader.pictures] == [
        base64.b64encode(base64.b64decode(data["image/png"])).decode() for data in shown if "image/png" in data
    ]
    assert all(found["alt"] for found in reader.pictures)
    tables = sum("|:" in data.get("text/markdown", "") or "|-" in data.get("text/markdown", "") for data in shown)
    assert reader.tags.count("table") >= tables + 2 and tables > 10


def test_the_ledgers_rows_carry_links_to_their_files(tracked, monkeypatch):
    monkeypatch.setenv("SDTP_RESULTS", str(paths.stored(paths.RESULTS)))
    rows = [row for rows in ledger_rows("demo").values() for row in rows]
    behind = [each.file for row in rows for each in row.evidence]
    links = [Path(unquote(address)) for address in Reader(tracked[1]).links if not address.startswith("#")]
    there = [(tracked[0].parent / address).resolve() for address in links]
    assert len(behind) > 20 and all(there.count(file) >= behind.count(file) for file in behind)
    assert [address for address in there if not address.is_file()] == []
    assert not any(address.is_absolute() for address in links)


def test_without_outputs_of_notebooks_the_files_speak(fresh):
    write_page(fresh / "page.html", "demo_full")
    html = (fresh / "page.html").read_text()
    reader = Reader(html)
    assert {"results/demo_full/fig2_salient_share.json", "results/demo_full/table1_longbench.md"} <= set(reader.links)
    assert len(reader.pictures) == 1 and html.count("were not kept") == 2
    assert "&lt;i&gt;x&lt;/i&gt;" in html and "<i>" not in html and "style=" not in html
    assert '<td class="right">1</td>' in html


def test_the_page_shows_a_run_before_what_is_stored(tmp_path, monkeypatch):
    for variable in paths.MOVED.values():
        monkeypatch.delenv(variable)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    share = {"metadata": METADATA, "data": {"layers": [0, 4, 8, 13], "share": [0.5, 0.4, 0.2, 0.1]}}
    for home in (paths.stored(paths.RESULTS, "demo_full"), paths.results("demo_full")):
        results.write_json(home / "fig2_salient_share.json", share)
    reading = {"layers": [1, 4], "accuracy": [2.0, 5.0], "baseline": 95.0, "local_layers": 4}
    write_data(paths.stored(paths.RESULTS, "demo_full"), "layer_of_reading", reading)
    results.write_bytes(paths.stored(paths.FIGURES, "demo_full") / "fig2_salient_share.png", DOT)
    write_page(tmp_path / "page.html", "demo_full")
    reader = Reader((tmp_path / "page.html").read_text())
    files = {address for address in reader.links if address.endswith((".json", ".png"))}
    assert files == {"runs/demo_full/results/fig2_salient_share.json", "figures/demo_full/fig2_salient_share.png",
                     "results/demo_full/layer_of_reading.json"}  # fmt: skip
    assert len(reader.pictures) == 1


def test_a_profile_without_results_is_refused_and_nothing_written(fresh):
    with pytest.raises(FileNotFoundError, match="latency_7b has no results yet"):
        write_page(fresh / "page.html", "latency_7b")
    with pytest.raises(ValueError, match="unknown profile"):
        write_page(fresh / "page.html", "other")
    assert not (fresh / "page.html").exists()


def test_braces_in_the_table_of_files_are_expanded():
    assert expanded("a_{b,c}") == ["a_b", "a_c"] and expanded("x") == ["x"]
    assert not [stem for pattern in RESULT_FILES for stem in expanded(pattern) if re.search(r"[{},]", stem)]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_it_is_legible_asks_for_nothing_and_is_no_wider_than_the_window(tracked, tmp_path, size, scheme):
    with launched() as browser:
        watched = Watched(browser, size, scheme)
        page = watched.open(tracked[0])
        assert page.evaluate("() => document.documentElement.scrollWidth") <= SIZES[size][0]
        broken = "() => [...document.images].filter((image) => !image.naturalWidth).length"
        assert page.evaluate(broken) == 0
        found = page.evaluate(CONTRAST)
        assert len(found) > 5 and {key: ratio for key, ratio in found.items() if ratio < LEAST_CONTRAST} == {}
        page.evaluate("() => document.querySelector('#notebook-05').scrollIntoView()")
        picture(page, tmp_path, f"report_{size}_{scheme}")
        watched.context.close()
        outside = [url for url in watched.requests if not url.startswith("data:")]
        assert watched.complaints == [] and outside == []
