"""The audit's page in Chromium: opened, sorted, filtered, unfolded, at a desk's and a phone's width."""

import os
import shutil

import onnx
import pytest
from auditing import documents
from auditing.exports import changed, photographs, plain

from onnxviz.auditing.audit import run_audit
from onnxviz.auditing.options import Options
from onnxviz.auditing.report.html import html_report

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def binary_or_skipped():
    chromium = os.environ.get("ONNXVIZ_CHROMIUM") or shutil.which("chromium")
    missing = [] if chromium else ["Chromium (set ONNXVIZ_CHROMIUM)"]
    try:
        import websocket  # noqa: F401
    except ImportError:
        missing.append("websocket-client (the extra browser)")
    if missing:
        said = f"the page is not tested without {' and '.join(missing)}"
        if os.environ.get("ONNXVIZ_REQUIRE_BROWSER"):
            pytest.fail(said)
        pytest.skip(said)
    return chromium


@pytest.fixture(name="page", scope="module")
def _page(tmp_path_factory):
    binary = binary_or_skipped()
    from browser.chromium import chromium

    folder = tmp_path_factory.mktemp("audit")
    onnx.save(plain(), folder / "reference.onnx")
    model = changed(plain(fold=True), "pointwise.w", lambda array: array.__setitem__(4, 0))
    model = changed(model, "depthwise.w", lambda array: array.__imul__(1.02))
    model.graph.node[0].name = HOSTILE
    onnx.save(model, folder / "audited.onnx")
    found = run_audit(
        folder / "audited.onnx",
        photographs(folder / "pictures", 8),
        folder / "reference.onnx",
        Options(device="cpu", explain=2, fail_on=["layers[*].sqnr_db<20"]),
    )
    found.save(folder / "out")
    address = (folder / "out" / "report.html").as_uri()
    with chromium(binary, folder / "profile", address) as opened:
        yield opened
        assert opened.wrong == []


def column(page, table, place):
    return page.evaluate(
        f"""[...document.querySelectorAll("#{table} tbody > tr:not(.detail)")]
            .filter((row) => !row.hidden).map((row) => row.cells[{place}].textContent.trim())"""
    )


def click(page, selector, number=0):
    page.evaluate(f"document.querySelectorAll({selector!r})[{number}].click()")


def write(page, field, text):
    page.evaluate(
        f"""(() => {{ const field = document.querySelector({field!r}); field.value = {text!r};
            field.dispatchEvent(new Event("input", {{bubbles: true}})); }})()"""
    )


def test_the_verdict_is_read_first(page):
    first = page.evaluate("document.querySelector('#verdict strong').textContent")
    assert first == "Fail: do not ship"
    top = page.evaluate("document.querySelector('#verdict').getBoundingClientRect().top")
    assert 0 < top < 200
    assert page.evaluate("document.querySelectorAll('figure img').length") == 2
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 300)")


def test_layers_are_sorted_by_value(page):
    levels = [float(text.split()[0]) for text in column(page, "layers-table", 1) if text.endswith("dB")]
    assert levels != sorted(levels)
    click(page, "#layers-table th button", 1)
    rising = column(page, "layers-table", 1)
    found = [float(text.split()[0]) for text in rising if text.endswith("dB")]
    assert found == sorted(levels)
    assert page.evaluate("document.querySelectorAll('#layers-table th')[1].ariaSort") == "ascending"
    click(page, "#layers-table th button", 1)
    assert column(page, "layers-table", 1) == rising[::-1]
    click(page, "#layers-table th button", 0)
    names = column(page, "layers-table", 0)
    assert names == sorted(names, key=str.lower)


def test_findings_are_filtered_by_words_and_severity(page):
    assert column(page, "findings-table", 1) == ["batchnorm-fold", "dead-channel"]
    write(page, "[aria-label='Filter findings']", "dead")
    assert column(page, "findings-table", 1) == ["dead-channel"]
    assert (
        page.evaluate("document.querySelector('[data-table=findings-table] output').textContent") == "1 of 2"
    )
    write(page, "[aria-label='Filter findings']", "")
    click(page, "[data-table=findings-table] input[value=warning]")
    assert column(page, "findings-table", 1) == ["batchnorm-fold"]
    click(page, "[data-table=findings-table] input[value=warning]")
    assert len(column(page, "findings-table", 1)) == 2


def test_a_layer_opens_to_its_channels(page):
    place = page.evaluate(
        "[...document.querySelectorAll('button.open')].findIndex((one) => one.textContent === 'pointwise')"
    )
    click(page, "button.open", place)
    opened = "document.querySelector('tr.detail')"
    assert page.evaluate(f"{opened}.querySelectorAll('table').length") == 2
    first = page.evaluate(
        f"[...{opened}.querySelectorAll('table')[1].tBodies[0].rows[0].cells].map((cell) => cell.textContent)"
    )
    assert first[0] == "4"
    assert first[4] == "dead"
    assert page.evaluate(f"{opened}.querySelectorAll('table')[1].tBodies[0].rows.length") == 20
    click(page, "#layers-table th button", 1)  # sorted, the opened row stays with its own
    assert page.evaluate(f"{opened}.previousElementSibling.cells[0].textContent").startswith("pointwise")
    write(page, "[aria-label='Filter layers']", "stem-that-is-not")
    assert page.evaluate(f"{opened}.hidden")
    write(page, "[aria-label='Filter layers']", "")
    click(page, "button.open[aria-expanded=true]")
    assert page.evaluate(f"{opened} === null")


def test_a_hostile_name_does_nothing(page):
    assert page.evaluate("document.title").startswith("fail: ")
    shown = column(page, "layers-table", 0)
    assert any(text.startswith("</script><script>document.title=") for text in shown)


@pytest.mark.parametrize("width", [360, 1240])
def test_the_page_never_scrolls_sideways(page, width):
    page.screenshot(width, 800)
    # A phone widens innerWidth to what does not fit, so that the width asked for is what tells.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 15


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory):
    """A function that opens the page of a document made by hand."""
    binary = binary_or_skipped()
    from browser.chromium import chromium

    folder = tmp_path_factory.mktemp("made")
    with chromium(binary, folder / "profile", "about:blank") as opened:

        def show(document, width=1240):
            address = folder / f"{len(list(folder.glob('*.html')))}.html"
            address.write_text(html_report(document, {}), "utf-8")
            opened.screenshot(width, 800)
            opened.open(address.as_uri())
            return opened

        yield show
        assert opened.wrong == []


@pytest.mark.parametrize("width", [360, 1240])
def test_long_names_do_not_widen_the_page(made, width):
    page = made(documents.hostile(), width)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.evaluate("document.querySelectorAll('button.open').forEach((each) => each.click())")
    assert page.evaluate("document.querySelectorAll('tr.detail').length") == 5
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.title").startswith("fail: ")
    assert page.evaluate("document.images.length") == 0


def test_what_is_not_known_is_sorted_last_both_ways(made):
    page = made(documents.full())
    flagged = "#layers-table thead th:last-child button"
    place = page.evaluate("document.querySelectorAll('#layers-table thead th').length") - 1
    click(page, flagged)
    assert column(page, "layers-table", place) == ["0", "1 of 20", "1 of 5000", "3 of 250", "–"]
    click(page, flagged)
    assert column(page, "layers-table", place) == ["3 of 250", "1 of 20", "1 of 5000", "0", "–"]


def test_words_among_figures_are_sorted_behind_them(made):
    page = made(documents.full())
    figures = """[...document.querySelector("#gates + .box").querySelectorAll("tbody tr")]
        .map((row) => row.cells[2].textContent)"""
    click(page, "#gates + .box th button", 2)
    assert page.evaluate(figures) == ["0.042", "0.938", "QDQ", "–"]
    click(page, "#gates + .box th button", 2)
    assert page.evaluate(figures) == ["0.938", "0.042", "QDQ", "–"]


def test_two_hundred_channels_are_shown_before_all_are(made):
    document = documents.full()
    told = document["health"]["layers"][2]["by_channel"]
    told[4] |= {"low": -1234.56789, "high": 0.123456789, "mean": 1e-10}
    page = made(document)
    click(page, "button.open", 2)
    table = "document.querySelectorAll('tr.detail table')[1]"
    rows = f"[...{table}.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
    shown = page.evaluate(rows)
    assert len(shown) == 200
    assert shown[0] == ["4", "-1235", "0.1235", "1e-10", "dead duplicate"]
    assert [row[0] for row in shown[:5]] == ["4", "9", "240", "0", "1"]
    assert shown[1][3] == "–"
    click(page, ".more")
    assert len(page.evaluate(rows)) == 250
    assert page.evaluate("document.querySelector('.more') === null")


def test_a_model_of_many_layers_and_channels_opens(made):
    page = made(documents.large(500, 2000))
    assert len(column(page, "layers-table", 0)) == 500
    assert page.evaluate("document.querySelectorAll('tr').length") < 700
    click(page, "button.open", 499)
    assert page.evaluate("document.querySelector('tr.detail').previousElementSibling.rowIndex") == 500
    assert page.evaluate("document.querySelector('.more').textContent") == "Show all 2000 channels"
