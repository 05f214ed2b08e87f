"""The chat's photographs: light, dark and on a phone, with pictures of the built-in model.

`make chat-screenshots` runs this and nothing else does: it writes into docs/.
"""

import pytest
from PIL import Image

from tests.chatting import Chatting
from tests.chromium import Chromium
from tests.serving import ROOT

DOCS = ROOT / "docs"
TALK = (
    "hello",
    "draw a boat on the sea at night with a full moon, 512x512, seed 3",
    "draw a sunset over mountains, 512x512, seed 3",
)
LOOKS = (
    ("chat-light.png", "light", 1000, 900, False),
    ("chat-dark.png", "dark", 1000, 900, False),
    ("chat-phone.png", "light", 390, 844, True),
)


@pytest.mark.timeout(600)
def test_the_photographs_are_taken(serve, broker, tmp_path):
    """Each shows the end of one conversation, and not one colour alone."""
    serve(MODEL="builtin", PIPELINE="consumer.gpu.diffusion:DiffusionPipeline").wait_ready()
    chat = Chatting(tmp_path / "chat", broker.url())
    try:
        with Chromium(tmp_path) as browser:
            page = browser.person(chat.origin, cookie=chat.session("anna"))
            page.until("!document.getElementById('chat').hidden")
            for number, words in enumerate(TALK):
                page.click("#text")
                page.type(words)
                page.press("Enter")
                page.until(f"document.querySelectorAll('li.chat').length === {number + 1}")
                page.until("!document.querySelector('progress')")
            page.until(
                "[...document.images].filter((it) => it.complete && it.naturalWidth).length === 2"
            )
            for name, scheme, width, height, mobile in LOOKS:
                page.looks(scheme, width, height, mobile=mobile)
                page.run("document.getElementById('messages').style.scrollBehavior = 'auto'")
                page.run("document.getElementById('messages').scrollTop = 1e6")
                page.run(
                    "new Promise((yes) => requestAnimationFrame(() => setTimeout(yes, 100)))"
                )
                page.photograph(DOCS / name)
                with Image.open(DOCS / name) as photograph:
                    assert photograph.size == (width, height)
                    assert len(photograph.convert("RGB").getcolors(width * height)) > 100
    finally:
        chat.stop()
