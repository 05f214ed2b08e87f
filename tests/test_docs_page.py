"""The page of documentation: complete, plain, and safe whatever the document says."""

import copy
import re
from html.parser import HTMLParser

import pytest

from consumer.http.docs_page import page
from schemas import ErrorCode
from tools import openapi

VOID = {"meta", "br", "link"}
FETCHING = {"src", "srcset", "action", "background", "data", "poster", "ping", "style"}


class Page(HTMLParser):
    """What a browser would see: elements, anchors, text; and that every element is closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.attributes, self.ids, self.links = set(), set(), [], []
        self.text = ""
        self._open = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value)
            if name == "href":
                self.links.append(value)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def document():
    return openapi.document()


@pytest.fixture(scope="module")
def shown(document):
    return Page(page(document))


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_its_anchor(shown, code):
    """The `type` of a problem, /docs#code, leads somewhere."""
    assert shown.ids.count(code.value) == 1


def test_every_operation_is_shown_with_a_command(shown, document):
    """Each has an anchor, its method and path, and a curl line."""
    operations = [
        (f"{method.upper()} {path}", operation["operationId"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    for title, anchor in operations:
        assert anchor in shown.ids
        assert title in shown.text
    assert shown.text.count("curl -sS") == len(operations)


def test_no_anchor_is_there_twice_and_no_link_leads_nowhere(shown):
    """Links within the page work; the only one that leaves it goes to the document."""
    assert len(shown.ids) == len(set(shown.ids))
    inside = {link.removeprefix("#") for link in shown.links if link.startswith("#")}
    assert inside <= set(shown.ids)
    assert {link for link in shown.links if not link.startswith("#")} == {"/openapi.json"}


def test_nothing_is_run_or_fetched(shown, document):
    """No script, no style from elsewhere, no picture: the page works under default-src 'none'."""
    assert not shown.elements & {"script", "img", "iframe", "link", "object", "form", "base"}
    assert not {name for name in shown.attributes if name.startswith("on")} | (
        shown.attributes & FETCHING
    )
    style = re.search(r"<style>(.*)</style>", page(document), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_what_the_document_says_is_text(document):
    """Markup in any string of the document is shown, never obeyed."""
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    seen = Page(page(_with(copy.deepcopy(document), evil)))
    assert "script" not in seen.elements
    assert "img" not in seen.elements
    assert not {name for name in seen.attributes if name.startswith("on")}
    assert "<script>alert(1)</script>" in seen.text


def _with(document, evil):
    """The document with the text in each place that people write."""
    document["info"] |= {"title": evil, "version": evil, "description": evil}
    document["tags"][0]["description"] = evil
    operation = document["paths"]["/generate"]["post"]
    operation |= {"summary": evil, "description": evil, "operationId": evil}
    operation["responses"]["200"]["description"] = evil
    operation["responses"]["200"]["content"][evil] = {}
    operation["requestBody"]["content"]["application/json"]["examples"] = {"x": {"value": evil}}
    parameter = document["components"]["parameters"]["JobId"]
    parameter |= {"description": evil, "example": evil}
    parameter["schema"] = {"enum": [evil]}
    document["x-error-codes"][evil] = {"status": 400, "retryable": False, "meaning": evil}
    document["components"]["schemas"][evil] = {
        "description": evil,
        "properties": {evil: {"type": evil, "description": evil}},
    }
    return document
