"""The request: what a caller may ask for, and the sentences that refuse the rest."""

import difflib
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from schemas.base import Contract
from schemas.errors import Problem
from schemas.sizes import LISTED_SIZES_TEXT, MAX_SIDE, MIN_SIDE

REQUEST_TYPE = "imagegen.request.v1"
MAX_BODY_BYTES = 64 * 1024
MAX_PROMPT_CHARACTERS = 4000
MAX_PROMPT_TOKENS = 512
MAX_SEED = 2**53 - 1
MIN_STEPS, MAX_STEPS = 2, 51
MAX_GUIDANCE = 30.0

OutputFormat = Literal["png", "webp", "jpeg"]
MEDIA_TYPES: dict[OutputFormat, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
}


def _clean_prompt(prompt: str) -> str:
    if not prompt.strip():
        raise PydanticCustomError("prompt_empty", "The prompt is empty.")
    for character in prompt:
        if character not in "\n\r\t" and unicodedata.category(character) in {"Cc", "Cs"}:
            raise PydanticCustomError(
                "prompt_control",
                "The prompt has the control character U+{code}.",
                {"code": f"{ord(character):04X}"},
            )
    return prompt


Prompt = Annotated[
    str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS), AfterValidator(_clean_prompt)
]


def _whole(value: object) -> object:
    """JSON knows one kind of number, and JSON Schema takes 512.0 for an integer: so do we."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Last in the list, yet called first: in front of the bounds it would hide them from the schema.
WHOLE = BeforeValidator(_whole)
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE), WHOLE]


class GenerationRequest(Contract):
    """A picture, please. Only `prompt` is required; null means the service's own setting."""

    prompt: Prompt
    """What to draw, in plain words; at most 512 tokens of the model."""
    width: Side | None = None
    """Pixels. Seven sizes are drawn exactly; others go to the nearest multiple of 64."""
    height: Side | None = None
    """Pixels; see `width`."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE] | None = None
    """Same seed, same picture. Null: derived from the job id and told in the reply."""
    output_format: OutputFormat = "png"
    """The codec of the picture."""
    num_inference_steps: Annotated[int, Field(ge=MIN_STEPS, le=MAX_STEPS), WHOLE] | None = None
    """As on the model's card; Z-Image runs one forward fewer (9 means 8)."""
    guidance_scale: (
        Annotated[float, Field(ge=0.0, le=MAX_GUIDANCE, allow_inf_nan=False)] | None
    ) = None
    """Null or 0.0 for a distilled model, which has no use for guidance."""


FIELDS = tuple(GenerationRequest.model_fields)

_OFTEN_MEANT = {
    "steps": "num_inference_steps",
    "inference_steps": "num_inference_steps",
    "num_steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "format": "output_format",
    "text": "prompt",
    "size": "width and height",
    "w": "width",
    "h": "height",
}
_NO_EFFECT = {
    "negative_prompt": "leave it out: a distilled model draws without guidance, so it has no effect",
    "n": "send one request per picture",
    "num_images": "send one request per picture",
    "num_images_per_prompt": "send one request per picture",
}


def parse_request(fields: Mapping[str, Any]) -> GenerationRequest | tuple[Problem, ...]:
    """Return the request, or every problem of it as a sentence with a suggestion."""
    try:
        return GenerationRequest.model_validate(dict(fields))
    except ValidationError as error:
        return tuple(_problem(details) for details in error.errors(include_url=False))


def _problem(details: ErrorDetails) -> Problem:
    field = str(details["loc"][0]) if details["loc"] else "body"
    if details["type"] == "extra_forbidden":
        return Problem(
            field=field[:100],
            problem="This field is not known.",
            suggestion=_suggest_field(field),
        )
    return Problem(field=field, problem=sentence(details), suggestion=suggestion(field))


def _suggest_field(field: str) -> str:
    name = field.lower()
    if name in _NO_EFFECT:
        return _NO_EFFECT[name]
    if name in _OFTEN_MEANT:
        return f"use {_OFTEN_MEANT[name]}"
    close = difflib.get_close_matches(name, FIELDS, n=1)
    return f"did you mean {close[0]}?" if close else f"known fields: {', '.join(FIELDS)}"


_SENTENCES = {
    "missing": "This field is required.",
    "string_type": "This must be a string.",
    "string_unicode": "This string is not valid Unicode.",
    "string_too_short": "The prompt is empty.",
    "string_too_long": f"The prompt is longer than {MAX_PROMPT_CHARACTERS:,} characters.",
    "int_type": "This must be a whole number.",
    "int_from_float": "This must be a whole number.",
    "float_type": "This must be a number.",
    "finite_number": "This must be a finite number.",
    "literal_error": "This is not a known format.",
}


def sentence(details: ErrorDetails) -> str:
    """Return what is wrong, as a sentence."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "greater_than_equal":
        return f"This is below {context['ge']}, the smallest value."
    if kind == "less_than_equal":
        return f"This is above {context['le']}, the largest value."
    return _SENTENCES.get(kind) or details["msg"]


def suggestion(field: str) -> str | None:
    """Return what to send in a field instead, where we can tell."""
    return _SUGGESTIONS.get(field)


_SUGGESTIONS = {
    "prompt": f"send 1 to {MAX_PROMPT_CHARACTERS:,} characters of plain text",
    "width": f"{LISTED_SIZES_TEXT}, or sides within {MIN_SIDE} to {MAX_SIDE}",
    "height": f"{LISTED_SIZES_TEXT}, or sides within {MIN_SIDE} to {MAX_SIDE}",
    "seed": f"a whole number within 0 to {MAX_SEED}, or leave it out",
    "output_format": "png, webp or jpeg",
    "num_inference_steps": f"a whole number within {MIN_STEPS} to {MAX_STEPS}, or leave it out",
    "guidance_scale": "leave it out",
}
