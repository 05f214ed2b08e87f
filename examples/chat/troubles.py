"""The troubles: what each error means for who chats, and what to do about it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the chat says of an error."""

    what: str
    remedy: str
    again: bool = True
    """Whether the same wish may work another time."""


TROUBLES: dict[str, Trouble] = {
    "busy": Trouble(
        "The queue is full: many pictures are waiting already.",
        "Wait a few seconds, then press Try again.",
    ),
    "unavailable": Trouble(
        "The drawing service cannot be reached.",
        "Nothing was drawn. Press Try again in a minute; if that fails, tell whoever runs it.",
    ),
    "deadline_exceeded": Trouble(
        "It took too long, so it was given up.",
        "Press Try again; a smaller picture is drawn faster.",
    ),
    "cancelled": Trouble("It was called off.", "Press Try again to have it drawn after all."),
    "invalid_request": Trouble(
        "It cannot be drawn like that.", "Press Edit the prompt and change it.", again=False
    ),
    "request_too_large": Trouble(
        "The description is too long.", "Press Edit the prompt and shorten it.", again=False
    ),
    "result_too_large": Trouble(
        "The picture is too large to be sent.", "Ask for a smaller size.", again=False
    ),
    "out_of_memory": Trouble(
        "There was too little memory for this picture.", "Ask for a smaller size, or try again."
    ),
    "gpu_timeout": Trouble("The drawing stood still and was ended.", "Press Try again."),
    "gpu_died": Trouble("The drawing process broke down.", "Press Try again in a minute."),
    "nan_output": Trouble("The arithmetic gave no picture.", "Press Try again."),
    "poison": Trouble(
        "This wish broke the drawing process several times.",
        "It is not tried any more. Press Edit the prompt and say it in another way.",
        again=False,
    ),
    "idempotency_conflict": Trouble("The wish was mixed up with another.", "Press Try again."),
    "unsupported_version": Trouble(
        "Chat and drawing service do not understand each other.",
        "Tell whoever runs them: their versions differ.",
        again=False,
    ),
    "internal": Trouble(
        "Something went wrong that should not have.",
        "Press Try again; if that fails, tell whoever runs it.",
    ),
}


def trouble(code: str) -> Trouble:
    """Return what to say of an error code; one that is not known is a defect."""
    return TROUBLES.get(code, TROUBLES["internal"])
