"""The page of docs/browser in Chromium, against what Python computes from the same file and pixels."""

import base64
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from onnxviz import explainer, samples

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "browser"
MOBILE, DESKTOP = (390, 844), (1100, 800)


def found_or_skipped():
    """Chromium, and the folder of onnxruntime-web's files; the test is skipped where they are missing."""
    chromium = os.environ.get("ONNXVIZ_CHROMIUM") or shutil.which("chromium")
    modules = Path(os.environ.get("ONNXVIZ_NODE_MODULES", PAGE / "node_modules"))
    ort = modules / "onnxruntime-web" / "dist"
    missing = [
        *([] if chromium else ["Chromium (set ONNXVIZ_CHROMIUM)"]),
        *([] if ort.is_dir() else ["the npm package onnxruntime-web (set ONNXVIZ_NODE_MODULES)"]),
    ]
    try:
        import websocket  # noqa: F401
    except ImportError:
        missing.append("websocket-client (the extra browser)")
    if missing:
        said = f"the page is not tested without {' and '.join(missing)}"
        if os.environ.get("ONNXVIZ_REQUIRE_BROWSER"):
            pytest.fail(said)
        pytest.skip(said)
    return chromium, ort


class Quiet(SimpleHTTPRequestHandler):
    def guess_type(self, path):
        kinds = {".mjs": "text/javascript", ".wasm": "application/wasm"}
        return kinds.get(Path(path).suffix) or super().guess_type(path)

    def log_message(self, *_):
        pass


def shown(proto, picture, target):
    """What plain onnxruntime answers of a picture."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    scores, heatmap = session.run(None, {"image": picture[None], "target": np.array([target])})
    return scores[0], heatmap[0]


@pytest.fixture(scope="module", params=["grad-cam", "layer-cam", "gradient", "eigen-grad-cam"])
def page(request, tmp_path_factory):
    binary, ort = found_or_skipped()
    from browser.chromium import chromium

    folder = tmp_path_factory.mktemp("page")
    for file in ("index.html", "style.css", "page.js", "explain.js"):
        shutil.copy(PAGE / file, folder)
    (folder / "ort").symlink_to(ort, target_is_directory=True)
    shutil.copy(samples.sample_picture(), folder / "cat.png")
    shutil.copy(ROOT / "models" / "imagenet-labels.json", folder / "labels.json")
    layer = {"layer-cam": "fire6_squeeze1x1_relu"}.get(request.param)
    model = explainer(samples.sample_model(), request.param, layer, fold_preprocess=True)
    model.save(folder / "explained.onnx")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with chromium(binary, folder / "profile", f"http://127.0.0.1:{server.server_port}/") as opened:
            opened.until('document.getElementById("status").textContent === "Choose a picture."')
            yield opened, model.proto(), folder
    finally:
        server.shutdown()
        server.server_close()


def state(page, what):
    return page.evaluate(f"import('./page.js').then(({{ state }}) => {what})")


def choose_class(page, name):
    page.evaluate(f'document.getElementById("target").value = "{name}"')
    page.evaluate('document.getElementById("target").dispatchEvent(new Event("change"))')


def compare(page, proto, picture, target):
    scores, heatmap = shown(proto, picture, target)
    there = np.array(state(page, "Array.from(state.found.heatmap)")).reshape(heatmap.shape)
    said = np.array(state(page, "Array.from(state.found.scores)"))
    np.testing.assert_allclose(said, scores, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(there, heatmap, atol=1e-3)
    assert heatmap.max() > 0.5


def test_the_heatmap_in_the_browser_is_python_s(page, tmp_path):
    opened, proto, _ = page
    picture = np.asarray(Image.open(samples.sample_picture()).convert("RGB"))
    opened.evaluate('document.getElementById("sample").click()')
    opened.until('document.getElementById("status").textContent.startsWith("Egyptian cat, in")')
    compare(opened, proto, picture, -1)
    first = opened.evaluate('document.querySelector("#top button").textContent')
    assert first == "Egyptian cat50.6 %"

    choose_class(opened, "Tabby")
    opened.until('document.getElementById("status").textContent.startsWith("tabby, in")')
    compare(opened, proto, picture, 281)

    own = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(own).save(tmp_path / "own.png")
    opened.choose_file("#file", tmp_path / "own.png")
    opened.until("document.getElementById('canvas').width === 90")
    opened.until('document.getElementById("status").textContent.includes(" ms")')
    compare(opened, proto, own, -1)
    assert opened.wrong == []


def test_the_page_fits_a_phone_and_says_what_is_wrong(page, tmp_path):
    opened, _, folder = page
    opened.evaluate('document.getElementById("sample").click()')
    opened.until('document.getElementById("status").textContent.startsWith("Egyptian cat, in")')
    for name, size in (("phone", MOBILE), ("desktop", DESKTOP)):
        picture = base64.b64decode(opened.screenshot(*size))
        (folder / f"{name}.png").write_bytes(picture)
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        if "ONNXVIZ_SCREENSHOTS" in os.environ:
            shutil.copy(folder / f"{name}.png", os.environ["ONNXVIZ_SCREENSHOTS"])
    (tmp_path / "no.png").write_bytes(b"no picture")
    opened.choose_file("#file", tmp_path / "no.png")
    opened.until('document.getElementById("status").className === "error"')
    assert "not a picture" in opened.evaluate('document.getElementById("status").textContent')
    choose_class(opened, "unicorn")
    opened.until('document.getElementById("status").textContent.startsWith("No class is called")')
    assert opened.wrong == []
