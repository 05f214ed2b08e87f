"""The chat in a real browser: from signing in to the file in the folder, and what goes wrong."""

import asyncio
import contextlib
import io
import json
import signal
import threading

import pika
import pytest
from PIL import Image

from tests.chatting import PASSWORD, Chatting
from tests.chromium import Chromium
from tests.proxy import FrameProxy

USERS = 20
STATE = "[...document.querySelectorAll('figure')].at(-1)?.dataset.state"
SPOKEN = "document.getElementById('spoken').textContent"
FOCUSED = "document.activeElement.id || document.activeElement.dataset.action"
QUEUE = 20
"""What the queue holds at most."""
CROWD = json.dumps({"prompt": "a crowd", "width": 256, "height": 256})
PERSISTENT = pika.BasicProperties(content_type="application/json", delivery_mode=2)
HARM = "<img src=/harmed onerror=document.title='harmed'>"


@pytest.fixture
def browser(tmp_path):
    with Chromium(tmp_path) as browser:
        yield browser


@pytest.fixture
def proxy(broker):
    """A way to the broker that can be cut, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    proxy = FrameProxy(broker.url())
    call(proxy.__aenter__())
    proxy.off = lambda: (
        loop.call_soon_threadsafe(proxy.refuse),
        loop.call_soon_threadsafe(proxy.cut),
    )
    proxy.on = lambda: loop.call_soon_threadsafe(proxy.accept)
    yield proxy
    call(proxy.__aexit__())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def chat(proxy, service, tmp_path):
    chat = Chatting(tmp_path / "chat", proxy.url)
    yield chat
    assert chat.stop() == -signal.SIGTERM
    assert chat.told == ""


@pytest.fixture
def page(browser, chat, tmp_path):
    """Somebody who is signed in, before an empty conversation."""
    page = browser.person(chat.origin, tmp_path / "downloads", chat.session("anna"))
    page.until("!document.getElementById('chat').hidden")
    return page


def ask(page, words):
    page.click("#text")
    page.type(words)
    page.press("Enter")


def until(page, state, count=1):
    page.until(f"document.querySelectorAll('figure[data-state={state}]').length === {count}")


def until_shown(page, count=1):
    """The bytes of so many pictures are there, and drawn by the browser."""
    page.until(
        f"[...document.images].filter((it) => it.complete && it.naturalWidth).length === {count}"
    )


def told_in(png):
    with Image.open(io.BytesIO(png)) as image:
        return json.loads(image.text["imagegen"])


def fill(broker):
    """Publish until the queue refuses: somebody else was faster."""
    with contextlib.closing(
        pika.BlockingConnection(pika.URLParameters(broker.url()))
    ) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for _ in range(QUEUE + 1):
            try:
                channel.basic_publish("imagegen", "imagegen.requests", CROWD, PERSISTENT)
            except pika.exceptions.NackError:
                return
    raise AssertionError("the queue takes more than it should")


def test_from_signing_in_to_the_file_by_the_keyboard_alone(browser, chat, tmp_path):
    """An account, a wish, its steps, its picture, its download with metadata: no mouse."""
    downloads = tmp_path / "downloads"
    page = browser.person(chat.origin, downloads)
    page.until("document.activeElement.id === 'sign-name'")
    page.type("maria")
    page.press("Tab")
    page.type(PASSWORD)
    page.press("Tab")
    page.press("Tab")
    assert page.run(FOCUSED) == "sign-up"
    page.press("Enter")
    page.until("document.activeElement.id === 'text'")
    page.type("Please draw a lighthouse at dawn step=0.3, 512x512, seed 7")
    page.press("Enter")
    page.until("/step [1-7] of 8/.test(document.querySelector('.stands')?.textContent)")
    until(page, "drawn")
    until_shown(page)
    assert page.run(SPOKEN).startswith("Drawn.")
    while page.run(FOCUSED) != "download":
        page.press("Tab", shift=True)
    page.press("Enter")
    begun = browser.wait("Browser.downloadWillBegin")
    assert begun["suggestedFilename"] == "a-lighthouse-at-dawn-step-0-3.png"
    browser.wait("Browser.downloadProgress", lambda told: told["state"] == "completed")
    with Image.open(downloads / begun["suggestedFilename"]) as image:
        told = json.loads(image.text["imagegen"])
        assert image.size == (512, 512)
    assert told["prompt"] == "a lighthouse at dawn step=0.3"
    assert told["seed"] == 7
    assert page.complaints() == []


def test_a_picture_is_retried_edited_and_cancelled(page):
    """A new seed, another prompt of the same seed, and an end before the end; then once more."""
    ask(page, "draw a fox, 256x256, seed 7")
    until(page, "drawn")
    page.click("[data-action=again]")
    until(page, "drawn", 2)
    assert "seed 7 " not in page.run(
        "[...document.querySelectorAll('.facts')].at(-1).textContent"
    )
    page.click("figure[data-state=drawn] [data-action=edit]")
    page.until("document.activeElement.id === 'text'")
    seed = page.run(
        "[...document.querySelectorAll('.facts')].at(-1).textContent.match(/seed \\d+/)[0]"
    )
    page.type("a wolf step=1")
    page.press("Enter")
    until(page, "drawing")
    page.run("document.querySelector('[data-action=cancel]').focus()")
    page.press("Enter")
    until(page, "cancelled")
    assert page.run(FOCUSED) == "again"
    figure = "[...document.querySelectorAll('figure')].at(-1)"
    assert "It was called off." in page.run(f"{figure}.innerText")
    assert "a wolf step=1" in page.run(f"{figure}.innerText")
    assert seed in page.run(f"{figure}.innerText")
    assert page.complaints() == []


def test_a_picture_has_its_room_before_its_bytes_are_there(page):
    """What stands below does not move when they come: a click hits what was aimed at."""
    sides = page.run("""import("/page/cards.js").then(({ card }) => {
      const picture = { id: "none", state: "drawn", prompt: "a fox", width: 256, height: 128,
        seed: 1, seconds: 1, trouble: null };
      const item = card({ id: 1, author: "chat", text: "", picture }, {});
      document.getElementById("messages").append(item);
      const { width, height } = item.querySelector("img").getBoundingClientRect();
      return [width, height];
    })""")
    assert sides == [256, 128]


def test_a_reload_a_restart_and_a_second_tab_find_the_running_job(
    browser, chat, page, proxy, gate, tmp_path
):
    """What is under way goes on, and every page shows its end."""
    ask(page, f"draw a ship, 256x256 wait={gate.path}")
    gate.reached()
    until(page, "drawing")
    page.reload()
    until(page, "drawing")
    second = browser.tab(chat.origin, page.context)
    until(second, "drawing")
    chat.restart()
    gate.open()
    for each in (second, page):
        each.call("Page.bringToFront")  # a page that nobody sees listens again once it is seen
        until(each, "drawn")
        until_shown(each)
    assert page.run("document.querySelectorAll('figure').length") == 1


def test_a_full_queue_is_told_and_tried_again(page, broker, gate):
    """In plain words with what to do, which then works."""
    ask(page, f"draw a gatekeeper, 256x256 wait={gate.path}")
    gate.reached()
    fill(broker)
    ask(page, "draw a latecomer, 256x256")
    until(page, "failed")
    assert "The queue is full" in page.run(SPOKEN)
    assert "Wait a few seconds, then press Try again." in page.run(SPOKEN)
    gate.open()
    until(page, "drawn")
    page.click("[data-action=again]")
    until(page, "drawn", 2)


def test_a_broker_that_is_away_is_told_and_comes_back(page, proxy):
    """The same words, another trouble; and once it is back it is drawn."""
    proxy.off()
    ask(page, "draw a lonely tree, 256x256")
    until(page, "failed")
    assert "The drawing service cannot be reached." in page.run(SPOKEN)
    assert "Try again" in page.run(SPOKEN)
    proxy.on()
    page.click("[data-action=again]")
    until(page, "drawn")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [("oom", "too little memory"), ("boom", "should not have"), ("long", "cannot be drawn")],
)
def test_a_failure_is_told_with_its_remedy(page, word, sentence):
    """What the service reports becomes a sentence and a button."""
    ask(page, f"draw a {word}, 256x256")
    until(page, "failed")
    assert sentence in page.run("document.querySelector('.trouble').textContent")
    assert page.run("document.querySelector('.remedy').textContent")
    assert page.run("document.querySelectorAll('[data-action=edit]').length") == 1


def test_a_deadline_is_told(browser, proxy, service, tmp_path, gate):
    """Who waited too long is told so, by the chat's own deadline."""
    chat = Chatting(tmp_path / "hasty", proxy.url, DEADLINE_S=3)
    page = browser.person(chat.origin, cookie=chat.session("anna"))
    page.until("!document.getElementById('chat').hidden")
    ask(page, f"draw a snail, 256x256 wait={gate.path}")
    gate.reached()
    until(page, "failed")
    assert "It took too long" in page.run(SPOKEN)
    gate.open()
    chat.stop()


def test_twenty_users_at_once_get_their_own_pictures_and_nobody_anothers(browser, chat):
    """Each asks for something else at the same time; each file is its own; others' are 404."""
    names = [f"user{number}" for number in range(USERS)]
    pages = {name: browser.person(chat.origin, cookie=chat.session(name)) for name in names}
    for page in pages.values():
        page.until("!document.getElementById('chat').hidden")
    for name, page in pages.items():
        ask(page, f"draw the house of {name} with seed {1000 + names.index(name)}, 256x256")
    for page in pages.values():
        until(page, "drawn")
        until_shown(page)
    ids = {
        name: page.run("document.querySelector('figure').dataset.picture")
        for name, page in pages.items()
    }
    assert len(set(ids.values())) == USERS
    for name, page in pages.items():
        assert page.run("document.querySelectorAll('figure').length") == 1
        codes = page.run(
            f"Promise.all({json.dumps(list(ids.values()))}.map("
            "(id) => fetch(`/api/pictures/${id}`).then((answer) => answer.status)))"
        )
        assert codes == [200 if other == name else 404 for other in names]
        told = told_in(chat.person(name).http.get(f"/api/pictures/{ids[name]}").content)
        assert told["prompt"] == f"the house of {name}"
        assert told["seed"] == 1000 + names.index(name)


def test_no_words_become_markup_and_no_request_leaves_the_origin(browser, chat, page, tmp_path):
    """Markup as message and as prompt is shown as it was written; every request is to the chat."""
    ask(page, f"hello {HARM}")
    ask(page, f"draw {HARM}, 256x256")
    until(page, "drawn")
    until_shown(page)
    shown = page.run("document.getElementById('messages').innerText")
    assert shown.count(HARM) == 3  # two messages and a prompt
    assert page.run("document.querySelectorAll('img').length") == 1
    assert page.run("document.images[0].alt") == HARM
    assert page.run("document.title") == "imagegen chat"
    page.click("#sign-out")
    page.until("!document.getElementById('sign').hidden")
    asked = page.requests()
    assert f"{chat.origin}/page/chat.js" in asked
    assert [url for url in asked if not url.startswith(f"{chat.origin}/")] == []
    assert [url for url in asked if "harmed" in url] == []
    assert page.complaints() == []
    browser.close()
    log = json.loads(browser.net_log.read_text())
    kind = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    started = {
        event["params"]["url"]
        for event in log["events"]
        if event["type"] == kind and event.get("params", {}).get("initiator") == chat.origin
    }
    assert started
    assert [url for url in started if not url.startswith(f"{chat.origin}/")] == []


def test_the_policy_of_the_page_holds(page):
    """A script and a picture from elsewhere, put into the page by force, are not loaded."""
    blocked = page.run(
        "new Promise((yes) => {"
        " document.addEventListener('securitypolicyviolation', (event) => yes(event.violatedDirective));"
        " document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'})); })"
    )
    assert blocked == "img-src"
    assert page.run("document.cookie") == ""  # HttpOnly


def test_two_people_of_one_browser_see_each_their_own(browser, chat, page):
    """What the browser has kept of the first is not shown to the second, in no tab."""
    ask(page, "draw a diary, 256x256")
    until(page, "drawn")
    until_shown(page)
    file = page.run("document.images[0].src")
    assert page.run(f"fetch('{file}').then((answer) => answer.status)") == 200
    second = browser.tab(chat.origin, page.context)
    until(second, "drawn")
    page.call("Page.bringToFront")
    page.click("#sign-out")
    page.until("!document.getElementById('sign').hidden")
    page.click("#sign-name")
    page.type("berta")
    page.click("#sign-password")
    page.type(PASSWORD)
    page.click("#sign-up")
    page.until("document.getElementById('name').textContent === 'berta'")
    assert page.run("document.querySelectorAll('#messages > li').length") == 0
    assert page.run(f"fetch('{file}').then((answer) => answer.status)") == 404
    second.call("Page.bringToFront")
    second.until("document.getElementById('name').textContent === 'berta'")
    second.until("document.querySelectorAll('#messages > li').length === 0")


def test_a_screen_reader_is_told_everything(page):
    """Names and roles of what can be used, the picture's text, and the state of a drawing."""
    ask(page, "draw an owl, 256x256")
    until(page, "drawn")
    until_shown(page)
    heard = page.heard()
    assert ("heading", "imagegen chat") in heard
    assert ("log", "Conversation") in heard
    assert ("textbox", "Message") in heard
    assert ("image", "an owl") in heard
    for name in ("Send", "Sign out", "Retry with a new seed", "Edit the prompt"):
        assert ("button", name) in heard
    assert ("link", "Download") in heard
    assert ("status", "") in [(role, "") for role, _ in heard]


@pytest.mark.parametrize(("width", "height"), [(320, 568), (390, 844), (1280, 800)])
def test_it_fits_phones_and_desks(page, width, height):
    """Nothing is cut off at the side, and what is pressed is large enough for a thumb."""
    page.looks("dark", width, height, mobile=width < 500)
    ask(page, "draw a bridge, 512x512")
    until(page, "drawn")
    until_shown(page)
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.run("document.documentElement.scrollHeight <= window.innerHeight")
    low = page.run(
        "[...document.querySelectorAll('button, .button')].filter((it) => it.offsetParent)"
        ".filter((it) => it.getBoundingClientRect().height < 44).map((it) => it.textContent)"
    )
    assert low == []


def test_what_could_not_be_sent_comes_back_to_be_sent_again(chat, page):
    """The words stay in the field while the chat is away, and it is said why."""
    chat.halt()
    ask(page, "draw a patient heron, 256x256")
    page.until("document.getElementById('alert').textContent.includes('cannot be reached')")
    assert page.run("document.getElementById('text').value") == "draw a patient heron, 256x256"
    chat.resume()
    page.until("document.getElementById('alert').textContent === ''")
    page.press("Enter")
    until(page, "drawn")
