"""The chat with a real service: pictures, cancels, and what a restart finds again."""

import io
import json
import signal

import pytest
from PIL import Image

from tests.chatting import Chatting


@pytest.fixture
def service_in_house(house):
    return house.service()


@pytest.fixture
def chat(broker, service_in_house, tmp_path):
    chat = Chatting(tmp_path / "chat", broker.url())
    yield chat
    chat.stop()


def test_a_wish_becomes_the_file_that_the_service_made(chat):
    """Steps are told on the way; the file has its metadata, and its owner alone has the file."""
    owner, other = chat.person("owner"), chat.person("other")
    owner.say("draw a tower step=0.05 in landscape, seed 7")
    kinds = []
    for kind, _, data in owner.events():
        kinds.append(kind)
        if kind == "message" and data["picture"] and data["picture"]["state"] == "drawn":
            break
    assert "step" in kinds
    (picture,) = owner.pictures()
    assert (picture["width"], picture["height"], picture["seed"]) == (1280, 720, 7)
    with Image.open(
        io.BytesIO(owner.http.get(f"/api/pictures/{picture['id']}").content)
    ) as image:
        assert json.loads(image.text["imagegen"])["prompt"] == "a tower step=0.05"
    assert other.http.get(f"/api/pictures/{picture['id']}").status_code == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_finds_the_running_job(chat, service_in_house, gate, number):
    """It is drawn once, and shown, whether the chat ended in order or not."""
    person = chat.person("patient")
    person.say(f"draw a ship, 256x256 wait={gate.path}")
    gate.reached()
    person.until("drawing")
    chat.restart(number)
    gate.open()
    (picture,) = person.until("drawn")
    assert person.http.get(f"/api/pictures/{picture['id']}").status_code == 200
    starts = [told for told in service_in_house.records if told.get("event") == "started"]
    assert [told["job_id"] for told in starts] == [picture["id"]]


@pytest.mark.parametrize("away", [True, False])
def test_a_picture_drawn_while_the_chat_was_away_is_shown_after_its_deadline(
    chat, house, service_in_house, gate, away
):
    """Also where the service comes back later than the chat: a machine starts all it has at once."""
    person = chat.person("traveller")
    person.say(f"draw a ship, 256x256 wait={gate.path}")
    gate.reached()
    (picture,) = person.until("drawing")
    chat.halt(signal.SIGKILL)
    gate.open()
    service_in_house.wait("ended", job_id=picture["id"])
    if away:
        house.stop()
    chat.expire(picture["id"])
    chat.resume()
    if away:
        chat.logged("Nobody is there to say")
        house.restart()
    assert person.until("drawn")[0]["id"] == picture["id"]


def test_a_picture_whose_deadline_passed_undrawn_is_told_at_once(chat, service_in_house, gate):
    """Where a service is there that does not have it, nobody waits; and nothing is drawn."""
    person = chat.person("late")
    person.say(f"draw a ship, 256x256 wait={gate.path}")
    gate.reached()
    (picture,) = person.until("drawing")
    person.say("draw a boat, 256x256")
    boat = person.pictures()[1]
    chat.halt(signal.SIGKILL)
    chat.expire(boat["id"])
    chat.expire(picture["id"])
    chat.resume()
    told = person.until("failed", 2)
    assert {one["trouble"]["what"] for one in told} == {"It took too long, so it was given up."}
    gate.open()


def test_a_size_and_a_seed_that_cannot_be_are_refused_and_can_be_mended(chat, service_in_house):
    """As asked, not bent to what can be; and an edit is not refused for what it does not say."""
    person = chat.person("inexact")
    person.say("draw a cup, 100x100")
    person.say("draw a cup, 256x256, seed 99999999999999999")
    small, seeded = person.until("failed", 2)
    assert "width" in small["trouble"]["what"]
    assert "seed" in seeded["trouble"]["what"]
    person.change(f"pictures/{small['id']}/edit", prompt="a small cup, 256x320")
    person.change(f"pictures/{seeded['id']}/edit", prompt="a lucky cup, 256x256, seed 9")
    drawn = person.until("drawn", 2)
    assert [(one["prompt"], one["height"]) for one in drawn] == [
        ("a small cup", 320),
        ("a lucky cup", 256),
    ]
    assert drawn[1]["seed"] == 9
    person.change(f"pictures/{drawn[1]['id']}/edit", prompt="a luckier cup")
    last = person.until("drawn", 3)[2]
    assert (last["prompt"], last["height"], last["seed"]) == ("a luckier cup", 256, 9)


def test_a_cancel_ends_the_drawing_at_the_service(chat, service_in_house, gate):
    """Not the words alone: the service says that it stopped."""
    person = chat.person("changed-mind")
    person.say(f"draw a ship, 256x256 wait={gate.path}")
    gate.reached()
    (picture,) = person.until("drawing")
    person.change(f"pictures/{picture['id']}/cancel")
    person.until("cancelled")
    gate.open()
    service_in_house.wait("ended", job_id=picture["id"], outcome="cancelled")
