"""The contract: the messages of the design, strictness, the error table and the sizes."""

import json
from typing import get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import (
    ERRORS,
    LISTED_SIZES,
    Cancel,
    ControlMessage,
    Done,
    ErrorCode,
    GenerationError,
    GenerationRequest,
    GenerationResult,
    JobEvent,
    JobsQuery,
    StatusQuery,
    drawn_size,
)
from schemas.control import CONTROL_ADAPTER
from schemas.events import EventState, routing_key
from schemas.request import FIELDS, parse_request
from schemas.sizes import MAX_SIDE, MIN_SIDE
from tools.generate import stale

REQUEST = """
{"prompt": "A sunset over mountains", "width": 1024, "height": 1024, "seed": null,
 "output_format": "png", "num_inference_steps": null, "guidance_scale": null}
"""
RESULT = """
{"success": true, "job_id": "0b7f", "image_base64": "iVBORw0KGgo=", "width": 1024, "height": 1024,
 "seed": 42, "prompt": "A sunset over mountains", "generation_time": 3.45,
 "format": "png", "sha256": "e3b0", "model": "Tongyi-MAI/Z-Image-Turbo", "forwards": 8,
 "attempt": 1, "replayed": false, "worker": "gpu-1",
 "timings": {"queued": 0.8, "text_encode": 0.1, "denoise": 3.1, "vae_decode": 0.2, "encode": 0.02}}
"""
ERROR = """
{"success": false, "job_id": "0b7f",
 "error": {"code": "deadline_exceeded", "message": "Too late.", "retryable": true, "details": []}}
"""
EVENT = '{"job_id": "0b7f", "state": "step", "step": 3, "steps": 8, "worker": "gpu-1"}'

EXAMPLES = [
    (GenerationRequest, REQUEST),
    (GenerationResult, RESULT),
    (GenerationError, ERROR),
    (JobEvent, EVENT),
    (Cancel, '{"op": "cancel", "job_id": "0b7f"}'),
    (Done, '{"op": "done", "job_id": "0b7f", "worker": "gpu-1"}'),
    (StatusQuery, '{"op": "status", "job_id": "0b7f"}'),
    (JobsQuery, '{"op": "jobs", "limit": 20, "before": null}'),
]
IDS = [model.__name__ for model, _ in EXAMPLES]


@pytest.mark.parametrize(("model", "text"), EXAMPLES, ids=IDS)
def test_the_examples_of_the_design_validate(model, text):
    """What the design shows is what the models take, and give back field by field."""
    told = model.model_validate_json(text).model_dump(mode="json")
    assert told == {**told, **json.loads(text)}


@pytest.mark.parametrize(("model", "text"), EXAMPLES, ids=IDS)
def test_every_model_has_a_json_schema_that_takes_the_example(model, text):
    """A client in any language may check with the schema, and it agrees with us."""
    schema = model.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(("model", "text"), EXAMPLES, ids=IDS)
def test_no_message_takes_an_unknown_field(model, text):
    """A field that we do not know is an error in every message, by model and by schema."""
    fields = {**json.loads(text), "surprise": 1}
    with pytest.raises(ValidationError):
        model.model_validate(fields)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(fields, model.model_json_schema())


@pytest.mark.parametrize(("model", "text"), EXAMPLES, ids=IDS)
def test_no_message_can_be_changed(model, text):
    """Messages are values: nobody changes one after it was checked."""
    message = model.model_validate_json(text)
    with pytest.raises(ValidationError):
        setattr(message, next(iter(model.model_fields)), "other")


def test_control_messages_are_told_apart_by_op():
    """Each of the control messages is found by its `op`, and an unknown one is refused."""
    kinds = get_args(get_args(ControlMessage)[0])
    read = {
        type(CONTROL_ADAPTER.validate_json(text)) for model, text in EXAMPLES if model in kinds
    }
    assert read == set(kinds)
    with pytest.raises(ValidationError):
        CONTROL_ADAPTER.validate_json('{"op": "explode", "job_id": "0b7f"}')


def test_a_whole_number_may_be_written_with_a_fraction_of_zero():
    """JSON has one kind of number, and some languages write each of them so."""
    request = GenerationRequest(prompt="x", width=512.0, seed=7.0, num_inference_steps=9.0)
    assert (request.width, request.seed, request.num_inference_steps) == (512, 7, 9)


@pytest.mark.parametrize("job_id", ["", "a b", "a/b", "ä", "x" * 129, "a\n"])
def test_a_job_id_is_a_plain_word(job_id):
    """What is no job id is refused wherever one stands."""
    with pytest.raises(ValidationError):
        Cancel(op="cancel", job_id=job_id)


@pytest.mark.parametrize("state", get_args(EventState))
def test_an_event_is_published_under_its_state_and_job(state):
    """A listener may bind to one job, to one state, or to all."""
    event = JobEvent(job_id="0b7f", state=state, worker="gpu-1")
    assert routing_key(event) == f"job.{state}.0b7f"


# ---------------------------------------------------------------- errors

AMQP_CODES = [
    "invalid_request",
    "unsupported_version",
    "request_too_large",
    "result_too_large",
    "deadline_exceeded",
    "cancelled",
    "poison",
    "out_of_memory",
    "gpu_timeout",
    "gpu_died",
    "nan_output",
    "idempotency_conflict",
    "internal",
]
OTHER_CODES = [
    "busy",
    "unavailable",
    "unauthorized",
    "forbidden",
    "not_found",
    "not_ready",
    "gone",
    "method_not_allowed",
    "not_acceptable",
    "request_timeout",
    "unsupported_media_type",
]


def test_the_codes_are_those_of_the_design():
    """No code is missing from the enumeration, and none is there that the design has not."""
    assert [code.value for code in ErrorCode] == AMQP_CODES + OTHER_CODES


def test_every_code_has_its_row():
    """For each code the table says what it means, and where it travels as the design has it."""
    assert list(ERRORS) == list(ErrorCode)
    assert [code.value for code, row in ERRORS.items() if row.amqp] == AMQP_CODES
    for row in ERRORS.values():
        assert row.meaning.endswith(".")
        assert 400 <= row.http_status <= 599


def test_what_may_be_retried_is_never_the_callers_fault():
    """A retryable error is a fault of the service or of the moment (5xx), not ready yet, or came too slowly."""
    retryable = {code for code, row in ERRORS.items() if row.retryable}
    assert {code for code in retryable if ERRORS[code].http_status < 500} == {
        ErrorCode.NOT_READY,
        ErrorCode.REQUEST_TIMEOUT,
    }


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("fields", "field", "problem"),
    [
        ({}, "prompt", "This field is required."),
        ({"prompt": ""}, "prompt", "The prompt is empty."),
        ({"prompt": " \n\t"}, "prompt", "The prompt is empty."),
        ({"prompt": None}, "prompt", "This must be a string."),
        ({"prompt": "x" * 4001}, "prompt", "The prompt is longer than 4,000 characters."),
        ({"prompt": "a\x00b"}, "prompt", "The prompt has the control character U+0000."),
        ({"prompt": "a\x85b"}, "prompt", "The prompt has the control character U+0085."),
        ({"width": 255}, "width", "This is below 256, the smallest value."),
        ({"width": 1537}, "width", "This is above 1536, the largest value."),
        ({"height": 0}, "height", "This is below 256, the smallest value."),
        ({"height": "512"}, "height", "This must be a whole number."),
        ({"height": 512.5}, "height", "This must be a whole number."),
        ({"height": True}, "height", "This must be a whole number."),
        ({"seed": -1}, "seed", "This is below 0, the smallest value."),
        ({"seed": 2**53}, "seed", f"This is above {2**53 - 1}, the largest value."),
        ({"seed": 0.5}, "seed", "This must be a whole number."),
        ({"seed": 10**30}, "seed", f"This is above {2**53 - 1}, the largest value."),
        ({"seed": float("inf")}, "seed", "This must be a whole number."),
        ({"output_format": "gif"}, "output_format", "This is not a known format."),
        ({"output_format": "PNG"}, "output_format", "This is not a known format."),
        (
            {"num_inference_steps": 1},
            "num_inference_steps",
            "This is below 2, the smallest value.",
        ),
        (
            {"num_inference_steps": 52},
            "num_inference_steps",
            "This is above 51, the largest value.",
        ),
        ({"guidance_scale": "5"}, "guidance_scale", "This must be a number."),
        (
            {"guidance_scale": -0.5},
            "guidance_scale",
            "This is below 0.0, the smallest value.",
        ),
        ({"guidance_scale": float("inf")}, "guidance_scale", "This must be a finite number."),
    ],
)
def test_a_wrong_value_is_refused_with_a_sentence(fields, field, problem):
    """Every wrong value names its field, what is wrong, and what to send instead."""
    given = {"prompt": "x", **fields} if fields else {}
    (told,) = parse_request(given)
    assert (told.field, told.problem) == (field, problem)
    assert told.suggestion


def test_all_problems_are_told_at_once():
    """Nobody learns of the second mistake only after mending the first."""
    problems = parse_request({"prompt": "", "width": 1, "seed": -1, "cfg": 2})
    assert [problem.field for problem in problems] == ["prompt", "width", "seed", "cfg"]


@pytest.mark.parametrize(
    ("field", "suggestion"),
    [
        ("promt", "did you mean prompt?"),
        ("Prompt", "did you mean prompt?"),
        ("heigth", "did you mean height?"),
        ("guidence_scale", "did you mean guidance_scale?"),
        ("steps", "use num_inference_steps"),
        ("cfg_scale", "use guidance_scale"),
        ("size", "use width and height"),
        ("n", "send one request per picture"),
        ("xyzzy", f"known fields: {', '.join(FIELDS)}"),
    ],
)
def test_an_unknown_field_gets_a_suggestion(field, suggestion):
    """A field that is misspelt, or named as elsewhere, is told its name here."""
    (problem,) = parse_request({"prompt": "x", field: 1})
    assert (problem.field, problem.suggestion) == (field, suggestion)


def test_a_very_long_field_name_is_cut():
    """An error is never as long as its author wishes."""
    (problem,) = parse_request({"prompt": "x", "y" * 60_000: 1})
    assert problem.field == "y" * 100


def test_only_the_prompt_is_required():
    """What is left out and what is null mean the same: the service's own setting."""
    assert parse_request({"prompt": "x"}) == GenerationRequest(
        prompt="x",
        width=None,
        height=None,
        seed=None,
        num_inference_steps=None,
        guidance_scale=None,
    )


@pytest.mark.parametrize("prompt", ["x" * 4000, "日没 🌄 à l'été", "two\nlines\tand a tab\r\n"])
def test_an_odd_but_honest_prompt_is_taken_as_it_is(prompt):
    """Nothing is cut off, stripped or translated."""
    assert parse_request({"prompt": prompt}).prompt == prompt


# ---------------------------------------------------------------- sizes

SIDES = st.integers(MIN_SIDE, MAX_SIDE)
DESIGN_SIZES = [
    (512, 512),
    (768, 768),
    (1024, 1024),
    (1280, 720),
    (720, 1280),
    (1024, 768),
    (768, 1024),
]


@pytest.mark.parametrize("size", DESIGN_SIZES)
def test_the_seven_sizes_are_exact(size):
    """A listed size is drawn as it is asked for."""
    assert size in LISTED_SIZES
    assert drawn_size(*size) == size


def test_there_are_seven_sizes():
    """The list is the design's, in its order."""
    assert list(LISTED_SIZES) == DESIGN_SIZES


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ((256, 256), (256, 256)),
        ((287, 288), (256, 320)),
        ((1280, 721), (1280, 704)),
        ((720, 720), (704, 704)),
        ((736, 1280), (768, 1280)),
        ((1536, 1536), (1536, 1536)),
        ((1535, 1504), (1536, 1536)),
    ],
)
def test_another_size_goes_to_the_nearest_multiple_of_64(asked, drawn):
    """Each side by itself is rounded to the nearest multiple; halfway goes up."""
    assert drawn_size(*asked) == drawn


@given(SIDES, SIDES)
def test_a_drawn_size_is_fit_to_draw(width, height):
    """Whatever is asked within the bounds: near, in the bounds, and drawn as it is from there."""
    drawn = drawn_size(width, height)
    assert all(MIN_SIDE <= side <= MAX_SIDE for side in drawn)
    assert drawn in LISTED_SIZES or all(side % 64 == 0 for side in drawn)
    assert all(abs(a - b) <= 32 for a, b in zip(drawn, (width, height), strict=True))
    assert drawn_size(*drawn) == drawn


# ---------------------------------------------------------------- generated files


def test_generated_files_are_up_to_date():
    """What is generated from the code is committed as the code says (else: make generate)."""
    assert stale() == []
