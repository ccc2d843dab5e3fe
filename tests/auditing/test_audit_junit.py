"""JUnit XML of documents made by hand."""

from xml.etree import ElementTree as Xml

from auditing import documents

from onnxviz.auditing.findings import CODES
from onnxviz.auditing.report.junit import junit_report


def suites(document):
    root = Xml.fromstring(junit_report(document))
    return root, {
        suite.get("name"): {case.get("name"): case for case in suite.iter("testcase")} for suite in root
    }


def failed(cases):
    return {name for name, case in cases.items() if case.find("failure") is not None}


def test_every_gate_and_every_known_code_is_a_test():
    document = documents.full()
    root, found = suites(document)
    assert list(found) == ["verdict", "gates", "findings"]
    assert list(found["gates"]) == [gate["gate"] for gate in document["gates"]]
    assert list(found["findings"]) == list(CODES)
    assert failed(found["verdict"]) == {"verdict"}
    assert failed(found["gates"]) == {"agreement.top1<0.98"}
    assert failed(found["findings"]) == {"layer-diverges", "batchnorm-fold"}
    assert (root.get("tests"), root.get("failures")) == (str(1 + 4 + len(CODES)), "4")
    assert [suite.get("failures") for suite in root] == ["1", "1", "2"]


def test_all_errors_of_a_code_are_told_and_a_warning_is_no_failure():
    document = documents.full()
    document["findings"] = [
        documents.finding("nan-weight", "error", "fire2", detail="One."),
        documents.finding("nan-weight", "error", None, detail="Two."),
        documents.finding("nan-weight", "warning", "fire9", detail="Three."),
        documents.finding("dead-channel", "warning", "fire3", 4, detail="Channel 4 is dead."),
    ]
    cases = suites(document)[1]["findings"]
    assert cases["nan-weight"].find("failure").text == "fire2: One.\nTwo."
    assert cases["nan-weight"].find("system-out").text == "fire9: Three."
    assert cases["dead-channel"].find("failure") is None
    assert cases["dead-channel"].find("system-out").text == "fire3: Channel 4 is dead."


def test_a_gate_that_warns_is_told_and_does_not_fail_the_build():
    case = suites(documents.full())[1]["gates"]["drift.iou.median<0.5"]
    assert case.find("failure") is None
    assert case.find("system-out").text == "drift.iou.median was not measured."


def test_nothing_fails_where_nothing_was_found():
    root, found = suites(documents.quiet())
    assert root.get("failures") == "0"
    assert found["gates"] == {}
    assert set().union(*map(failed, found.values())) == set()


def test_names_that_xml_forbids_or_that_want_to_be_xml_are_text():
    document = documents.hostile()
    document["identity"]["path"] = "a\x00b\ud800]]></testcase>\uffff.onnx"
    root, found = suites(document)
    assert len(list(root.iter("testcase"))) == 1 + 4 + len(CODES)
    assert {element.tag for element in root.iter()} == {
        "testsuites", "testsuite", "testcase", "failure", "system-out",
    }  # fmt: skip
    name = found["verdict"]["verdict"].get("classname")
    assert name == "a\ufffdb\ufffd]]></testcase>\ufffd.onnx.verdict"


def test_the_same_document_is_the_same_xml():
    assert junit_report(documents.full()) == junit_report(documents.full())
