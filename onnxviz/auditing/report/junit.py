"""The report as JUnit XML, which CI systems show beside the tests."""

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as Xml

from onnxviz.auditing.findings import CODES, SEVERITIES

# What XML 1.0 forbids, in a text as well as escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_report(document: Mapping[str, Any]) -> str:
    """An audit as JUnit XML: a test for the verdict, for each gate, and for each code of findings."""
    name = str(document["identity"]["path"] or "model")
    root = Xml.Element("testsuites", {"name": "onnxviz audit"})
    suites = {
        "verdict": [_verdict(document)],
        "gates": [_gate(gate) for gate in document["gates"]],
        "findings": [_code(code, document) for code in CODES],
    }
    for title, cases in suites.items():
        failures = sum(case.find("failure") is not None for case in cases)
        suite = Xml.SubElement(
            root,
            "testsuite",
            {
                "name": title,
                "tests": str(len(cases)),
                "failures": str(failures),
                "errors": "0",
                "skipped": "0",
            },
        )
        for case in cases:
            case.set("classname", _clean(f"{name}.{title}"))
            suite.append(case)
    totals = {kind: sum(int(suite.get(kind, "0")) for suite in root) for kind in ("tests", "failures")}
    root.attrib |= {kind: str(total) for kind, total in totals.items()}
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _verdict(document: Mapping[str, Any]) -> Xml.Element:
    return _case("verdict", document["reasons"] if document["verdict"] == "fail" else [], document["reasons"])


def _gate(gate: Mapping[str, Any]) -> Xml.Element:
    fails = not gate["holds"] and gate["severity"] == "error"
    return _case(gate["gate"], [gate["detail"]] if fails else [], [gate["detail"]])


def _code(code: str, document: Mapping[str, Any]) -> Xml.Element:
    found = [one for one in document["findings"] if one["code"] == code]
    told = {level: [_line(one) for one in found if one["severity"] == level] for level in SEVERITIES}
    return _case(code, told["error"], [*told["warning"], *told["info"]])


def _line(one: Mapping[str, Any]) -> str:
    where = one["layer"] or ""
    return f"{where}: {one['detail']}" if where else str(one["detail"])


def _case(name: str, failures: list[str], said: list[str]) -> Xml.Element:
    case = Xml.Element("testcase", {"name": _clean(name)})
    if failures:
        failure = Xml.SubElement(case, "failure", {"message": _clean(failures[0])})
        failure.text = _clean("\n".join(failures))
    if said:
        Xml.SubElement(case, "system-out").text = _clean("\n".join(said))
    return case


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
