"""Everything a profile has measured on one HTML page: the ledger, and every table and figure of its notebooks."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markupsafe import Markup

from .. import paths, results
from ..html_page import content_hash, templates
from ..text_files import check_apart, read_text
from .disagreements import DISAGREEMENTS
from .evidence import PROFILES, Row
from .ledger import INTRODUCTION, cells, check_profile, ledger_rows, link
from .result_files import RESULT_FILES

STORED = "demo"  # the profile that the repository's own notebooks are stored with
NUMBERED = "[0-9][0-9]_*.ipynb"
READ = (".ipynb", ".json", ".jsonl", ".md")
SAVED = re.compile(r"save_figure\(.*\"(\w+)\"\s*\)")


def write_page(output: str | os.PathLike, profile: str = "demo") -> None:
    """Write the page of one profile, whole or not at all; its links are relative to the folder of `output`.

    Raises:
        ValueError: for an unknown profile, a damaged result file, or an output that is a folder.
        FileNotFoundError: if nothing of the profile is there.
    """
    check_profile(profile)
    results.check_output(output)
    homes = paths.places(paths.RESULTS, profile)
    measured = (file for home in homes for file in home.rglob("*") if file.suffix in READ)
    check_apart(output, *paths.NOTEBOOKS.glob(NUMBERED), *measured)
    results.write_text(output, page(profile, Path(output).absolute().parent))


def page(profile: str, folder: Path) -> str:
    """The page's HTML, to lie in `folder`. Raises as `write_page`."""
    parts = [section for notebook in sorted(paths.NOTEBOOKS.glob(NUMBERED))
             if (section := read_section(notebook, profile, folder))]  # fmt: skip
    if not parts:
        raise FileNotFoundError(f"profile {profile} has no results yet; run sdtp reproduce --profile {profile}")
    environment, markdown = templates(), _markdown()
    environment.filters["markdown"] = lambda text: Markup(markdown.renderInline(str(text or "-")))
    style = environment.get_template("report.css").render()
    ledger = {title: [(cells(row), _behind(row, [*PROFILES, profile], folder)) for row in rows]
              for title, rows in ledger_rows(profile).items()}  # fmt: skip
    return environment.get_template("report.html").render(
        profile=profile, ledger=ledger, sections=parts, style=Markup(style), style_hash=content_hash(style),
        introduction=Markup(markdown.render(INTRODUCTION[INTRODUCTION.index("**One row") :])),
        disagreements=Markup(markdown.render(DISAGREEMENTS.partition("\n\n")[2])),
    )  # fmt: skip


def outputs_of(notebook: Path, profile: str) -> Path | None:
    """Where a notebook's outputs of a profile are: its executed copy, or, for the demo, the repository's own."""
    return paths.find_results(profile, f"notebooks/{notebook.name}") or (notebook if profile == STORED else None)


def read_section(notebook: Path, profile: str, folder: Path) -> dict | None:
    """Title, links, tables and figures of one notebook; None if the profile has neither outputs nor files of it.

    They come from the notebook's outputs, in order, or, where those were not kept, from the files that it wrote.
    """
    source, files = outputs_of(notebook, profile), result_files(notebook.name[:2], profile)
    if source is None and not files:
        return None
    title, items = from_notebook(source or notebook, profile, folder)
    items = items if source else from_files([*files.values()], profile, folder)
    links = [("notebook", link(source or notebook, folder))]
    links += [(name, link(file, folder)) for name, file in files.items()]
    return {"id": f"notebook-{notebook.name[:2]}", "title": title, "links": links, "items": items, "kept": bool(source)}


def from_notebook(notebook: Path, profile: str, folder: Path) -> tuple[str, list[dict]]:
    """(title, tables and figures in order, each under the heading that it stands below)."""
    title, heading, items, markdown = notebook.stem, "", [], _markdown()
    for cell in _cells(notebook):
        if cell.cell_type == "markdown":
            found = re.findall(r"(?m)^(#+) (.*)$", cell.source)
            title = next((text for level, text in found if level == "#"), title)
            heading = next((text for level, text in reversed(found) if level != "#"), heading)
            continue
        saved = SAVED.findall(cell.source)
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            item = {"heading": heading, "links": _figure_links(saved, profile, folder)}
            if "image/png" in data:
                picture = base64.b64decode(data["image/png"])
                items.append({**item, "picture": _encoded(picture), "name": ", ".join(saved) or heading})
            elif data.get("text/markdown", "").strip():
                items.append({**item, "table": Markup(markdown.render(data["text/markdown"]))})
    return title, items


def _cells(notebook: Path) -> list:
    """A notebook's cells; ValueError, naming it, if it is damaged."""
    try:
        return nbformat.reads(read_text(notebook, "notebook"), as_version=4).cells
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        said = str(error).splitlines()[0][:120]
        raise ValueError(f"notebook {notebook} is damaged: {said}; copy it again or run it again") from None


def from_files(files: list[Path], profile: str, folder: Path) -> list[dict]:
    """Tables of the Markdown files among `files`, and the figures drawn from the others."""
    items, markdown = [], _markdown()
    for file in files:
        item = {"heading": file.stem, "links": _figure_links([file.stem], profile, folder)}
        picture = paths.find_figure(profile, f"{file.stem}.png")
        if file.suffix == ".md":
            items.append({**item, "table": Markup(markdown.render(read_text(file)))})
        elif picture:
            items.append({**item, "picture": _encoded(picture.read_bytes()), "name": file.stem})
    return items


def result_files(number: str, profile: str) -> dict[str, Path]:
    """Name -> file of all that notebook `number` wrote for a profile, as far as they are there."""
    stems = [stem for pattern, file in RESULT_FILES.items() if file.notebook == number for stem in expanded(pattern)]
    names = [f"{stem}.{kind}" for stem in stems for kind in ("json", "jsonl", "md")]
    return {name: file for name in names if (file := paths.find_results(profile, name))}


def expanded(pattern: str) -> list[str]:
    """`a{b,c}` -> [`ab`, `ac`], one pair of braces at most."""
    found = re.fullmatch(r"(.*?)\{(.*)\}(.*)", pattern)
    return [found[1] + name + found[3] for name in found[2].split(",")] if found else [pattern]


def _figure_links(saved: list[str], profile: str, folder: Path) -> list[tuple[str, str]]:
    """The numbers and the picture file of figures that a cell saves, as far as they are there."""
    files = [file for name in saved for file in (paths.find_results(profile, f"{name}.json"),
                                                 paths.find_figure(profile, f"{name}.png"))]  # fmt: skip
    return [(file.name, link(file, folder)) for file in files if file]


def _behind(row: Row, profiles: Sequence[str], folder: Path) -> Mapping[str, str]:
    """Links to the files behind a row of the ledger, to the notebooks that write them, and to what is to be known."""
    homes = {home: profile for profile in profiles for home in paths.places(paths.RESULTS, profile)}
    found = {}
    for each in row.evidence:
        home = next((home for home in homes if each.file.is_relative_to(home)), None)
        name = f"{homes[home]}/{each.file.relative_to(home).as_posix()}" if home else each.file.name
        found[name] = link(each.file, folder)
        if home and (notebook := _notebook_of(each.file.relative_to(home))):
            written = outputs_of(notebook, homes[home]) or notebook
            found[f"notebook {notebook.name[:2]}, {homes[home]}"] = link(written, folder)
        if each.note:
            found[each.note[1].name] = link(each.note[1], folder)
    return found


def _notebook_of(name: Path) -> Path | None:
    """The notebook that writes a result file, if one does."""
    stem = name.with_suffix("").as_posix()
    number = next(entry.notebook for pattern, entry in RESULT_FILES.items() if stem in expanded(pattern))
    return next(iter(sorted(paths.NOTEBOOKS.glob(f"{number}_*.ipynb"))), None) if number else None


def _encoded(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def _markdown() -> MarkdownIt:
    """Tables, and no HTML: what a notebook or a file holds is shown, never run."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.core.ruler.push("classes", _align_by_class)
    return markdown


def _align_by_class(state: StateCore) -> None:
    """The page's policy allows no style on an element."""
    for token in state.tokens:
        if style := token.attrs.pop("style", None):
            token.attrSet("class", str(style).rpartition(":")[2])
