"""Admission as pure calls: what is refused, who a job is, when it is due, what is drawn."""

import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import topology
from consumer.admission import (
    Delivery,
    Limits,
    NobodyToTell,
    Refusal,
    admit,
    derived_seed,
    job_identity,
)
from consumer.job import IdSource, Job
from schemas.errors import ERRORS
from schemas.request import FIELDS, MAX_SEED

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LIMITS = Limits(
    default_width=1024,
    default_height=768,
    default_steps=9,
    guidance_scale=0.0,
    steps_per_forward_less=1,
    default_deadline=timedelta(seconds=600),
    reply_to_allow=re.compile(".+"),
    own_objects=topology.OWN_OBJECTS,
)
OTHER_MODEL = replace(LIMITS, guidance_scale=4.0, steps_per_forward_less=0)


def delivery(body=None, **facts):
    """A delivery of a caller who waits; `body` are fields beside the prompt, or raw bytes."""
    raw = body if isinstance(body, bytes) else json.dumps({"prompt": "x", **(body or {})})
    return Delivery(
        **{
            "body": raw if isinstance(raw, bytes) else raw.encode(),
            "receipt_id": "receipt",
            "reply_to": "amq.gen-1",
            "correlation_id": "mine",
            **facts,
        }
    )


def admitted(body=None, limits=LIMITS, **facts):
    job = admit(delivery(body, **facts), NOW, limits)
    assert isinstance(job, Job), job
    return job


# ---------------------------------------------------------------- refusals

REFUSED = {
    "type": (None, {"type": "imagegen.request.v2"}, "unsupported_version", "type"),
    "size of the body": (b" " * 65_537, {}, "request_too_large", None),
    "content type": (None, {"content_type": "text/plain"}, "invalid_request", "content_type"),
    "encoding": (
        None,
        {"content_encoding": "gzip"},
        "invalid_request",
        "content_encoding",
    ),
    "message id": (None, {"message_id": "a b"}, "invalid_request", "message_id"),
    "long message id": (None, {"message_id": "x" * 129}, "invalid_request", "message_id"),
    "accept": (
        None,
        {"headers": {"x-imagegen-accept": "text/html"}},
        "invalid_request",
        "x-imagegen-accept",
    ),
    "accept a list": (
        None,
        {"headers": {"x-imagegen-accept": ["image/png"]}},
        "invalid_request",
        "x-imagegen-accept",
    ),
    "accept a table": (
        None,
        {"headers": {"x-imagegen-accept": {"image/png": 1}}},
        "invalid_request",
        "x-imagegen-accept",
    ),
    "empty": (b"", {}, "invalid_request", None),
    "no UTF-8": (b'{"prompt": "\xff"}', {}, "invalid_request", None),
    "UTF-16": ('{"prompt": "x"}'.encode("utf-16"), {}, "invalid_request", None),
    "cut short": (b'{"prompt": "x"', {}, "invalid_request", None),
    "two documents": (b'{"prompt": "x"} {}', {}, "invalid_request", None),
    "a list": (b'[{"prompt": "x"}]', {}, "invalid_request", None),
    "null": (b"null", {}, "invalid_request", None),
    "not a number": (b'{"prompt": "x", "seed": NaN}', {}, "invalid_request", None),
    "a field twice": (b'{"prompt": "x", "prompt": "y"}', {}, "invalid_request", None),
    "deep": (b"[" * 65_000, {}, "invalid_request", None),
    "lone surrogate in a name": (
        b'{"prompt": "x", "\\ud800": 1}',
        {},
        "invalid_request",
        "body",
    ),
    "lone surrogate": (b'{"prompt": "\\ud800"}', {}, "invalid_request", "prompt"),
    "value": ({"width": 255}, {}, "invalid_request", "width"),
    "unknown field": ({"negative_prompt": "y"}, {}, "invalid_request", "negative_prompt"),
    "guidance": ({"guidance_scale": 1.5}, {}, "invalid_request", "guidance_scale"),
}


@pytest.mark.parametrize(("body", "facts", "code", "field"), REFUSED.values(), ids=REFUSED)
def test_a_bad_request_is_refused_with_code_and_field(body, facts, code, field):
    """Each kind of bad request has its code, its field and a sentence; none is retryable."""
    refusal = admit(delivery(body, **facts), NOW, LIMITS)
    assert isinstance(refusal, Refusal)
    info = refusal.fault.info()
    assert (info.code, info.retryable) == (code, False)
    assert ERRORS[info.code].amqp
    assert info.message.endswith((".", ")"))
    assert [problem.field for problem in info.details][:1] == ([field] if field else [])


@pytest.mark.parametrize(("body", "facts", "code", "field"), REFUSED.values(), ids=REFUSED)
def test_a_bad_request_of_nobody_is_for_the_parking_queue(body, facts, code, field):
    """Without a reply_to there is nobody to tell: parked for the code, told where it is stored."""
    bad = delivery(body, **{**facts, "reply_to": None})
    decision = admit(bad, NOW, LIMITS)
    assert isinstance(decision, NobodyToTell), field
    assert (decision.reason, decision.refusal.fault.code) == (code, code)


@pytest.mark.parametrize(
    "facts",
    [
        {"type": None},
        {"type": ""},
        {"type": "imagegen.request.v1"},
        {"content_type": "application/json; charset=utf-8"},
        {"content_type": "Application/JSON"},
        {"content_encoding": "UTF-8"},
        {"headers": {"x-imagegen-accept": "image/png"}},
        {"headers": {"x-imagegen-accept": "image/*"}},
        {"headers": {"CC": ["imagegen.requests"], "anything": {"else": 1}}},
        {"reply_to": None},
        {"correlation_id": None, "reply_to": None},
    ],
    ids=str,
)
def test_what_other_clients_leave_out_or_add_is_taken(facts):
    """Only the body is asked for; spelling of media types and foreign headers do not matter."""
    assert admitted(**facts).drawing.prompt == "x"


def test_the_whole_64_kib_may_be_used():
    """A body of exactly the limit is read."""
    body = b'{"prompt": "x"}'
    assert admitted(body + b" " * (65_536 - len(body)))


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [(None, "json"), ("application/json", "json"), ("image/png", "raw"), ("image/*", "raw")],
)
def test_the_answer_is_raw_where_an_image_is_accepted(accept, wanted):
    """`x-imagegen-accept` chooses between JSON and the bytes of the image."""
    headers = {"x-imagegen-accept": accept} if accept else {}
    assert delivery(headers=headers).accept == wanted


# ---------------------------------------------------------------- reply_to


@pytest.mark.parametrize("reply_to", sorted(topology.OWN_OBJECTS))
def test_an_own_object_is_never_a_reply_to(reply_to):
    """An answer in one of our queues would be taken for a request: parked, whatever is allowed."""
    assert admit(delivery(reply_to=reply_to), NOW, LIMITS) == NobodyToTell(
        "reply_to_not_allowed"
    )


@pytest.mark.parametrize(
    "reply_to",
    [
        "amq.rabbitmq.reply-to.g1h2AA.x==",
        "amq.gen-JzTY20BRgKO",
        "imagegen.client.7",
        "my-own-queue",
        "IMAGEGEN.REQUESTS",
        "imagegen.requests.answers",
    ],
)
def test_by_default_any_other_queue_may_be_a_reply_to(reply_to):
    """Direct reply-to, named and generated queues: RPC clients of all kinds get their answer."""
    assert isinstance(admit(delivery(reply_to=reply_to), NOW, LIMITS), Job)


@pytest.mark.parametrize(
    "reply_to",
    [
        "orders",
        "ximagegen.client.7",
        "imagegen.client.7\n",
        "imagegen.client.7\nimagegen.requests",
        "imagegen.client.",
        "imagegen_client_7",
        "imagegen.client.\uff17",
        "\x00",
    ],
)
def test_an_allow_list_must_match_in_full(reply_to):
    """A name that only looks like an allowed one is not replied to and not drawn."""
    limits = replace(LIMITS, reply_to_allow=re.compile(r"imagegen\.client\.[a-z0-9]+"))
    assert admit(delivery(reply_to=reply_to), NOW, limits) == NobodyToTell(
        "reply_to_not_allowed"
    )


# ---------------------------------------------------------------- identity


def test_a_given_id_is_the_jobs_id():
    """`message_id` names the job, whatever else the delivery says."""
    job = admitted(message_id="mine-1")
    assert (job.id, job.id_source) == ("mine-1", IdSource.GIVEN)


def test_a_derived_id_is_the_same_for_ever():
    """Without message_id: a UUIDv5 that a redelivery and another machine find again."""
    first, second = admitted(receipt_id="a"), admitted(receipt_id="b", redelivered=True)
    assert first.id == second.id == "9569ac2e-12f4-55af-9915-4f1a454b473f"
    assert first.id_source is IdSource.DERIVED


@pytest.mark.parametrize(
    "change",
    [{"reply_to": "amq.gen-2"}, {"correlation_id": "other"}, {"body": b'{"prompt":"x"}'}],
    ids=str,
)
def test_a_derived_id_is_another_for_another_request(change):
    """Reply queue, correlation id and every byte of the body tell requests apart."""
    facts = replace(delivery(), **change)
    sha256 = hashlib.sha256(facts.body).hexdigest()
    assert job_identity(facts, sha256)[0] != admitted().id


def test_a_derived_id_cannot_be_forged_by_joining():
    """(reply_to "a", correlation "b,c") is not (reply_to "a,b", correlation "c")."""
    one = job_identity(delivery(reply_to='a","b', correlation_id="c"), "0")
    other = job_identity(delivery(reply_to="a", correlation_id='b","c'), "0")
    assert one != other


def test_without_any_id_the_receipt_is_the_id():
    """Neither message_id nor correlation_id: the job is new at each delivery."""
    job = admitted(correlation_id=None)
    assert (job.id, job.id_source) == ("receipt", IdSource.NONE)


def test_a_refusal_tells_the_id_that_was_given():
    """The caller finds its request again in the error."""
    refusal = admit(delivery({"width": 1}, message_id="mine-1"), NOW, LIMITS)
    assert refusal.job_id == "mine-1"


# ---------------------------------------------------------------- seeds


@given(st.text(min_size=1))
def test_a_derived_seed_is_one_that_a_request_may_name(job_id):
    """The seed that is told can be asked for: 0 to 2^53 - 1, the same for the same job."""
    assert 0 <= derived_seed(job_id) <= MAX_SEED
    assert derived_seed(job_id) == derived_seed(job_id)


def test_a_derived_seed_never_changes_between_releases():
    """Another machine and another release draw the same picture for the same job."""
    assert derived_seed("mine-1") == 1235499157487719
    assert admitted(message_id="mine-1").drawing.seed == 1235499157487719


@pytest.mark.parametrize("seed", [0, 42, MAX_SEED])
def test_a_given_seed_is_used(seed):
    """Zero is a seed like any other."""
    assert admitted({"seed": seed}).drawing.seed == seed


# ---------------------------------------------------------------- deadlines


def seconds(value):
    return timedelta(seconds=value)


@pytest.mark.parametrize(
    ("timestamp", "expiration_s", "published", "deadline"),
    [
        (None, None, 0, 600),
        (None, 30, 0, 30),
        (-10, 30, -10, 21),
        (-10, None, -10, 591),
        (-29, 30, -29, 2),
        (-80, 30, -80, -49),  # late by less than the skew: believed, and expired
        (-91, 30, 0, 30),  # late by more: a clock that is wrong
        (60, 30, 60, 90),
        (61, 30, 0, 30),
        (-500, None, -500, 101),
        (None, 0, 0, 0),
    ],
)
def test_the_deadline_is_the_timestamp_and_the_patience(
    timestamp, expiration_s, published, deadline
):
    """Deadline = timestamp + a second + expiration; from the receipt where the clock cannot be believed."""
    job = admitted(
        timestamp=None if timestamp is None else NOW + seconds(timestamp),
        expiration_s=expiration_s,
    )
    assert job.published == NOW + seconds(published)
    assert job.deadline == NOW + seconds(deadline)


@given(st.integers(0, 20_000_000), st.integers(0, 60_000))
def test_a_cut_timestamp_costs_nobody_a_second(transit_us, patience_ms):
    """AMQP cuts it: never less than what was asked for, never more than counted from the receipt."""
    published = NOW - timedelta(microseconds=transit_us)
    patience = timedelta(milliseconds=patience_ms)
    cut = published.replace(microsecond=0)
    deadline = admitted(timestamp=cut, expiration_s=patience_ms / 1000).deadline
    assert published + patience <= deadline <= cut + seconds(1) + patience
    assert deadline <= NOW + patience


@pytest.mark.parametrize("year", [1, 9999])
def test_an_absurd_timestamp_is_not_believed(year):
    """A clock at the end of time costs its sender nothing, and us neither."""
    assert admitted(timestamp=datetime(year, 1, 1, tzinfo=UTC)).published == NOW


def test_a_timestamp_without_a_zone_is_utc():
    """AMQP timestamps are seconds since 1970 in UTC, however a library hands them over."""
    assert admitted(timestamp=NOW.replace(tzinfo=None) - seconds(5)).published == NOW - seconds(
        5
    )


# ---------------------------------------------------------------- what is drawn


@pytest.mark.parametrize(
    ("limits", "steps", "told", "forwards"),
    [
        (LIMITS, None, 9, 8),
        (LIMITS, 2, 2, 1),
        (LIMITS, 9, 9, 8),
        (LIMITS, 51, 51, 50),
        (OTHER_MODEL, None, 9, 9),
        (OTHER_MODEL, 2, 2, 2),
        (OTHER_MODEL, 51, 51, 51),
    ],
)
def test_steps_are_counted_as_on_the_models_card(limits, steps, told, forwards):
    """Z-Image runs one forward fewer than its steps, other models as many."""
    drawing = admitted({"num_inference_steps": steps}, limits).drawing
    assert (drawing.steps, drawing.forwards) == (told, forwards)


@pytest.mark.parametrize("guidance", [None, 0, 0.0])
def test_a_distilled_model_is_drawn_without_guidance(guidance):
    """Null and zero are the only guidance that a distilled model takes."""
    assert admitted({"guidance_scale": guidance}).drawing.guidance == 0.0


@pytest.mark.parametrize(("guidance", "used"), [(None, 4.0), (0.0, 0.0), (7.5, 7.5)])
def test_a_guided_model_takes_the_guidance_asked_for(guidance, used):
    """The request's guidance, or the setting where there is none; zero is one."""
    assert admitted({"guidance_scale": guidance}, OTHER_MODEL).drawing.guidance == used


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ({}, (1024, 768)),
        ({"width": 1280, "height": 720}, (1280, 720)),
        ({"width": 1280, "height": 721}, (1280, 704)),
        ({"width": None, "height": 1024}, (1024, 1024)),
        ({"width": 500}, (512, 768)),
    ],
    ids=str,
)
def test_the_drawn_size_is_decided_here(asked, drawn):
    """Defaults fill in the side that is missing; then listed sizes stay and others round."""
    drawing = admitted(asked).drawing
    assert (drawing.width, drawing.height) == drawn


# ---------------------------------------------------------------- anything at all

TEXT = st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
SURROGATES = st.text(st.characters(exclude_categories=()), max_size=5)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(st.sampled_from(FIELDS) | SURROGATES, JSON_VALUES | SURROGATES).map(
        lambda fields: json.dumps(fields).encode()
    ),
)
DELIVERIES = st.builds(
    Delivery,
    body=BODIES,
    receipt_id=st.just("receipt"),
    content_type=st.none() | TEXT | st.just("application/json"),
    content_encoding=st.none() | TEXT,
    type=st.none() | TEXT | st.just("imagegen.request.v1"),
    message_id=st.none() | TEXT,
    correlation_id=st.none() | TEXT,
    reply_to=st.none() | TEXT | st.sampled_from(sorted(topology.OWN_OBJECTS)),
    # The broker takes 0 to 2^32 - 1 milliseconds.
    expiration_s=st.none() | st.integers(0, 2**32 - 1).map(lambda ms: ms / 1000),
    timestamp=st.none() | st.datetimes(timezones=st.none() | st.just(UTC)),
    user_id=st.none() | TEXT,
    redelivered=st.booleans(),
    headers=st.dictionaries(st.just("x-imagegen-accept") | TEXT, VALUES, max_size=3),
)


@given(DELIVERIES, st.sampled_from([LIMITS, OTHER_MODEL]))
def test_admission_always_decides(facts, limits):
    """Any bytes with any properties are a job, a refusal that can be told, or parked: no raise."""
    decision = admit(facts, NOW, limits)
    match decision:
        case Refusal():
            assert facts.reply_to
            info = decision.fault.info().model_dump_json()
            assert json.loads(info)["message"]
        case Job():
            assert facts.reply_to not in topology.OWN_OBJECTS
            assert decision.drawing.forwards >= 1
            assert decision.deadline - decision.published <= timedelta(days=50)
        case NobodyToTell():
            assert decision.reason
