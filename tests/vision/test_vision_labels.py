import json

import pytest

from onnxviz.errors import TargetError
from onnxviz.vision.labels import find_class, name_of, read_labels

LABELS = (
    "tench, Tinca tinca",
    "crane",
    "tabby,  Tabby Cat",
    "maillot",
    "maillot, tank suit",
    "",
    "crane, digger",
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.json", '["cat", " dog ", "", "emu"]'),
        ("l.txt", ' \n["cat", "dog", "", "emu"]'),
        ("l.json", '{"1": "dog", "0": "cat", "3": "emu"}'),
        ("l.txt", "cat\n dog\t\n\nemu\n\n"),
        ("l.txt", "\ufeffcat\r\ndog\r\n\r\nemu"),
    ],
)
def test_a_file_holds_a_json_list_an_object_or_lines(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_labels(path, {}) == ("cat", "dog", "", "emu")
    assert read_labels(str(path), {"onnxviz.labels": '["other"]'}) == ("cat", "dog", "", "emu")


def test_an_empty_first_line_is_a_class_without_a_name(tmp_path):
    path = tmp_path / "l.txt"
    path.write_text("\ncat\n")
    assert read_labels(path, {}) == ("", "cat")


def test_without_a_file_the_metadata_speaks_and_else_nobody():
    assert read_labels(None, {"onnxviz.labels": json.dumps(["Katze", "Hund, Köter"])}) == (
        "Katze",
        "Hund, Köter",
    )
    assert read_labels(None, {}) is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.json", b'["cat"', "not JSON"),
        ("l.json", b"cat\ndog", "not JSON"),
        ("l.json", b'"cat"', "labels must be a list of names"),
        ("l.json", b'["cat", 3]', "labels must be a list of names"),
        ("l.json", b'{"0": ["n1", "cat"]}', "labels must be a list of names"),
        ("l.json", b'{"cat": "0"}', "the key 'cat' is no class index"),
        ("l.json", b'{"-1": "cat"}', "the key '-1' is no class index"),
        ("l.json", b'{"9999999999": "cat"}', "the key '9999999999' is no class index"),
        ("l.json", b"[]", "there are no labels"),
        ("l.json", b"{}", "there are no labels"),
        ("l.txt", b" \n\n", "there are no labels"),
        ("l.txt", b"caf\xe9", "not a text file in UTF-8"),
    ],
)
def test_a_broken_file_is_refused_by_its_name(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TargetError, match=message) as caught:
        read_labels(path, {})
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_and_broken_metadata_are_refused(tmp_path):
    with pytest.raises(TargetError, match="cannot read the labels: No such file"):
        read_labels(tmp_path / "none.txt", {})
    with pytest.raises(TargetError, match=r"^metadata onnxviz\.labels: not JSON"):
        read_labels(None, {"onnxviz.labels": "cat\ndog"})


@pytest.mark.parametrize(
    ("label", "index"),
    [
        ("tench", 0),
        (" TINCA tinca ", 0),
        ("Tench, tinca tinca", 0),
        ("tabby", 2),
        ("tabby cat", 2),
        ("tank suit", 4),
        ("maillot,tank suit", 4),
        ("DIGGER", 6),
    ],
)
def test_a_class_is_found_by_any_synonym_or_its_whole_entry(label, index):
    assert find_class(label, LABELS) == index


def test_synonyms_with_the_same_sound_in_one_entry_are_one_class():
    assert find_class("emu", ["kiwi", "emu, Emu"]) == 1


def test_case_is_folded_beyond_ascii():
    assert find_class("STRASSE", ["Platz", "Straße"]) == 1
    assert find_class("Straße", ["Platz", "STRASSE"]) == 1


@pytest.mark.parametrize(
    ("label", "listed"),
    [("crane", "1 (crane), 6 (crane, digger)"), ("Maillot", "3 (maillot), 4 (maillot, tank suit)")],
)
def test_an_ambiguous_label_is_refused_with_the_indices(label, listed):
    with pytest.raises(TargetError) as caught:
        find_class(label, LABELS)
    assert str(caught.value) == f"{label!r} names several classes; give an index: {listed}"


@pytest.mark.parametrize("label", ["tinca tinco", "tab", "tinca", "", "  ", ","])
def test_only_a_whole_synonym_counts(label):
    with pytest.raises(TargetError, match="no class is called"):
        find_class(label, LABELS)


def test_an_unknown_label_suggests_the_nearest_synonym():
    with pytest.raises(TargetError) as caught:
        find_class("tinca tinco", LABELS)
    assert str(caught.value) == "no class is called 'tinca tinco'; did you mean 'Tinca tinca'?"


@pytest.mark.parametrize(
    ("index", "labels", "name"),
    [
        (0, LABELS, "tench"),
        (2, LABELS, "tabby"),
        (5, LABELS, "class 5"),
        (7, LABELS, "class 7"),
        (-1, LABELS, "class -1"),
        (7, None, "class 7"),
        (0, [], "class 0"),
    ],
)
def test_a_class_is_called_by_its_first_synonym_or_by_its_number(index, labels, name):
    assert name_of(index, labels) == name
