"""What is shown: messages and pictures as the page reads them, and the name of a file. Pure."""

import re
from typing import Any
from urllib.parse import quote

from examples.chat.conversations import Message
from examples.chat.gallery import Picture
from examples.chat.tabs import Step
from examples.chat.troubles import trouble

NAME_MOST = 60
"""Characters of a file's name, without its ending."""


def message(told: Message, picture: Picture | None, step: Step | None) -> dict[str, Any]:
    """Return a message for the page."""
    return {
        "id": told.id,
        "author": told.author,
        "text": told.text,
        "at": told.at,
        "picture": None if picture is None else _picture(picture, step),
    }


def _picture(picture: Picture, step: Step | None) -> dict[str, Any]:
    like = picture.drawn or picture.order
    fields: dict[str, Any] = {
        "id": picture.id,
        "prompt": picture.order.prompt,
        "state": picture.state,
        "width": like.width,
        "height": like.height,
        "seed": like.seed,
        "seconds": picture.seconds,
        "step": None if step is None else step.step,
        "steps": None if step is None else step.steps,
        "trouble": None,
    }
    if picture.code is not None:
        said = trouble(picture.code)
        what = f"{said.what} {picture.told}" if picture.told else said.what
        fields["trouble"] = {"what": what, "remedy": said.remedy, "again": said.again}
    return fields


def file_name(prompt: str) -> str:
    """Return the name of a picture's file: the words of its prompt, in any script."""
    words = re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")
    return f"{words[:NAME_MOST].strip('-') or 'picture'}.png"


def attachment(prompt: str) -> str:
    """Return the header that has a picture saved under its name (RFC 6266)."""
    name = file_name(prompt)
    plain = name.encode("ascii", "ignore").decode().strip("-")
    plain = plain if plain != ".png" else "picture.png"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
