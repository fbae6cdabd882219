"""What the repository's Markdown pages hold: links, headings, and the commands in their blocks and lines."""

import re
import shlex

from markdown_it import MarkdownIt

from sdtp_lib import cli, paths

TOLD = sorted([*paths.ROOT.glob("*.md"), *(paths.ROOT / "docs").glob("*.md")])  # pages that tell a reader what to do
STORED = sorted([*(paths.ROOT / "results").rglob("*.md"), *paths.PACKAGE.rglob("*.md")])
SHELL = ("", "sh", "bash")  # languages of blocks that may hold commands
PROGRAMS = ("sdtp", "make", "torchrun", "accelerate", "papermill", "pip", "conda", "python", "cd", "export")
MODULES = {"sdtp_lib.cli": [], "sdtp_lib.training": ["train"]}  # what a launcher runs, as `sdtp` has it


def tokens(page):
    """All tokens of a page, those within a line included, in order."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or []


def links(page):
    """Targets of links and pictures."""
    return [token.attrGet("href") or token.attrGet("src") for token in tokens(page) if token.type in LINKS]


LINKS = ("link_open", "image")


def anchors(page):
    """What a link to a heading of the page may say after #, as GitHub names it."""
    found, heading = [], False
    for token in tokens(page):
        if heading and token.type == "inline":
            text = "".join(child.content for child in token.children)
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.append(name if name not in found else f"{name}-{found.count(name)}")
        heading = token.type == "heading_open"
    return found


def blocks(page, *languages):
    """Texts of the page's fenced blocks in one of these languages."""
    return [token.content for token in tokens(page) if token.type == "fence" and token.info.strip() in languages]


def spans(page):
    """Texts in backticks."""
    return [" ".join(token.content.split()) for token in tokens(page) if token.type == "code_inline"]


def lines(block):
    """The words of every command of a block, comments left out, continued lines as one."""
    found = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    return [[words[0].removeprefix(".venv/bin/"), *words[1:]] for words in found if words]


def shell_blocks(page):
    """Blocks that begin with a program known here; the others show what is printed."""
    first = re.compile(rf"(\.venv/bin/)?({'|'.join(PROGRAMS)}) |#")
    return [block for block in blocks(page, *SHELL) if first.match(block)]


def commands(page):
    """All (program, words after it) of the page's blocks; those a shell starts in a text of its own included."""
    for block in shell_blocks(page):
        for program, *words in lines(block):
            yield program, words
            yield from ((line[0], line[1:]) for word in words if "\n" not in word and " -m " in word
                        for line in lines(word))  # fmt: skip


def sdtp_arguments(program, words):
    """The arguments of `sdtp` in a command, also one that a launcher starts; None if it is not in it."""
    if program == "sdtp":
        return words
    for module, before in MODULES.items():
        if "-m" in words and module in words:
            return before + words[words.index(module) + 1 :]
    return None


def parsers():
    """The parser of every command of `sdtp`, by name."""
    (action,) = [action for action in cli.build_parser()._actions if action.choices]
    return action.choices


def text_of(page):
    """What a reader sees of a page's prose and tables: no code, no links' targets, no comments."""
    return "\n".join(token.content for token in tokens(page) if token.type == "text")


def numbers(page):
    """(number as it is written, file, key) of all that the page's comment `numbers` says are from stored files.

    What stands behind a file's name is the beginning of every key below it. The comment may name a file that has the
    list, so that the page stays short.
    """
    text = page.read_text()
    lists = [(paths.ROOT / name).read_text() for name in re.findall(r"<!-- numbers: (\S+) -->", text)]
    for comment in [*lists, *re.findall(r"<!-- numbers\n(.*?)-->", text, re.DOTALL)]:
        file, begin = None, ""
        for line in comment.splitlines():
            if line.startswith("  "):  # several have a semicolon between them
                for each in line.strip().split("; "):
                    number, key = each.split(" = ")
                    yield number, file, begin + key
            else:
                name, _, begin = line.partition(" ")
                file = paths.ROOT / name


def stored(document, key):
    """The value at a key such as `data[method=paper&schedule.keep_ratio=0.7].score`: of a list the one that fits."""
    for name, conditions in re.findall(r"([\w-]+)(?:\[(.*?)\])?", key) if key else []:
        document = document[int(name)] if isinstance(document, list) else document[name]
        if conditions:
            wanted = [condition.split("=") for condition in conditions.split("&")]
            (document,) = [each for each in document if all(str(stored(each, at)) == value for at, value in wanted)]
    return document
