"""The system's Chromium under Playwright, for the browser tests; what each of them saw is kept as pictures."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

# No sandbox: CI runs as root. The rest keeps the browser from calling home.
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
LEAST_CONTRAST = 4.5
# Ratio of luminances of every text that is shown, by element and colours.
CONTRAST = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
      if (colour[3] !== 0) throw new Error("a background that lets others through");
    }
    return [255, 255, 255];
  };
  const found = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, style = getComputedStyle(element);
    if (!walk.currentNode.data.trim() || element.closest("script, noscript, option")) continue;
    if (style.visibility === "hidden") continue;
    if (!element.getClientRects().length) continue;
    const ink = rgb(element.closest("svg") ? style.fill : style.color), ground = behind(element);
    const [low, high] = [light(ink.slice(0, 3)), light(ground.slice(0, 3))].sort((a, b) => a - b);
    const key = `${element.tagName} ${element.className.baseVal ?? element.className} ${ink} ${ground}`;
    found[key] = (high + 0.05) / (low + 0.05);
  }
  return found;
}"""
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def chromium() -> str:
    """The browser's path; a test that asks is skipped, with the reason, where there is none."""
    pytest.importorskip("playwright.sync_api", reason="browser test skipped: the package playwright is not installed")
    found = os.environ.get("SDTP_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("browser test skipped: no Chromium here; install Debian's package chromium or set SDTP_CHROMIUM")
    return found


@contextmanager
def launched():
    """A headless browser."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Watched:
    """A tab and what went on in it.

    Attributes:
        page: Playwright's.
        complaints: console messages of every kind, errors, violated policies.
        requests: addresses asked for, the page's own left out.
    """

    def __init__(self, browser, size="desktop", scheme="light", **options):
        width, height = SIZES[size]
        phone = {"is_mobile": True, "has_touch": True} if size == "phone" else {}
        view = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
        self.context = browser.new_context(**view, **phone, **options)
        self.page, self.complaints, self.requests = self.context.new_page(), [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, file: Path):
        """Open a file from disk."""
        address = file.as_uri()
        self.page.goto(address)
        self.requests = [url for url in self.requests if url != address]
        return self.page


def picture(page, folder: Path, name: str) -> Path:
    """A screenshot in $SDTP_SCREENSHOTS, or else in the test's own folder."""
    target = Path(os.environ.get("SDTP_SCREENSHOTS") or folder) / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=target)
    return target
