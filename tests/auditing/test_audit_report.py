"""The report: JSON after its schema, JUnit XML, and the page without a browser."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files as resources
from pathlib import Path
from xml.etree import ElementTree as Xml

import jsonschema
import onnx
import pytest
from auditing.exports import changed, photographs, plain

from onnxviz.auditing.audit import run_audit
from onnxviz.auditing.findings import CODES
from onnxviz.auditing.options import Options
from onnxviz.auditing.report.html import decibels, html_report, number, share
from onnxviz.auditing.report.junit import junit_report
from onnxviz.errors import OutputError

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(name="found", scope="module")
def _found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    onnx.save(plain(), folder / "reference.onnx")
    names = changed(plain(fold=True), "pointwise.w", lambda array: array.__setitem__(4, 0))
    names.graph.node[0].name = HOSTILE
    onnx.save(names, folder / "audited.onnx")
    pictures = photographs(folder / "pictures", 8)
    return run_audit(
        folder / "audited.onnx",
        pictures,
        folder / "reference.onnx",
        Options(device="cpu", explain=2, fail_on=["agreement.top1<0.5", "counts.dead-channel>0"]),
    )


def schema():
    return json.loads(resources("onnxviz.auditing").joinpath("audit.schema.json").read_text("utf-8"))


def test_the_document_keeps_to_its_schema(found):
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(json.loads(json.dumps(found.document)), schema())
    jsonschema.validate(run_audit(plain(), options=Options(device="cpu")).document, schema())


def test_the_published_schema_is_the_one_in_the_package():
    root = Path(__file__).parents[2]
    assert json.loads((root / "docs" / "audit.schema.json").read_text("utf-8")) == schema()


def test_a_folder_is_filled_whole(found, tmp_path):
    found.save(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "audit.json", "junit.xml", "report.html", "manifest.json", "drift-0.png", "drift-1.png",
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "audit.json").read_text("utf-8")) == found.document
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert set(manifest["files"]) == names - {"manifest.json"}
    assert manifest["verdict"] == "fail"
    with pytest.raises(OutputError, match="--overwrite"):
        found.save(tmp_path / "out")


def test_junit_has_a_test_for_each_gate_and_code(found):
    root = Xml.fromstring(junit_report(found.document))
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert set(cases) == {"verdict", "agreement.top1<0.5", "counts.dead-channel>0", *CODES}
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    assert failed == {"verdict", "counts.dead-channel>0"}
    assert int(root.get("failures")) == 2
    assert int(root.get("tests")) == len(cases)
    assert "channel 4 is dead" in cases["dead-channel"].find("system-out").text
    error = {
        **found.document,
        "findings": [{**found.document["findings"][0], "severity": "error", "detail": "a\x00b\ud800"}],
    }
    again = {case.get("name"): case for case in Xml.fromstring(junit_report(error)).iter("testcase")}
    assert again["dead-channel"].find("failure").text == "pointwise: a\ufffdb\ufffd"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_the_page_holds_all_it_needs_and_no_hostile_name(found):
    page = html_report(found.document, {"drift-0.png": b"png"})
    parser = Tags()
    parser.feed(page)
    assert sum(tag == "script" for tag, _ in parser.found) == 2
    assert all("onerror" not in attributes for _, attributes in parser.found)
    pictures = [attributes["src"] for tag, attributes in parser.found if tag == "img"]
    assert pictures == ["data:image/png;base64,cG5n"]
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "default-src 'none'" in page
    assert "Fail: do not ship" in page
    data = re.search(r'<script type="application/json" id="details">(.*?)</script>', page, re.S)[1]
    details = json.loads(data)
    rows = [tag for tag, attributes in parser.found if attributes.get("class") == "open"]
    assert len(details) == len(rows) == 5
    number, low, high, _, flags = details["2"]["channels"][4]
    assert (number, low == high, flags) == (4, True, "dead")


def test_a_page_without_pictures_or_reference_is_whole():
    page = html_report(run_audit(plain(), options=Options(device="cpu")).document, {})
    assert "no pictures" in page
    assert "Pass: ship it" in page


def test_numbers_are_written_as_people_read_them():
    assert [number(each) for each in (None, 0, 1234567, 0.98765, 1e-5, 12345.6, True)] == [
        "–", "0", "1,234,567", "0.988", "1.00e-5", "12,346", "True",
    ]  # fmt: skip
    assert [share(each) for each in (None, 0.0, 1.0, 0.98765, 1e-5)] == ["–", "0%", "100%", "98.8%", "0.001%"]
    assert [decibels(each) for each in (None, 200.0, 19.876)] == ["–", "equal", "19.9 dB"]
