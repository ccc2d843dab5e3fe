"""The documentation says what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

import onnxviz
from onnxviz.methods.attribution.table import METHODS
from onnxviz.vision.preprocess import PRESETS

ROOT = Path(__file__).parents[1]


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        spec.loader.exec_module(module)
    return module


def test_the_table_of_operators_is_that_of_the_code():
    operators = script("operators")
    assert operators.PAGE.read_text(encoding="utf-8") == operators.page()
    assert "| Conv | D | 1 11 22 | `rules/convolution.py` |" in operators.page()
    assert re.search(
        r"\| Relu \| D \| .* \| `rules/activation.py` \| guided-backprop, deconvnet", operators.page()
    )
    assert "| Round |  | 11 22 | zero |" in operators.page()


def test_the_changelog_counts_the_operators():
    count = len(onnxviz.autodiff.ruleset.GRADIENT.by_type)
    assert f"{count} operators have a rule" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_link_between_pages_leads_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_preset_is_documented():
    text = (ROOT / "docs" / "preprocessing.md").read_text(encoding="utf-8")
    assert [name for name in PRESETS if f"`{name}`" not in text] == []


def test_every_method_is_in_the_help():
    from click.testing import CliRunner

    from onnxviz.cli import main

    text = CliRunner().invoke(main, ["explain", "--help"]).output
    assert [name for name in METHODS if name not in re.sub(r"\s+", " ", text)] == []


def test_every_manifest_key_is_documented():
    from onnxviz.samples import sample_model, sample_picture

    found = onnxviz.explain(sample_model(), sample_picture())
    text = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
    assert [key for key in found.manifest if f"`{key}`" not in text] == []


def test_every_code_of_a_finding_is_documented():
    from onnxviz.auditing.findings import CODES

    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    assert [
        code for code, kind in CODES.items() if f"| `{code}` | {kind.severity} | {kind.meaning} |" not in text
    ] == []


def test_the_example_of_a_workflow_is_the_file():
    import textwrap

    workflow = (ROOT / "docs" / "audit.github.yml").read_text(encoding="utf-8")
    steps = textwrap.dedent(workflow[workflow.index("      - run: |") :])
    assert f"```yaml\n{steps}```" in (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")


def test_the_gates_of_the_documentation_can_be_read():
    from onnxviz.auditing.gates import parse_gate

    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    gates = re.search(r"```text\n(.*?)```", text, re.S)[1].split()
    gates += re.findall(r'--fail-on "([^"]+)"', text)
    gates += re.findall(r'"([^"]+)"', re.search(r"fail-on = (.*)\nwarn-on = (.*)", text)[0])
    assert len(gates) > 10
    for gate in gates:
        if gate != "PATH OP VALUE":
            parse_gate(gate)


def test_the_tables_of_methods_are_those_of_the_code():
    methods = script("methods")
    assert methods.PAGE.read_text(encoding="utf-8") == methods.page()
    assert "| `samples` | `50` | How many copies" in methods.page()
    assert re.search(r"\| `grad-cam` \| sum_k w_k A_k .* \| exports; numeric \|", methods.page())


def test_every_method_says_what_it_is():
    methods = script("methods")
    for name, method in METHODS.items():
        assert method.name == name
        assert method.definition, name
        assert method.cost, name
        assert method.citation, name
        assert set(method.settings) <= set(methods.documented(method)), name


def test_the_pages_count_the_methods():
    for page in ("README.md", "CHANGELOG.md"):
        assert f"{len(METHODS)} methods" in (ROOT / page).read_text(encoding="utf-8")
