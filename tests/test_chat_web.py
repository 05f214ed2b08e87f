"""The chat's addresses without a broker: accounts, forged requests, whose picture is whose."""

import concurrent.futures
import contextlib
import dataclasses
import re
import signal
import sqlite3

import httpx
import pytest

from examples.chat.accounts import User
from examples.chat.answers import Answers
from examples.chat.conversations import PAGE, Conversations
from examples.chat.database import opened
from examples.chat.gallery import Gallery, Order
from examples.chat.guard import HEADERS
from examples.chat.sessions import Sessions
from examples.chat.settings import Settings
from examples.chat.tabs import TABS_MOST
from examples.chat.web import Parts, Web
from tests.chatting import PASSWORD, Chatting

HARM = '<img src=x onerror="alert(1)"> & <b>bold</b>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("chat") / "data"


@pytest.fixture(scope="module")
def chat(folder):
    chat = Chatting(folder, DEADLINE_S=4)
    yield chat
    assert chat.stop() == -signal.SIGTERM


def in_process(**parts):
    """The addresses, with nothing behind them but these parts."""
    nothing = dict.fromkeys(field.name for field in dataclasses.fields(Parts))
    return Web(Parts(**{**nothing, "settings": Settings(""), **parts})).application()


class Strangers:
    """Accounts of nobody, who is known without the half second that a hash takes."""

    async def sign_in(self, *_):
        return None


def somebody(database):
    """A user, in the file without a password."""
    with database:
        database.execute("INSERT INTO users VALUES (1, 'anna', x'', x'', '')")
    return User(1, "anna")


def rows(folder, query, *values):
    with contextlib.closing(sqlite3.connect(folder / "chat.sqlite")) as database:
        return database.execute(query, values).fetchall()


def drawn(folder, person, prompt, file=b"\x89PNG bytes"):
    """Give a person a picture, as if it had been drawn; returns its id."""
    id_ = f"picture-of-{person}"
    with contextlib.closing(sqlite3.connect(folder / "chat.sqlite")) as database, database:
        database.execute(
            "INSERT INTO pictures (id, user, prompt, state, asked_at, deadline_at, drawn_width,"
            " drawn_height, drawn_seed, file) VALUES (?, (SELECT id FROM users WHERE name = ?), ?,"
            " 'drawn', '2026-01-01T00:00:00+00:00', '2026-01-01T00:05:00+00:00', 8, 8, 1, ?)",
            (id_, person, prompt, file),
        )
    return id_


def test_a_password_is_kept_as_a_salted_hash_alone(chat, folder):
    """Neither the file nor its log has the password, and equal ones have different hashes."""
    for name in ("hash-one", "hash-two"):
        assert chat.visitor().sign("sign-up", name).status_code == 200
    kept = rows(folder, "SELECT salt, hash FROM users WHERE name LIKE 'hash-%'")
    assert len({salt for salt, _ in kept}) == len({hashed for _, hashed in kept}) == 2
    stored = b"".join(path.read_bytes() for path in folder.iterdir())
    assert PASSWORD.encode() not in stored
    assert PASSWORD not in chat.log()


def test_a_session_is_kept_as_a_hash_alone(chat, folder):
    """Who reads the file cannot sign in with what is in it."""
    person = chat.person("sessions")
    cookie = person.http.cookies["imagegen_chat"]
    stored = b"".join(path.read_bytes() for path in folder.iterdir())
    assert cookie.encode() not in stored


def test_signing_in_takes_name_and_password(chat):
    """Wrong password and unknown name are told alike."""
    visitor = chat.visitor()
    visitor.sign("sign-up", "anna")
    wrong = visitor.sign("sign-in", "anna", "wrong password")
    unknown = visitor.sign("sign-in", "nobody-of-that-name", PASSWORD)
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert visitor.sign("sign-in", "ANNA").json()["user"] == "anna"


@pytest.mark.parametrize(
    ("name", "password", "status"),
    [("x", PASSWORD, 400), ("a b", PASSWORD, 400), ("short", "1234567", 400), ("taken", PASSWORD, 409)],
)  # fmt: skip
def test_an_account_that_cannot_be_is_refused(chat, name, password, status):
    """Bad names, short passwords and names that are taken, in any case of letters."""
    chat.person("Taken")
    assert chat.visitor().sign("sign-up", name, password).status_code == status


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(chat):
    """HttpOnly, SameSite=Strict; and signing in gives another than the visitor had."""
    visitor = chat.visitor()
    before = visitor.http.cookies["imagegen_chat"]
    answer = visitor.sign("sign-up", "cookies")
    told = answer.headers["set-cookie"].lower()
    assert "httponly" in told
    assert "samesite=strict" in told
    assert visitor.http.cookies["imagegen_chat"] != before


def test_signing_in_is_throttled(chat):
    """After five wrong passwords the right one does not help either, for a while that is told."""
    visitor = chat.visitor()
    visitor.sign("sign-up", "guessed")
    for _ in range(5):
        assert visitor.sign("sign-in", "guessed", "wrong password").status_code == 401
    answer = visitor.sign("sign-in", "guessed")
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 300


def test_guessing_does_not_lock_anybody_out(chat):
    """Who is at another address signs in all the same."""
    visitor = chat.visitor()
    visitor.sign("sign-up", "envied")
    for _ in range(5):
        visitor.sign("sign-in", "envied", "wrong password")
    assert visitor.sign("sign-in", "envied").status_code == 429
    assert chat.visitor("127.0.0.2").sign("sign-in", "envied").status_code == 200


async def test_one_address_does_not_try_one_password_on_everybody(tmp_path):
    """The names differ, the address does not: it is shut out, and others are not."""
    with contextlib.closing(opened(tmp_path)) as database:
        sessions = Sessions(database)
        web = in_process(sessions=sessions, accounts=Strangers())
        token = sessions.token("a-visitor")

        async def status(number, address):
            transport = httpx.ASGITransport(web, client=(address, 1))
            async with httpx.AsyncClient(
                transport=transport,
                base_url="http://localhost",
                headers={"X-CSRF-Token": token},
                cookies={"imagegen_chat": "a-visitor"},
            ) as http:
                body = {"name": f"nobody-{number}", "password": PASSWORD}
                return (await http.post("/api/sign-in", json=body)).status_code

        statuses = [await status(number, "192.0.2.1") for number in range(101)]
        assert statuses == [401] * 100 + [429]
        assert await status(0, "192.0.2.2") == 401


def test_passwords_that_flood_in_are_turned_away(chat):
    """So many are hashed or wait; the rest hear at once when to come again."""
    visitors = [chat.visitor("127.0.0.5") for _ in range(40)]
    with concurrent.futures.ThreadPoolExecutor(len(visitors)) as threads:
        answers = list(threads.map(
            lambda visitor: visitor.sign("sign-in", f"flood-{id(visitor)}"), visitors
        ))  # fmt: skip
    turned = [answer for answer in answers if answer.status_code == 503]
    assert turned
    assert all(answer.headers["retry-after"] == "5" for answer in turned)
    assert {answer.status_code for answer in answers} == {401, 503}


def test_a_name_that_nobody_can_have_is_refused_unhashed(chat):
    """It is not remembered either: thousands of long ones would fill the memory."""
    visitor = chat.visitor("127.0.0.6")
    statuses = {visitor.sign("sign-in", "x" * 20_000).status_code for _ in range(6)}
    assert statuses == {401}


def test_the_address_behind_a_proxy_is_what_a_trusted_one_says(tmp_path):
    """Otherwise all who come through it would count as one; any other's word is nothing."""
    trusting, alone = Chatting(tmp_path / "a", PROXY="127.0.0.1"), Chatting(tmp_path / "b")
    for chat, last in ((trusting, 401), (alone, 429)):
        visitor = chat.visitor()
        statuses = []
        for number in range(6):
            visitor.http.headers["X-Forwarded-For"] = f"192.0.2.{number}"
            statuses.append(visitor.sign("sign-in", "somebody").status_code)
        assert statuses == [401] * 5 + [last]
        chat.stop()


@pytest.mark.parametrize("token", ["", "0" * 64])
@pytest.mark.parametrize(
    "path",
    ["sign-up", "sign-in", "sign-out", "messages", "pictures/x/again", "pictures/x/edit", "pictures/x/cancel"],
)  # fmt: skip
def test_nothing_is_changed_without_the_token(chat, path, token):
    """A forged request has the cookie at best: without the token it is refused first of all."""
    assert chat.visitor().change(path, token=token, name="a", text="a").status_code == 403


def test_a_token_goes_with_one_cookie_alone(chat):
    """What somebody got for himself is of no use against others."""
    thief, victim = chat.person("thief"), chat.person("victim")
    assert victim.change("messages", token=thief.token, text="hello").status_code == 403
    assert victim.messages() == []


@pytest.mark.parametrize("path", ["conversation", "events", "pictures/x"])
def test_nothing_is_read_without_a_session(chat, path):
    """Conversation, news and pictures are for who is signed in."""
    assert chat.visitor().http.get(f"/api/{path}").status_code == 401


def test_signing_out_ends_the_session_and_its_stream(chat):
    """The cookie from before is worth nothing, and a page that listens hears no more."""
    person = chat.person("leaving")
    other = chat.person("leaving")
    person.say("hello")
    heard = other.events()
    assert next(heard)[0] == "message"
    old = other.http.cookies["imagegen_chat"]
    leaver = chat.visitor()
    leaver.http.cookies.set("imagegen_chat", old, domain="127.0.0.1", path="/")
    leaver.token = other.token
    assert leaver.sign("sign-out").status_code == 200
    assert [kind for kind, _, _ in heard if kind == "never"] == []  # it ended
    assert person.http.get("/api/conversation").status_code == 200


def test_who_signs_in_anew_leaves_the_session_from_before(chat):
    """In one browser one is signed in: the cookie that is replaced is worth nothing."""
    person = chat.person("first")
    old = person.http.cookies["imagegen_chat"]
    assert person.sign("sign-up", "second").json()["user"] == "second"
    person.http.cookies.clear()
    person.http.cookies.set("imagegen_chat", old)
    assert person.http.get("/api/me").json()["user"] is None


def test_a_picture_of_another_user_is_not_there(chat, folder):
    """Not its file, not its prompt; and nothing is done with it: 404, as of one that never was."""
    owner, other = chat.person("owner"), chat.person("other")
    id_ = drawn(folder, "owner", "a secret")
    assert owner.http.get(f"/api/pictures/{id_}").content == b"\x89PNG bytes"
    assert other.http.get(f"/api/pictures/{id_}").status_code == 404
    assert other.http.get(f"/api/pictures/{id_}?download").status_code == 404
    for act in ("again", "edit", "cancel"):
        answer = other.change(f"pictures/{id_}/{act}", prompt="mine now")
        assert answer.status_code == 404
    assert other.messages() == []


def test_a_download_is_named_after_its_prompt(chat, folder):
    """Plain letters for old programs, every script for others, and nothing that ends the header."""
    person = chat.person("names")
    id_ = drawn(folder, "names", 'A lighthouse at dawn, "灯塔"; ../etc\r\nX: y')
    told = person.http.get(f"/api/pictures/{id_}?download").headers["content-disposition"]
    assert told == (
        'attachment; filename="a-lighthouse-at-dawn--etc-x-y.png"; '
        "filename*=UTF-8''a-lighthouse-at-dawn-%E7%81%AF%E5%A1%94-etc-x-y.png"
    )


def test_no_answer_goes_without_its_policy(chat):
    """The page, its files, its errors: all say where things may come from."""
    http = chat.visitor().http
    for path in ("/", "/page/chat.js", "/api/me", "/api/conversation", "/nowhere"):
        headers = http.get(path).headers
        assert headers["content-security-policy"] == HEADERS["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert HEADERS["content-security-policy"].startswith("default-src 'self';")


async def test_a_defect_is_answered_with_the_policy_too():
    """What goes past the framework's own middleware has the headers all the same."""
    transport = httpx.ASGITransport(in_process(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.get("/api/me")
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"] == HEADERS["content-security-policy"]


@pytest.mark.parametrize("number", ["-1", "x", "٣", "9" * 19, "9" * 5000])
def test_what_is_no_number_of_a_message_is_refused(chat, number):
    """Whoever sends it: by the address or as what a page says that it saw last."""
    person = chat.person("numbers")
    assert person.http.get("/api/conversation", params={"before": number}).status_code == 400
    headers = {"Last-Event-ID": number.encode()}
    assert person.http.get("/api/events", headers=headers).status_code == 400


def test_a_name_that_was_rebound_is_no_way_in(chat):
    """A browser that took the chat for another site's server is sent away."""
    answer = chat.visitor().http.get("/api/me", headers={"Host": "evil.example"})
    assert answer.status_code == 400


def test_the_page_names_nothing_from_elsewhere(chat):
    """Every address in page, scripts and style is the chat's own; nothing is markup by script."""
    http = chat.visitor().http
    for path in ("/", "/page/chat.js", "/page/calls.js", "/page/cards.js", "/page/style.css"):
        text = http.get(path).text
        assert not re.search(r"(?:https?:)?//(?=\w+\.)", text)
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text
        )


def test_words_of_people_travel_as_words(chat):
    """Markup in a message comes back as it was written, as JSON, never as a page."""
    person = chat.person("harm")
    person.say(HARM)
    answer = person.http.get("/api/conversation")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["messages"][0]["text"] == HARM


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (b'{"text": 1}', 400), (b'{"text": " "}', 400),
     (b'{"text": "\\u0000"}', 400), (b'{"text": "\\ud800"}', 400),
     (b'{"text": "' + b"a" * 4001 + b'"}', 400), (b"[" * 30_000, 400), (b" " * 40_000, 413)],
)  # fmt: skip
def test_a_body_that_makes_no_sense_is_refused(chat, body, status):
    """Empty, broken, too long: each has its status, and nothing is said in the conversation."""
    person = chat.person("bodies")
    headers = {"X-CSRF-Token": person.token, "Content-Type": "application/json"}
    assert (
        person.http.post("/api/messages", content=body, headers=headers).status_code == status
    )
    assert person.messages() == []


def test_a_page_that_comes_back_hears_what_it_missed(chat):
    """By the number of the last change that it saw: all of what came after, once, in order."""
    person = chat.person("reader")
    person.say("hello")
    heard = person.events()
    numbers = [next(heard)[1], next(heard)[1]]
    heard.close()
    person.say("hello again")
    news = person.events(last_event_id=numbers[-1])
    texts = [next(news)[2]["text"], next(news)[2]["text"]]
    news.close()
    assert texts[0] == "hello again"
    assert texts[1].startswith("I draw pictures")


def test_a_long_conversation_is_read_in_pieces(chat):
    """The latest first, then those before them, each once and in order."""
    person = chat.person("talkative")
    for number in range(PAGE // 2 + 1):
        person.say(f"hello {number}")
    latest = person.messages()
    earlier = person.http.get(f"/api/conversation?before={latest[0]['id']}").json()["messages"]
    assert (len(earlier), len(latest)) == (2, PAGE)
    said = [told["text"] for told in earlier + latest if told["author"] == "user"]
    assert said == [f"hello {number}" for number in range(PAGE // 2 + 1)]


def test_pages_beyond_what_one_may_open_are_refused(chat):
    """A user who opens streams without end keeps nobody else from his."""
    person = chat.person("hoarder")
    person.say("hello")
    streams = [person.events() for _ in range(TABS_MOST)]
    for stream in streams:
        next(stream)
    assert person.http.get("/api/events").status_code == 429
    modest = chat.person("modest")
    modest.say("hello")
    assert next(modest.events())[0] == "message"
    for stream in streams:
        stream.close()


def test_ordinary_talk_is_answered_and_not_drawn(chat):
    """It says what it can do; nothing is asked of anybody."""
    person = chat.person("talker")
    person.say("I took a picture of the sunset yesterday")
    said = person.messages()
    assert [told["author"] for told in said] == ["user", "chat"]
    assert said[1]["picture"] is None


def test_more_than_one_may_draw_at_once_is_told(chat):
    """Four are under way; the fifth is not asked for, and it is said what to do."""
    person = chat.person("greedy")
    person.say("generate 4 pictures of a cat, seed 7")
    assert [picture["seed"] for picture in person.pictures()] == [7, 8, 9, 10]
    person.say("draw a dog")
    assert len(person.pictures()) == 4
    assert "Wait until one is done" in person.messages()[-1]["text"]


def test_a_broker_that_is_away_is_told_in_plain_words(chat):
    """What happened and what to do; a cancel works meanwhile."""
    person = chat.person("waiting")
    person.say("draw a cat")
    person.say("draw a dog")
    cat, dog = person.pictures()
    assert person.change(f"pictures/{dog['id']}/cancel").status_code == 202
    assert person.until("cancelled")[0]["trouble"]["what"] == "It was called off."
    assert person.change(f"pictures/{dog['id']}/cancel").status_code == 409
    failed = person.until("failed")[0]
    assert failed["id"] == cat["id"]
    assert failed["trouble"]["what"] == "The drawing service cannot be reached."
    assert "Try again" in failed["trouble"]["remedy"]


def test_a_locked_file_loses_nothing_and_ends_nothing(chat, folder):
    """What cannot be said is refused in words; a picture that ends meanwhile is told afterwards."""
    person = chat.person("locked")
    person.say("draw a cat")
    heard = person.events()
    with contextlib.closing(sqlite3.connect(folder / "chat.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = person.change("messages", text="draw a dog")
        assert (answer.status_code, "Try again" in answer.json()["error"]) == (503, True)
        chat.logged("A picture waits to be written down")
    assert any(data["picture"] and data["picture"]["state"] == "failed" for *_, data in heard)
    person.say("draw a dog")
    dog = person.pictures()[-1]
    assert person.change(f"pictures/{dog['id']}/cancel").status_code == 202


@pytest.mark.parametrize("end", ["fail", "cancel", "begin"])
def test_a_picture_that_moves_on_is_news_in_the_same_breath(tmp_path, end):
    """No kill comes between the two: a page that comes back hears of it."""
    with contextlib.closing(opened(tmp_path)) as database:
        gallery, conversations, user = (
            Gallery(database),
            Conversations(database),
            somebody(database),
        )
        picture = gallery.add(user, Order("a cat"), 60)
        conversations.say(user, "chat", "", picture.id)
        seen = conversations.latest()
        assert getattr(gallery, end)(picture.id, *(("internal", "") if end == "fail" else ()))
        (news,) = conversations.since(user, seen)
        assert news.picture == picture.id


def test_a_wish_is_kept_with_all_its_messages_or_not_at_all(tmp_path):
    """A kill in the middle leaves no picture that nobody sees, and no message without an answer."""
    with contextlib.closing(opened(tmp_path)) as database:
        gallery, conversations, user = (
            Gallery(database),
            Conversations(database),
            somebody(database),
        )
        database.execute(
            "CREATE TEMP TRIGGER killed BEFORE INSERT ON main.messages"
            " WHEN new.picture IS NOT NULL BEGIN SELECT raise(ABORT, 'killed'); END"
        )
        answers = Answers(conversations, gallery, studio=None, tabs=None, deadline_s=60)
        with pytest.raises(sqlite3.IntegrityError, match="killed"):
            answers.message(user, "draw a cat")
        assert conversations.before(user, 1000) == gallery.under_way() == []
