"""The page in a real browser shows what limbeck.load says: `make test-browser`."""

import functools
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import HEADS, make_model, make_text, make_tokenizer, with_task_head
from playwright.sync_api import Page, sync_playwright

from limbeck.deploy.export import export
from limbeck.deploy.exported_model import ExportedModel
from limbeck.deploy.settings import ExportSettings

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium")
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-quic"]
QUIET += ["--disable-gpu", "--disable-sync", "--no-first-run"]
FORMATS = "onnx", "onnx-int8"
TEXTS = ["the old house", "a red garden, and the river!", " ".join(make_text(200))]


class Handler(SimpleHTTPRequestHandler):
    """Gives files their types whatever the machine's table of types says."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_):
        """Nothing, so that only failures are read."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The page beside a folder of files of a tiny classifier."""
    folder = tmp_path_factory.mktemp("site")
    tokenizer = make_tokenizer()
    model = make_model("bert", vocabulary=len(tokenizer), layers=2)
    model.config.pad_token_id = tokenizer.pad_token_id
    model = with_task_head(model, HEADS["labels"])
    model.classifier.weight.data *= 50  # probabilities that differ
    model.save_pretrained(folder / "source")
    tokenizer.save_pretrained(folder / "source")
    settings = ExportSettings(formats=FORMATS, keep=0.0, timed=False, threads=1)
    export(str(folder / "source"), folder / "model", settings)
    for name in ("index.html", "classifier.js", "node_modules"):
        (folder / name).symlink_to(HERE / name)
    return folder


@pytest.fixture(scope="module")
def address(site):
    """Of a server of the page on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(address):
    """An empty page of a headless browser that reaches no other machine."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        opened = browser.new_page()
        opened.route(
            lambda url: not url.startswith((address, "data:")), lambda route: route.abort()
        )
        yield opened
        browser.close()


def probabilities(page: Page, text: str) -> dict[str, float]:
    """What the page shows once the text is typed."""
    page.fill("#text", "")
    page.evaluate("document.getElementById('status').textContent = ''")
    page.fill("#text", text)
    page.wait_for_function("document.getElementById('status').textContent.endsWith(' ms')")
    rows = page.locator("#classes tr").all()
    cells = [row.locator("td").all_inner_texts() for row in rows]
    return {label: float(probability) for label, _, probability in cells}


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_page_shows_the_probabilities_of_limbeck(site, address, page, format_name):
    """Of short texts and of one that is longer than the model reads."""
    page.goto(f"{address}/?format={format_name}")
    page.wait_for_selector("#text:enabled")
    model = ExportedModel(site / "model", format=format_name, threads=1)
    for text in TEXTS:
        shown = probabilities(page, text)
        powers = np.exp(model.logits([text])[0])
        expected = dict(zip(model.labels, powers / powers.sum(), strict=True))
        assert shown == pytest.approx(expected, abs=1e-3)
        assert list(shown.values()) == sorted(shown.values(), reverse=True)


def test_what_is_missing_is_said(address, page):
    """A folder that is not there, and a format that the folder does not have."""
    for asked, said in (("folder=other", "other/"), ("format=onnx-fused", "onnx-fused")):
        page.goto(f"{address}/?{asked}")
        page.wait_for_function("document.getElementById('status').textContent.includes('not be')")
        assert said in page.inner_text("#status")
        assert page.is_disabled("#text")
