"""The OpenAPI document: valid, in step with models and routes, and its examples are true."""

import copy
import json
import re
from types import SimpleNamespace

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from schemathesis.specs.openapi.definitions import OPENAPI_31

from consumer.http.application import application
from consumer.http.safety import Rules
from consumer.queries import next_of
from consumer.replies import result_headers
from schemas import ERRORS, ErrorCode, GenerationRequest, ProblemDetails, ResultFacts
from schemas.request import MAX_PROMPT_CHARACTERS
from schemas.status import CURSOR_PATTERN
from tests.serving import ROOT
from tools import http_page, openapi, openapi_examples, openapi_parts
from tools.openapi_operations import OPERATIONS

DOCUMENT = openapi.document()
NOT_ANSWERED = {
    ErrorCode.UNSUPPORTED_VERSION,  # AMQP alone has versions in its messages
    ErrorCode.METHOD_NOT_ALLOWED,  # of methods that the document does not have
}
KEYWORDS = {
    *("type", "enum", "const", "anyOf", "$ref", "default", "title", "description"),
    *("properties", "required", "additionalProperties", "items"),
    *("minimum", "maximum", "minLength", "maxLength", "pattern", "format"),
    *("contentMediaType", "contentSchema"),
}
"""Of JSON Schema, as far as our models need them."""


def broken(document):
    return list(jsonschema.Draft202012Validator(OPENAPI_31).iter_errors(document))


def walk(node, path=()):
    """Every node of the document with its path."""
    yield path, node
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from walk(child, (*path, str(key)))


def resolve(reference):
    found = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def shown():
    """Every example with the schema that it stands beside."""
    for path, node in walk(DOCUMENT):
        if isinstance(node, dict) and "schema" in node and path[-1] != "properties":
            for name, given_ in node.get("examples", {}).items():
                yield pytest.param(node["schema"], given_["value"], id="/".join((*path, name)))
            if "example" in node and path[-1] != "text/event-stream":
                yield pytest.param(node["schema"], node["example"], id="/".join(path))


def test_the_file_is_what_the_code_says():
    """Who reads the repository, or asks the service, gets this document."""
    assert json.loads((ROOT / "schemas/openapi.json").read_text("utf-8")) == DOCUMENT


def test_it_is_openapi():
    """The document is valid by the specification's own schema, which does find faults."""
    assert broken(DOCUMENT) == []
    damaged = copy.deepcopy(DOCUMENT)
    del damaged["paths"]["/generate"]["post"]["requestBody"]["content"]
    assert broken(damaged)


def test_schemas_say_nothing_that_json_schema_does_not_know():
    """A range under a name of pydantic's own would be no range to anybody else."""
    unknown = {
        key
        for path, node in walk(DOCUMENT["components"]["schemas"])
        if isinstance(node, dict) and path[-1:] != ("properties",) and path
        for key in node
        if key not in KEYWORDS
    }
    assert unknown == set()


def test_every_reference_leads_somewhere_and_no_component_is_idle():
    """Nothing is missing, and nothing is there that no operation uses."""
    references = {node["$ref"] for _, node in walk(DOCUMENT) if _is_reference(node)}
    for reference in references:
        assert resolve(reference)
    there = {
        f"#/components/{kind}/{name}"
        for kind, named in DOCUMENT["components"].items()
        if kind != "securitySchemes"
        for name in named
    }
    assert there - references == {
        "#/components/schemas/ResultFacts",  # what the X-Imagegen headers say, in one place
        "#/components/headers/Allow",  # of 405, which no operation answers
    }


def _is_reference(node):
    return isinstance(node, dict) and isinstance(node.get("$ref"), str)


def test_operations_have_names_of_their_own():
    """Each has an operationId, a tag of the list, a summary that ends as a sentence does."""
    names = [operation.operation_id for operation in OPERATIONS]
    assert len(names) == len(set(names))
    assert {operation.tag for operation in OPERATIONS} == {
        tag["name"] for tag in DOCUMENT["tags"]
    }
    assert all(operation.summary.endswith(".") for operation in OPERATIONS)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_is_told_of(code):
    """The table has it, and each that HTTP can answer stands in an answer of its status."""
    spec = ERRORS[code]
    assert DOCUMENT["x-error-codes"][code] == {
        "status": spec.http_status,
        "retryable": spec.retryable,
        "meaning": spec.meaning,
    }
    statuses = {
        status
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
        if code.value in answer.get("$ref", "").rpartition("/")[2].split(".")
    }
    assert statuses == (set() if code in NOT_ANSWERED else {str(spec.http_status)})


@pytest.mark.parametrize(("schema", "value"), list(shown()))
def test_the_examples_are_valid(schema, value):
    """Each example is what its schema allows."""
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(
        whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(value)


def test_the_event_that_is_shown_is_one():
    """The example of the stream has an id, a name of the list and a valid status as data."""
    operation = DOCUMENT["paths"]["/job/{job_id}/events"]["get"]
    content = operation["responses"]["200"]["content"]["text/event-stream"]
    lines = content["example"].strip().split("\n")
    event = dict(line.split(": ", 1) for line in lines)
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    jsonschema.validate(event, schema)
    data = resolve("#/components/schemas/StatusEvent")["properties"]["data"]
    jsonschema.validate(
        json.loads(event["data"]),
        {**data["contentSchema"], "components": DOCUMENT["components"]},
    )


@pytest.mark.parametrize("code", ErrorCode)
def test_the_problem_that_is_shown_is_one_of_ours(code):
    """The example of each code is a ProblemDetails that agrees with the table."""
    problem = ProblemDetails.model_validate_json(json.dumps(openapi_examples.problem(code)))
    assert (problem.code, problem.status) == (code, ERRORS[code].http_status)


def test_links_lead_to_operations_that_take_a_job_id():
    """What a link names is there and has that parameter."""
    by_name = {operation.operation_id: operation for operation in OPERATIONS}
    for link in DOCUMENT["components"]["links"].values():
        assert "JobId" in by_name[link["operationId"]].parameters
        assert set(link["parameters"]) == {"job_id"}


def test_the_routes_are_those_of_the_service():
    """Every route is in the document, and every operation of the document has a route."""
    service = SimpleNamespace(snapshot=None, metrics=None)
    rules = Rules(frozenset(), None, frozenset(), frozenset())
    app = application(SimpleNamespace(service=service, open=None), rules)
    routes = {
        (route.path_format, method.lower())
        for route in app.routes
        for method in route.methods
        if method != "HEAD"
    }
    assert routes == {(operation.path, operation.method) for operation in OPERATIONS}


def test_the_facts_are_the_headers_that_are_sent():
    """The document knows each X-Imagegen header that the service sends with a picture, by name."""
    facts = ResultFacts.model_validate_json(json.dumps(openapi_examples.FACTS))
    sent = {name.lower() for name in result_headers(facts)}
    unsent = {"x-imagegen-prompt", "x-imagegen-success"}
    assert {name.lower() for name in openapi_parts.FACT_HEADERS} == sent - unsent


@given(st.text(max_size=8) | st.text("\t\n \x00\x1f\x7f\x85\xa0\u2003\ufeffa", max_size=4))
@example("\ufeff")
@example("a" * (MAX_PROMPT_CHARACTERS + 1))
def test_the_pattern_of_a_prompt_says_what_the_model_does(prompt):
    """A client that checks by the document refuses what we refuse, and nothing else."""
    fits = re.search(openapi_parts.PROMPT_PATTERN, prompt) is not None
    assert (fits and len(prompt) <= MAX_PROMPT_CHARACTERS) is _accepted(prompt)


def _accepted(prompt):
    try:
        GenerationRequest(prompt=prompt)
    except ValidationError:
        return False
    return True


def test_the_cursor_that_a_list_gives_is_taken_again():
    """`next` has the form that the document asks of `before`."""
    record = SimpleNamespace(created=1795342530123, id=openapi_examples.JOB_ID)
    assert re.fullmatch(CURSOR_PATTERN, next_of([record], 1))


def test_a_token_is_asked_for_where_there_is_one():
    """Without a token nobody needs one; with it only the operations that are marked open do not."""
    asked = openapi.with_token(DOCUMENT)
    assert DOCUMENT["security"] == [{}, {"bearer": []}]
    assert asked["security"] == [{"bearer": []}]
    free = {
        operation["operationId"]
        for methods in asked["paths"].values()
        for operation in methods.values()
        if operation.get("security") == []
    }
    assert free == {
        "index",
        "livez",
        "readyz",
        "startupz",
        "health",
        "metrics",
        "openapi",
        "docs",
    }


@pytest.mark.parametrize("name", http_page.TABLES)
def test_every_table_stands_in_the_page_once(name):
    """docs/http-api.md shows each table that is made for it, as it is made now."""
    page = http_page.PAGE.read_text("utf-8")
    assert page.count(f"<!-- made: {name} -->") == 1
    for row in http_page.TABLES[name]():
        assert f"\n{row}\n" in page
