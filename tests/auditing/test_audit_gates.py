"""Gates, policies, baselines and the verdict."""

import copy
import json

import pytest

from onnxviz.auditing.baseline import compare, load_baseline
from onnxviz.auditing.findings import CODES, counts, finding, in_order
from onnxviz.auditing.gates import judge, parse_gate, parse_gates
from onnxviz.auditing.policy import Policy, load_policy, weighed
from onnxviz.auditing.verdict import verdict
from onnxviz.errors import PolicyError

DOCUMENT = {
    "schema": "onnxviz-audit/1",
    "identity": {"sha256": "a" * 64, "bytes": 100, "parameters": 7, "quantisation": {"scheme": "QDQ"}},
    "agreement": {"top1": 0.95, "top5": None, "kl": 0.01, "outputs": {"scores": {"max_abs": 0.5}}},
    "layers": [
        {"name": "conv.1/a;b", "sqnr_db": 30.0, "quantised": True},
        {"name": "conv2", "sqnr_db": 12.0, "quantised": False},
        {"name": "conv3", "sqnr_db": None, "quantised": False},
    ],
    "findings": [{"code": "dead-channel", "layer": "conv2", "channel": 3, "value": 0.0}],
    "counts": counts([finding("dead-channel", "conv2", 3, 0.0, "")]),
    "drift": None,
}


def said(text):
    [gate] = judge(parse_gates([text]), DOCUMENT)
    return gate["holds"], gate["value"]


@pytest.mark.parametrize(
    ("text", "holds", "value"),
    [
        ("agreement.top1<0.98", False, 0.95),
        ("agreement.top1 < 90%", True, 0.95),
        ("agreement.top1<=0.95", False, 0.95),
        ("agreement.kl>1e-3", False, 0.01),
        ("agreement.kl>=.02", True, 0.01),
        ("identity.quantisation.scheme!=QDQ", True, "QDQ"),
        ("identity.quantisation.scheme=='QDQ'", False, "QDQ"),
        ("identity.parameters==7", False, 7),
        ("layers[conv2].sqnr_db<15", False, 12.0),
        ("layers[conv.1/a;b].sqnr_db<15", True, 30.0),
        ("layers[1].sqnr_db<15", False, 12.0),
        ("layers[0].quantised==true", False, True),
        ("layers[conv2].quantised==true", True, False),
        ("counts.dead-channel>0", False, 1),
        ("counts.nan-weight>0", True, 0),
        ("findings[dead-channel].channel==3", False, 3),
        ("agreement.outputs[scores].max_abs>1", True, 0.5),
        ("agreement.outputs.*.max_abs>0.4", False, 0.5),
    ],
)
def test_a_gate_fails_where_its_condition_holds(text, holds, value):
    assert said(text) == (holds, value)


@pytest.mark.parametrize(
    "text",
    ["agreement.top5<0.9", "drift.ssim.median<0.5", "layers[conv3].sqnr_db<1", "layers[other].sqnr_db<1",
     "layers[9].sqnr_db<1", "agreement.accuracy>2"],
)  # fmt: skip
def test_a_missing_figure_fails_its_gate(text):
    [gate] = judge(parse_gates([text]), DOCUMENT)
    assert (gate["holds"], gate["value"]) == (False, None)
    assert "not measured" in gate["detail"]


def test_a_star_stands_for_every_element():
    measured = {**DOCUMENT, "layers": DOCUMENT["layers"][:2]}
    [low, high] = judge(parse_gates(["layers[*].sqnr_db<15", "layers.*.sqnr_db<5"]), measured)
    assert (low["holds"], low["value"]) == (False, 12.0)
    assert low["detail"] == "layers[conv2].sqnr_db is 12"
    assert (high["holds"], high["value"]) == (True, 12.0)
    [missing] = judge(parse_gates(["layers[*].sqnr_db<5"]), DOCUMENT)
    assert not missing["holds"]
    assert missing["detail"].startswith("layers[conv3].sqnr_db was not measured")
    [empty] = judge(parse_gates(["layers[*].sqnr_db<5"]), {**DOCUMENT, "layers": []})
    assert not empty["holds"]
    [none] = judge(parse_gates(["findings[*].channel>=0"]), {**DOCUMENT, "findings": []})
    assert none["holds"]
    assert judge(parse_gates(["findings[nan-weight].value>0"]), DOCUMENT)[0]["holds"]
    same = {**DOCUMENT, "baseline": {"new": [], "changes": []}}
    assert judge(parse_gates(["baseline.new[*].severity==error"]), same)[0]["holds"]
    assert not judge(parse_gates(["baseline.new[*].severity==error"]), {**same, "baseline": None})[0]["holds"]
    [nan] = judge(parse_gates(["agreement.kl<0"]), {**DOCUMENT, "agreement": {"kl": float("nan")}})
    assert not nan["holds"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("agreement.top1", "write one such as"),
        ("<0.9", "write one such as"),
        ("agreement.top1<", "write one such as"),
        ("agreement.top1<fast", "compares with a word"),
        ("agrement.top1<0.9", "did you mean 'agreement'"),
        ("agreement.top2<0.9", "agreement has no 'top2'; did you mean 'top5', 'top1'"),
        ("agreement.top1.mean<0.9", "no list"),
        ("verdict==fail", "what gates decide"),
        ("layers[conv<3", "cannot read the path"),
        ("agreement..top1<3", "cannot read the path"),
        ("__class__.x<3", "no '__class__'"),
    ],
)
def test_what_is_no_gate_is_refused_before_anything_runs(text, why):
    with pytest.raises(PolicyError, match=why.replace("[", r"\[").replace("(", r"\(")):
        parse_gate(text)


def test_a_policy_sets_gates_and_severities(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(
        'fail-on = ["agreement.top1<0.98"]\nwarn-on = ["agreement.kl>0.001"]\n'
        '[severity]\ndead-channel = "error"\nopset-age = "ignore"\n'
    )
    found = load_policy(path)
    assert found == Policy(
        ("agreement.top1<0.98",), ("agreement.kl>0.001",), {"dead-channel": "error", "opset-age": "ignore"}
    )
    findings = [finding("dead-channel", "a", 1, 0, ""), finding("opset-age", None, None, 9, "")]
    assert [(one.code, one.severity) for one in weighed(findings, found)] == [("dead-channel", "error")]
    gates = judge(parse_gates(found.fail_on, found.warn_on), DOCUMENT)
    assert [gate["severity"] for gate in gates] == ["error", "warning"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fail_on = []", "unknown key 'fail_on'; the keys are fail-on"),
        ("fail-on = 'x'", "must be a list"),
        ("fail-on = ['x<1']", "audit.toml: the gate 'x<1'"),
        ("[severity]\ndead-chanel = 'error'", "did you mean 'dead-channel'"),
        ("[severity]\ndead-channel = 'bad'", "must be one of error, warning, info, ignore"),
        ("severity = 3", "must be a table"),
        ("= =", "not a TOML file"),
    ],
)
def test_a_wrong_policy_is_refused(tmp_path, text, why):
    (tmp_path / "audit.toml").write_text(text)
    with pytest.raises(PolicyError, match=why):
        load_policy(tmp_path / "audit.toml")


def test_a_policy_that_is_not_there(tmp_path):
    with pytest.raises(PolicyError, match="cannot read the policy"):
        load_policy(tmp_path / "none.toml")


def test_the_verdict_is_that_of_the_worst():
    error, warning = finding("nan-weight", "a", 1, 1, "NaN"), finding("dead-channel", "b", 2, 0, "dead")
    info = finding("opset-age", None, None, 9, "old")
    failed = {"gate": "x<1", "holds": False, "severity": "error", "detail": "x is 0"}
    warns = {**failed, "severity": "warning"}
    holds = {**failed, "holds": True}
    assert verdict([], []) == ("pass", [])
    assert verdict([info], [holds]) == ("pass", [])
    assert verdict([warning], [])[0] == verdict([], [warns])[0] == "warn"
    assert verdict([error], [])[0] == verdict([], [failed])[0] == "fail"
    word, reasons = verdict([error, warning], [failed])
    assert word == "fail"
    assert reasons == [
        "The gate x<1 fails: x is 0.",
        "A weight is NaN (a): NaN.",
        "A channel answers to nothing (b): dead.",
    ]
    many = [finding("dead-channel", name, 1, 0, "") for name in "abcde"]
    assert verdict(many, [])[1] == ["A channel answers to nothing: 5 times in a, b, c and 2 more."]


def test_findings_are_counted_and_ordered():
    found = [finding("opset-age", None, None, 9, ""), finding("nan-weight", "a", 1, 1, "")]
    assert [one.code for one in in_order(found)] == ["nan-weight", "opset-age"]
    told = counts(found)
    assert (told["error"], told["warning"], told["info"], told["nan-weight"]) == (1, 0, 1, 1)
    assert set(told) == {"error", "warning", "info", *CODES}


def test_a_baseline_tells_what_changed(tmp_path):
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(DOCUMENT))
    now = copy.deepcopy(DOCUMENT)
    now["identity"]["sha256"] = "b" * 64
    now["agreement"]["top1"] = 0.9
    now["agreement"]["kl"] = 0.005
    now["layers"][0]["sqnr_db"] = 25.0
    now["layers"][1]["sqnr_db"] = 12.5
    now["findings"] = [{"code": "nan-weight", "layer": "conv2", "channel": 3, "value": 1.0}]
    found = compare(now, load_baseline(path), path)
    assert not found["same_model"]
    assert [one["code"] for one in found["new"]] == ["nan-weight"]
    assert [one["code"] for one in found["gone"]] == ["dead-channel"]
    changes = {one["path"]: (one["before"], one["now"], one["worse"]) for one in found["changes"]}
    assert changes == {
        "agreement.top1": (0.95, 0.9, True),
        "agreement.kl": (0.01, 0.005, False),
        "layers[conv.1/a;b].sqnr_db": (30.0, 25.0, True),
    }
    assert compare(DOCUMENT, load_baseline(path), path)["changes"] == []
    lost = {**now, "agreement": None}
    assert {"path": "agreement.top1", "before": 0.95, "now": None, "worse": True} in compare(
        lost, load_baseline(path), path
    )["changes"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "onnxviz-audit/1"}', '{"schema": "other"}', "[" * 9999]
)
def test_what_is_no_audit_is_no_baseline(tmp_path, text):
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(PolicyError):
        load_baseline(tmp_path / "audit.json")
    with pytest.raises(PolicyError, match="cannot read the baseline"):
        load_baseline(tmp_path / "none.json")
