"""The page of documents made by hand: what is told, and what a hostile file cannot make of it."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import jsonschema
import pytest
from auditing import documents

from onnxviz.auditing.report.html import html_report, layer_rows, number

SCHEMA = json.loads(files("onnxviz.auditing").joinpath("audit.schema.json").read_text("utf-8"))
PICTURES = {"drift-0.png": b"png"}


class Parts(HTMLParser):
    """The elements of a page, and the text that is shown of it."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts = [], []
        self._inside = None
        self.feed(page)
        self.close()
        self.text = re.sub(r"\s+", " ", "".join(self.texts))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, _):
        self._inside = None

    def handle_data(self, data):
        if self._inside not in ("script", "style", "title"):
            self.texts.append(data)


def parts(document):
    return Parts(html_report(document, PICTURES))


@pytest.mark.parametrize("made", [documents.quiet, documents.full, documents.health_only, documents.hostile])
def test_the_documents_keep_to_the_schema(made):
    jsonschema.validate(made(), SCHEMA)


def test_what_was_not_measured_is_said():
    assert (
        "Not measured: preprocessing, channels, agreement with a reference, layers against a reference, "
        "drift of explanations, faithfulness, sanity." in parts(documents.quiet()).text
    )
    assert "Not measured" not in parts(documents.full()).text
    alone = parts(documents.health_only()).text
    assert "Not measured: agreement with a reference, layers against a reference, drift" in alone


def test_a_channel_with_two_flags_is_one_channel():
    rows = {row["name"]: row for row in layer_rows(documents.full())}
    assert rows["fire3"]["bad"] == 3  # 4 is dead and a duplicate, 9 is NaN, 240 is dead
    assert rows["conv1"]["bad"] == 0
    assert rows["fire9"]["bad"] == 1  # its channels are too many to be told one by one
    assert rows["fire4"]["bad"] is None
    assert "3 of 250" in parts(documents.full()).text


def test_the_largest_divergence_is_not_beside_the_mean_s_noise():
    page = html_report(documents.full(), PICTURES)
    [row] = re.findall(r"<tr><td>KL divergence, largest</td>.*?</tr>", page, re.S)
    assert re.findall(r">([^<\s]+)</td>", row)[-2:] == ["0.61", "–"]


def test_one_of_a_thing_is_not_told_as_many():
    text = parts(documents.full()).text
    assert "1 warning " in text
    assert "1 finding is new, 1 is gone" in text
    assert "1 of them has no map" in text


def test_nodes_that_fell_back_to_the_cpu_are_named():
    document = documents.full()
    document["structure"] |= {"fallback": ["resize_12", "topk_3"]}
    assert "resize_12, topk_3" in parts(document).text
    assert "on the CPU instead" not in parts(documents.full()).text


def test_numbers_without_an_end_are_words():
    assert [number(each) for each in (float("inf"), float("-inf"), float("nan"))] == ["inf", "-inf", "nan"]


def test_a_hostile_file_adds_no_element():
    plain, spoilt = parts(documents.full()), parts(documents.hostile())

    def skeleton(page):
        shown = [(tag, sorted(names)) for tag, names in page.elements if tag in ("script", "img", "style")]
        return shown, sum(any(name.startswith("on") for name in names) for _, names in page.elements)

    assert skeleton(plain) == skeleton(spoilt)
    assert skeleton(spoilt)[1] == 0
    assert [tag for tag, _ in spoilt.elements].count("script") == 2
    assert spoilt.text.count("<script>document.title='taken'</script>") > 20


def test_nothing_is_fetched():
    page = html_report(documents.full(), PICTURES)
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page) == []
    assert re.findall(r"url\(|@import|https?://(?!www\.w3\.org)", page) == []
    [policy] = [
        names["content"]
        for tag, names in Parts(page).elements
        if tag == "meta" and names.get("http-equiv") == "Content-Security-Policy"
    ]
    assert set(policy.split("; ")) == {
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        "script-src 'unsafe-inline'",
    }
