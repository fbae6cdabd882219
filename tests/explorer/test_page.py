"""The explorer's page: every text escaped, nothing from outside, the same bytes for the same numbers."""

import base64
import hashlib
import json
import re
import tomllib
from html.parser import HTMLParser

import pytest
from explorer_data import HOSTILE, made_up

from sdtp_lib import paths
from sdtp_lib.explorer.page import LEVELS, VISIBLE, ExplorerPage, levels, packed, page


class Reader(HTMLParser):
    """The page as a browser would read it: elements in order, the text of each token, script and style."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.tokens, self.raw, self.open = [], [], {}, []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append((tag, dict(attributes)))
        if tag == "span" and self.inside_text():
            self.tokens.append((dict(attributes).get("class", ""), ""))
        if tag in ("meta", "input", "br"):
            self.open.pop()

    def handle_endtag(self, tag):
        if self.open and self.open[-1][0] == tag:
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "span" and self.inside_text():
            kind, text = self.tokens[-1]
            self.tokens[-1] = kind, text + data
        if self.open and self.open[-1][0] in ("script", "style"):
            name = self.open[-1][1].get("id", self.open[-1][0])
            self.raw[name] = self.raw.get(name, "") + data

    def inside_text(self):
        return any(tag == "div" and attributes.get("class") == "text" for tag, attributes in self.open)


def test_the_prompt_stands_in_the_page_once_with_the_layer_each_token_leaves_at():
    found = made_up()
    reader = Reader(page(found))
    assert [text for _, text in reader.tokens] == found["tokens"]
    last = found["runs"][0]["last_layer"]
    assert [kind for kind, _ in reader.tokens] == ["" if at == 7 else f"c{at + 1}" for at in last]


def test_markup_in_prompt_answers_and_names_is_text():
    plain = Reader(page(made_up()))
    found = made_up(texts=HOSTILE, names=("</script><b onclick=x>", "<img src=x>"))
    found |= {"model": "<script>window.hit=1</script>", "schedule_name": "'\"><img src=x>"}
    found["full"]["answer"] = found["saliency"]["answer"] = "</dd><script>window.hit=2</script>"
    hostile = Reader(page(found))
    assert [text for _, text in hostile.tokens] == [text.translate(VISIBLE) for text in found["tokens"]]
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert not [name for _, attributes in hostile.elements for name in attributes if name.startswith("on")]
    assert json.loads(hostile.raw["data"])["runs"][0]["name"] == "</script><b onclick=x>"
    assert hostile.raw["script"] == plain.raw["script"]


def test_controls_that_would_turn_text_around_are_shown_by_number():
    assert "a\u202eb\x00c\n".translate(VISIBLE) == "a⟨202E⟩b⟨0000⟩c↵\n"


def test_the_policy_allows_this_style_and_this_script_alone():
    html = page(made_up())
    reader = Reader(html)
    policy = next(attributes["content"] for tag, attributes in reader.elements if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(reader.raw[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html), "nothing comes from elsewhere"
    assert not [attributes for _, attributes in reader.elements if "style" in attributes or "src" in attributes]


def test_the_script_finds_what_exploration_gave():
    found = made_up()
    data = json.loads(Reader(page(found)).raw["data"])
    assert data == json.loads(json.dumps(packed(found)))
    for run, there in zip(data["runs"], found["runs"], strict=True):
        for stage, full in zip(run["stages"], there["stages"], strict=True):
            here = [score for score in full["scores"] if score is not None]
            assert stage["scores"] == pytest.approx(here, rel=1e-3)
            assert len(here) == sum(last >= stage["layer"] - 1 for last in run["last"])
    assert set(data["saliency"]["values"]) == {"2", "4", "5"} and len(data["saliency"]["levels"]) == 8


def test_levels_are_shares_of_the_tokens():
    digits = levels([float(value) for value in range(1, 65)])
    counts = [sum(digit >= str(level) for digit in digits) for level in range(1, len(LEVELS) + 1)]
    assert counts == [16, 8, 4, 2] and digits[-1] == "4" and digits[0] == "0"
    assert levels([0.0, 0.0, 0.0]) == "000" and levels([0.0, 0.5]) == "04"


def test_a_long_prompt_stays_under_three_megabytes():
    stages = tuple(range(4, 32, 3))
    html = page(made_up(tokens=8000, depth=32, stages=stages, ratio=0.9))
    assert len(html.encode()) < 3e6


def test_without_saliency_or_cuts_the_page_says_so():
    found = made_up(stages=(), saliency=False)
    found["runs"][0]["reason"] = "prompt too short"
    html = page(found)
    assert "No saliency" in html and "Nothing was cut: prompt too short." in html and "True saliency" not in html


@pytest.mark.parametrize("given, said", [(True, "the answer given: “Clara"), (False, "own greedy answer above")])
def test_the_page_says_whose_saliency_it_shows(given, said):
    found = made_up()
    found["saliency"]["given"] = given
    assert said in page(found)


def test_the_notebook_gets_a_sealed_frame_and_the_same_bytes_twice():
    found = made_up(texts=HOSTILE)
    shown = ExplorerPage(page(found))
    assert page(found) == shown.html and repr(shown) == "ExplorerPage"
    reader = Reader(shown._repr_html_())
    ((tag, attributes),) = reader.elements
    assert tag == "iframe" and attributes["srcdoc"] == shown.html and attributes["sandbox"] == "allow-scripts"


def test_an_installed_copy_has_the_templates():
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())
    globs = project["tool"]["setuptools"]["package-data"]["sdtp_lib"]
    installed = {file for glob in globs for file in paths.PACKAGE.glob(glob)}
    there = set(paths.TEMPLATES.iterdir())
    assert there <= installed and {"explorer.html", "frame.html", "report.html"} < {file.name for file in there}
