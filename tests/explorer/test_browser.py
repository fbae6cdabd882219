"""The explorer in a real browser, opened from disk: slider, keys, pointer, touch, escaping, contrast, phone width."""

import math

import pytest
from browser import CONTRAST, LEAST_CONTRAST, Watched, launched, picture
from explorer_data import HOSTILE, made_up

from sdtp_lib import cli
from sdtp_lib.data.corpora import longbench_records
from sdtp_lib.evaluation.prompts import build_prompt
from sdtp_lib.explorer.page import VISIBLE, ExplorerPage, page

pytestmark = pytest.mark.slow
SCHEMES = ("light", "dark")
COLOURS = """() => [".runs .text span:not([class])", ".runs .c4", ".runs .c2"].map((query) => {
  const style = getComputedStyle(document.querySelector(query));
  return [style.color, style.backgroundColor, style.textDecorationLine, style.visibility];
})"""

LEVELS_SHOWN = """() => {
  const tokens = document.querySelector(".marks .text").children;
  return [...tokens].map((token) => /s[1-4]/.exec(token.className)?.[0] ?? "");
}"""


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    target = tmp_path_factory.mktemp("explorer") / "page.html"
    target.write_text(page(made_up(tokens=240)), encoding="utf-8")
    return target


@pytest.fixture
def tab(browser, file, request):
    """A watched tab with the page; at the end nothing may have been complained of or asked for."""
    watched = Watched(browser, **getattr(request, "param", {}))
    watched.open(file)
    yield watched.page
    watched.context.close()
    assert watched.complaints == [] and watched.requests == []


def layer_of(page):
    """Layer by the page's attribute, the slider and the number shown: all the same."""
    shown = page.locator("#explorer").get_attribute("data-layer"), page.locator("#layer").input_value()
    assert {*shown, page.locator("#number").inner_text()} == {shown[0]}
    return int(shown[0])


def test_the_slider_moves_through_the_layers_and_tokens_fade_where_they_leave(tab):
    assert layer_of(tab) == 7
    tab.locator("#layer").fill("4")
    present = made_up(tokens=240)["runs"][0]["present"]
    assert layer_of(tab) == 4
    status = tab.locator("#status").inner_text()
    assert status.startswith(f"Layer 4: {present[4]} of 240") and f"{present[3] - present[4]} cut here" in status
    here, cut, gone = tab.evaluate(COLOURS)
    assert "underline" in cut[2] and len({tuple(here), tuple(cut), tuple(gone)}) == 3
    tab.locator("#layer").fill("3")
    assert tab.evaluate(COLOURS)[1] == here, "what layer 4 cuts is still present at layer 3"
    tab.locator("#layer").fill("0")
    assert tab.evaluate(COLOURS) == [here] * 3
    assert "100% are present" in tab.locator(".share").first.inner_text()


def test_dropped_tokens_can_be_struck_or_blank(tab):
    looks = {}
    for kind in ("grey", "struck", "blank"):
        tab.locator("#drop").select_option(kind)
        looks[kind] = tab.evaluate(COLOURS)[2]
    assert looks["struck"][2] == "line-through" and looks["grey"][2] == "none"
    assert looks["blank"][3] == "hidden" and looks["struck"][3] == looks["grey"][3] == "visible"


def test_keys_go_through_layers_and_through_tokens(tab):
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert layer_of(tab) == 5
    tab.locator("#layer").focus()
    tab.keyboard.press("ArrowRight")
    assert layer_of(tab) == 6, "one key press is one layer, on the slider too"
    tab.locator(".text").nth(1).focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#token").inner_text().startswith("Token 2 of 240")
    tab.keyboard.press("ArrowDown")
    assert layer_of(tab) == 5
    tab.keyboard.press("End")
    assert tab.locator("#token").inner_text().startswith("Token 239 of 240")
    focused = tab.evaluate("() => [document.activeElement.textContent, document.activeElement.getAttribute('role')]")
    assert focused == [" word239", "button"]
    assert tab.locator(".text [tabindex]").count() == 1, "one stop for the Tab key in all of the text"


def test_pointing_at_a_token_shows_scores_ranks_and_where_it_left(tab):
    found = made_up(tokens=240)["runs"]
    column = next(c for c in range(240) if found[0]["last_layer"][c] == 3 and found[1]["last_layer"][c] == 7)
    tab.locator(".text").first.locator("span").nth(column).hover()
    text = tab.locator("#token").inner_text()
    assert text == f"Token {column} of 240, “␣word{column}”. sdtp: leaves at layer 4; random: stays to the end."
    rows = tab.evaluate(
        "() => [...document.querySelectorAll('#scores tbody tr')].map((row) => row.innerText.split('\\t'))"
    )
    for row, run in zip(rows, found, strict=False):
        for cell, stage in zip(row[1:], run["stages"], strict=True):
            score = stage["scores"][column]
            if score is None:
                assert cell == "gone"
                continue
            rank = 1 + sum(other > score for other in stage["scores"] if other is not None)
            assert float(cell.split()[0]) == pytest.approx(score, rel=0.006) and f"({rank}.)" in cell
            assert ("✕" in cell) == (run["last_layer"][column] == stage["layer"] - 1)
    assert rows[2][0] == "saliency" and all("%" in cell for cell in rows[2][1:])
    tab.locator(".text").nth(2).locator("span").nth(0).hover()
    assert "•" in tab.locator("#scores tbody td").first.inner_text(), "the first tokens are never up for a cut"


def test_the_second_score_and_the_saliency_have_colours_of_their_own(tab):
    found = made_up(tokens=240)
    for index, run in enumerate(found["runs"]):
        kinds = tab.evaluate(f"() => [...document.querySelectorAll('.text')[{index}].children].map((t) => t.className)")
        assert kinds == ["" if last == 7 else f"c{last + 1}" for last in run["last_layer"]]
    for layer in (7, 2, 5):
        tab.locator("#layer").fill(str(layer))
        shown = tab.evaluate(LEVELS_SHOWN)
        values = found["saliency"]["values"][layer]
        order = sorted(range(240), key=lambda c: values[c], reverse=True)
        wanted = {c: 4 if at < 8 else 3 if at < 15 else 2 if at < 30 else 1 for at, c in enumerate(order[:60])}
        assert shown == [f"s{wanted[c]}" if c in wanted else "" for c in range(240)]


@pytest.mark.parametrize("tab", [{"size": "phone"}], indirect=True)
def test_on_a_phone_a_tap_shows_a_token_and_nothing_is_wider_than_the_window(tab, tmp_path):
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= 390
    tab.locator(".text").first.locator("span").nth(5).tap()
    assert tab.locator("#token").inner_text().startswith("Token 5 of 240")
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= 390
    wide = """() => [...document.querySelectorAll("body *")].filter((e) => !e.closest(".wide, svg")
      && e.getBoundingClientRect().right > 391).map((e) => e.outerHTML.slice(0, 80))"""
    assert tab.evaluate(wide) == []
    for query in ("#layer", "#drop"):
        assert tab.locator(query).bounding_box()["height"] >= 24, "large enough for a finger"


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_has_a_contrast_of_at_least_four_and_a_half(browser, file, tmp_path, size, scheme):
    watched = Watched(browser, size, scheme)
    tab = watched.open(file)
    tab.locator("details").evaluate("(details) => { details.open = true; }")
    tab.locator(".text").first.locator("span").nth(9).click()
    for layer in (0, 4, 5, 7):
        tab.locator("#layer").fill(str(layer))
        for kind in ("grey", "struck", "blank"):
            tab.locator("#drop").select_option(kind)
            found = tab.evaluate(CONTRAST)
            assert len(found) > 10
            assert {key: round(ratio, 2) for key, ratio in found.items() if ratio < LEAST_CONTRAST} == {}
    tab.locator("#drop").select_option("grey")
    tab.locator("#layer").fill("4")
    tab.locator("details").evaluate("(details) => { details.open = false; }")
    assert picture(tab, tmp_path, f"explorer_{size}_{scheme}").stat().st_size > 10_000
    background = tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
    watched.context.close()


def test_markup_in_the_prompt_is_shown_and_never_run(browser, tmp_path):
    found = made_up(
        tokens=60, texts=HOSTILE, names=("</script><script>window.hit=1</script>", "<img src=x onerror=hit=1>")
    )
    found["full"]["answer"] = "<img src=x onerror=\"window.hit='answer'\">"
    (tmp_path / "page.html").write_text(page(found), encoding="utf-8")
    watched = Watched(browser)
    tab = watched.open(tmp_path / "page.html")
    for index in range(3):
        shown = tab.evaluate(
            f"() => [...document.querySelectorAll('.text')[{index}].children].map((t) => t.textContent)"
        )
        assert shown == [text.translate(VISIBLE) for text in found["tokens"]]
    tab.locator(".text").first.locator("span").first.hover()
    assert "<img␣src=x␣onerror" in tab.locator("#token").inner_text()
    assert tab.evaluate("() => [window.hit, document.images.length, document.scripts.length]") == [None, 0, 2]
    watched.context.close()
    assert watched.complaints == [] and watched.requests == []


def test_the_policy_stops_what_escaping_might_miss(browser, tmp_path):
    """A page of which the escaping has been undone by hand: its own policy still runs nothing."""
    hole = page(made_up(texts=["HOLE"])).replace(
        "HOLE", "<script>window.hit=1</script><img src=x onerror='window.hit=2'>"
    )
    (tmp_path / "page.html").write_text(hole, encoding="utf-8")
    watched = Watched(browser)
    tab = watched.open(tmp_path / "page.html")
    assert tab.evaluate("() => window.hit") is None
    watched.context.close()
    assert any("Content Security Policy" in complaint for complaint in watched.complaints), "this test sees violations"


def test_in_a_notebooks_frame_it_works_and_leaks_no_style(browser, tmp_path):
    frame = ExplorerPage(page(made_up(texts=HOSTILE)))._repr_html_()
    around = f"<!DOCTYPE html><meta charset=utf-8><body><p id=outside>text</p>{frame}</body>"
    (tmp_path / "notebook.html").write_text(around, encoding="utf-8")
    watched = Watched(browser)
    tab = watched.open(tmp_path / "notebook.html")
    inside = tab.frame_locator("iframe")
    inside.locator("#layer").fill("4")
    assert inside.locator("#status").inner_text().startswith("Layer 4:")
    outside = "() => [getComputedStyle(document.querySelector('#outside')).fontFamily, document.styleSheets.length]"
    font, sheets = tab.evaluate(outside)
    assert "DejaVu" not in font and sheets == 0
    watched.context.close()
    assert watched.complaints == [] and watched.requests == []


def test_the_demos_own_page_opens_from_disk(browser, tmp_path):
    """From a prompt of about a thousand tokens, by the command, to the browser."""
    prompt = build_prompt(longbench_records("multidoc_qa", limit=1)[0])
    (tmp_path / "prompt.txt").write_text(prompt, encoding="utf-8")
    arguments = ["explore", "--prompt-file", str(tmp_path / "prompt.txt"), "--output", str(tmp_path / "page.html")]
    assert cli.main([*arguments, "--compare", "oracle", "--new-tokens", "12"]) == 0
    assert (tmp_path / "page.html").stat().st_size < 3e6
    watched = Watched(browser)
    tab = watched.open(tmp_path / "page.html")
    shown = tab.evaluate("() => [...document.querySelectorAll('.text')].map((text) => text.textContent)")
    assert [text.replace("↵\n", "\n") for text in shown] == [prompt] * 3
    tab.locator("#layer").fill("6")
    sdtp, oracle = (line.inner_text() for line in tab.locator(".share").all())
    assert "tokens 100% are present" not in sdtp and sdtp != oracle
    picture(tab, tmp_path, "explorer_demo")
    watched.context.close()
    assert watched.complaints == [] and watched.requests == []


def test_without_scripts_the_last_layer_can_be_read(browser, file):
    watched = Watched(browser, java_script_enabled=False)
    tab = watched.open(file)
    assert tab.locator("noscript p").is_visible() and tab.locator(".text span").count() == 240
    watched.context.close()


def test_eight_thousand_tokens_stay_smooth(browser, tmp_path):
    """Each move of the slider, style and layout forced, takes well under a tenth of a second in the middle."""
    stages = tuple(range(4, 32, 3))
    long = made_up(tokens=8000, depth=32, stages=stages, ratio=0.9)
    (tmp_path / "page.html").write_text(page(long), encoding="utf-8")
    watched = Watched(browser)
    tab = watched.open(tmp_path / "page.html")
    assert tab.locator(".text span").count() == 24_000
    times = tab.evaluate("""async () => {
      const slider = document.querySelector("#layer"), times = [];
      for (const layer of [...Array(32).keys(), ...Array(32).keys()].reverse()) {
        await new Promise(requestAnimationFrame);
        const start = performance.now();
        slider.value = layer;
        slider.dispatchEvent(new Event("input"));
        document.body.offsetHeight;
        times.push(performance.now() - start);
      }
      return times;
    }""")
    watched.context.close()
    middle = sorted(times)[len(times) // 2]
    print(f"{middle:.0f} ms in the middle, {max(times):.0f} ms at most")
    assert middle < 100 and math.isfinite(max(times))
