"""JupyterLab as people use it: started on this machine, opened in a browser, a notebook run from top to bottom."""

import json
import os
import secrets
import subprocess
import sys
import time
from urllib.request import Request, urlopen

import nbformat
import papermill
import pytest
from browser import Watched, chromium, launched, picture

from sdtp_lib import paths
from sdtp_lib.runner.execution import KERNEL, OFFLINE

pytestmark = pytest.mark.slow
NOTEBOOK = "03_inspect_pruning.ipynb"
SETTINGS = {
    # All cells in the page at once, or pictures out of sight would not be there to be looked at.
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    # It asks a host for news.
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"checkForUpdates": False, "fetchNews": "false"},
}
PROMPTS = "() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map((prompt) => prompt.textContent)"
PICTURES = """async () => {
  const pictures = [...document.querySelectorAll(".jp-RenderedImage img")];
  await Promise.all(pictures.map((picture) => picture.decode()));
  return pictures.map((picture) => [picture.naturalWidth, picture.getBoundingClientRect().width]);
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Copies of the notebook without outputs: as it is, and with parameters by papermill."""
    chromium()  # or there is no use in starting a server
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    for name, parameters in {NOTEBOOK: {}, "parameters.ipynb": {"schedule": "keep07", "record": 0}}.items():
        target = folder / "notebooks" / name
        notebook = nbformat.read(paths.NOTEBOOKS / NOTEBOOK, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, target)
        if parameters:
            papermill.execute_notebook(target, target, parameters, prepare_only=True)
    return folder


@pytest.fixture(scope="module")
def lab(folder):
    """(address, token) of a JupyterLab on the loopback interface that serves `folder` alone."""
    token, settings = secrets.token_hex(16), folder / "settings"
    for name, values in SETTINGS.items():
        (settings / name).parent.mkdir(parents=True, exist_ok=True)
        (settings / name).write_text(json.dumps(values))
    own = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    python = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ, **KERNEL, **OFFLINE, **own, "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"), "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": python,
    }  # fmt: skip
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder / 'notebooks'}",
    ]  # fmt: skip
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = None
    try:
        address = started(server, folder)
        yield address, token
    finally:
        if address:
            urlopen(Request(f"{address}/api/shutdown", method="POST", headers={"Authorization": f"token {token}"}))
        else:
            server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def started(server, folder, seconds=90):
    """The server's address, once it has written it down."""
    for _ in range(seconds * 2):
        time.sleep(0.5)
        found = list((folder / "runtime").glob("jpserver-*.json"))
        if found and found[0].read_text().endswith("}"):
            return json.loads(found[0].read_text())["url"].rstrip("/")
        if server.poll() is not None:
            break
    raise AssertionError(f"JupyterLab did not start:\n{(folder / 'server.log').read_text()[-2000:]}")


def until(true, seconds, what):
    """Wait for something that cannot be waited for otherwise."""
    for _ in range(2 * seconds):
        if true():
            return
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} seconds: {what}")


def connected(lab, name):
    """Whether the page is connected to the notebook's kernel: before that, Run All is lost without a word."""
    address, token = lab
    with urlopen(Request(f"{address}/api/sessions", headers={"Authorization": f"token {token}"})) as answer:
        kernels = [session["kernel"] for session in json.load(answer) if session["path"] == name]
    return any(kernel["connections"] and kernel["execution_state"] == "idle" for kernel in kernels)


@pytest.mark.parametrize("name", [NOTEBOOK, "parameters.ipynb"])
def test_run_all_ends_without_an_error_and_shows_every_picture(lab, folder, tmp_path, name):
    address, token = lab
    stored = nbformat.read(paths.NOTEBOOKS / NOTEBOOK, as_version=4)
    wanted = sum("image/png" in out.get("data", {}) for cell in stored.cells for out in cell.get("outputs", []))
    file = folder / "notebooks" / name
    codes = sum(cell.cell_type == "code" for cell in nbformat.read(file, as_version=4).cells)
    with launched() as browser:
        watched = Watched(browser)
        lab_page = watched.page
        lab_page.goto(f"{address}/lab/workspaces/{file.stem}/tree/{name}?token={token}", timeout=90_000)
        lab_page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=90_000)
        until(lambda: connected(lab, name), 90, "the kernel answers")
        lab_page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first.wait_for(timeout=90_000)
        assert lab_page.locator(".jp-RenderedImage").count() == 0
        lab_page.get_by_role("menuitem", name="Run", exact=True).click()
        lab_page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        failed = lab_page.locator('[data-mime-type="application/vnd.jupyter.error"]')
        ran = [f"[{number}]:" for number in range(1, codes + 1)]
        until(lambda: failed.count() or lab_page.evaluate(PROMPTS) == ran, 300, "all cells have run")
        picture(lab_page, tmp_path, f"jupyterlab_{file.stem}")
        assert failed.count() == 0, failed.first.inner_text()
        assert lab_page.evaluate(PROMPTS) == ran
        assert lab_page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
        shown = lab_page.evaluate(PICTURES)
        assert len(shown) == wanted >= 3 and all(natural > 100 and width > 100 for natural, width in shown)
        frame = lab_page.locator("iframe[title='Pruning explorer']")
        frame.scroll_into_view_if_needed()
        inside = lab_page.frame_locator("iframe[title='Pruning explorer']")
        inside.locator("#layer").fill("9")
        assert inside.locator("#status").inner_text().startswith("Layer 9:")
        assert ("keep07" if name != NOTEBOOK else "paper") in inside.locator("header").inner_text()
        picture(lab_page, tmp_path, f"jupyterlab_{file.stem}_explorer")
        outside = [url for url in watched.requests if not url.startswith((address, "data:", "blob:"))]
        assert outside == []
        watched.context.close()
