"""Where the service runs, and why."""

import pytest

from control.place import Choice, Engine, Facts, choose
from control.say import Failure

ENGINE = Engine("28.5.2")
NONE_ANSWERS = Engine(problem="no Docker engine answers.")


def facts(**given):
    return Facts(
        **{"wanted": None, "runs_natively": False, "broker_given": False, "engine": None}
        | given
    )


def test_an_engine_that_answers_gets_the_service_and_that_is_told():
    """Containers where an engine answers; the line names it, and the way round it."""
    choice = choose(facts(engine=ENGINE))
    assert choice.kind == "compose"
    assert "28.5.2" in choice.reason
    assert "IMAGE_GEN_RUN=native" in choice.reason


def test_where_there_is_no_docker_nothing_is_told():
    """Nothing was to be chosen: a machine without Docker works as if there were none."""
    assert choose(facts()) == Choice("native")
    assert choose(facts(runs_natively=True, broker_given=True)) == Choice("native")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"engine": NONE_ANSWERS}, "no Docker engine answers"),
        ({"engine": ENGINE, "runs_natively": True}, "where the service of this clone runs"),
        ({"engine": ENGINE, "broker_given": True}, "IMAGE_GEN_AMQP_URL"),
    ],
)
def test_the_reason_to_run_natively_beside_docker_is_told(given, word):
    """What runs natively is not doubled, a named broker is used, a dead engine is no error."""
    choice = choose(facts(**given))
    assert choice.kind == "native"
    assert word in choice.reason


def test_an_engine_that_is_away_moves_no_service():
    """Containers may run unseen: no second service with a broker of its own takes their place."""
    with pytest.raises(Failure, match="no Docker engine answers") as failure:
        choose(facts(engine=NONE_ANSWERS, in_containers=True))
    assert "IMAGE_GEN_RUN=native" in failure.value.remedy
    assert choose(facts(wanted="native", in_containers=True)) == Choice("native")
    assert choose(facts(engine=ENGINE, in_containers=True)).kind == "compose"


def test_a_person_decides():
    """IMAGE_GEN_RUN has the last word, and nothing is told that the person has said."""
    assert choose(facts(wanted="native", engine=ENGINE)) == Choice("native")
    assert choose(facts(wanted="compose", engine=ENGINE, runs_natively=True)) == Choice(
        "compose"
    )


@pytest.mark.parametrize(
    "given",
    [
        {"wanted": "compose"},
        {"wanted": "compose", "engine": NONE_ANSWERS},
        {"wanted": "compose", "engine": ENGINE, "broker_given": True},
        {"wanted": "docker", "engine": ENGINE},
    ],
)
def test_what_cannot_be_had_is_refused(given):
    """A place that was asked for is not silently replaced by the other."""
    with pytest.raises(Failure) as failure:
        choose(facts(**given))
    assert "IMAGE_GEN_RUN" in failure.value.sentence + failure.value.remedy
