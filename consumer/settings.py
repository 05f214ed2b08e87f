"""The settings: one frozen value, read once, cross-checked, the only reader of the environment."""

import difflib
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from imagegen_client.nodes import disagreement, nodes_in
from schemas.request import MAX_GUIDANCE, MAX_STEPS, MIN_STEPS
from schemas.sizes import LISTED_SIZES, MAX_SIDE, MIN_SIDE, drawn_size

PREFIX = "IMAGE_GEN_"
SECRETS_FOLDER = Path("/run/secrets")

OUTSIDE = {"VARIANT", "TORCH_INDEX", "RUN"}
"""Names with our prefix that `control.sh` and the image build read, not the service."""

Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE)]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host; a name other than localhost may be anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SettingsError(Exception):
    """The settings cannot be used; `sentences` has one sentence for each thing wrong."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class Settings(BaseModel):
    """Every setting with its default; `IMAGE_GEN_<NAME>` in the environment."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address of the HTTP face."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8034
    """Port of the HTTP face; 0 takes a free one and logs it."""

    api_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    """What callers of the job API have to show as a bearer token, 16 characters or more."""
    allowed_hosts: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]*(,[A-Za-z0-9_.:-]+)*$")
    ] = ""
    """More names, comma-separated, under which the job API may be called; loopback always may."""
    http_amqp_url: SecretStr | None = None
    """The broker with a user for the HTTP face, such as `imagegen-http`; unset: that of AMQP_URL."""
    http_max_waiting: Annotated[int, Field(ge=1, le=10_000)] = 256
    """HTTP callers that may wait for a picture or follow a job at once."""

    model: str = "Tongyi-MAI/Z-Image-Turbo"
    """A Hugging Face id, a folder with a diffusers pipeline, or `builtin` for the small model."""
    model_revision: str | None = None
    """Commit, tag or branch of a model from the hub."""
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:1`; AMD cards are called cuda too, as torch does."""
    memory: Literal["auto", "fast", "balanced", "low"] = "auto"
    """`fast`: all on the card (24 GB); `balanced`: parts move (16 GB); `low`: layers move (8 GB)."""
    warm_sizes: Annotated[
        str, StringConstraints(pattern=r"^(auto|none|\d+x\d+(,\d+x\d+)*)$")
    ] = "auto"
    """Sizes drawn once before the first job: `auto` (all listed ones on a GPU), `none`, or a list."""
    pipeline: str = "consumer.gpu.diffusion:DiffusionPipeline"
    """`module:Class` of what draws; another one than the default is for tests and benches."""
    default_width: Side = 1024
    """Pixels, where the request names no width."""
    default_height: Side = 1024
    """Pixels, where the request names no height."""
    inference_steps: Annotated[int, Field(ge=MIN_STEPS, le=MAX_STEPS)] = 9
    """Steps as on the model's card; Z-Image runs one forward fewer (9 means 8)."""
    guidance_scale: Annotated[float, Field(ge=0.0, le=MAX_GUIDANCE, allow_inf_nan=False)] = 0.0
    """0 for distilled models: requests may not ask for guidance then. Above 0: the default."""

    amqp_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/imagegen")
    """The broker, with user, password and vhost: amqp:// or amqps://. Several nodes with commas between."""
    management_url: SecretStr | None = None
    """The broker's management API (http://user:password@host:15672); lets limits be compared."""
    topology: Literal["auto", "check", "declare"] = "auto"
    """`auto` uses what is there and declares what is missing; `check` touches nothing; `declare` all."""
    max_queue_size: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Requests that may wait in the queue, beside those in hand."""
    max_concurrent: Annotated[int, Field(ge=1, le=64)] = 1
    """Jobs in hand at once, and the consumer's prefetch; the GPU draws one at a time."""
    reply_to_allow: str = ".+"
    """Regular expression that a `reply_to` must match in full; our own queues never do."""
    max_reply_bytes: Annotated[int, Field(ge=65_536, le=12 * 1024 * 1024)] = 12 * 1024 * 1024
    """Replies above this are refused as `result_too_large`, in bytes."""

    data_dir: Path = Path(".imagegen")
    """Folder for the store."""
    store_url: SecretStr | None = None
    """Database of jobs and results; unset: SQLite in the data folder."""
    result_ttl_s: Annotated[int, Field(ge=60, le=30 * 86_400)] = 86_400
    """Seconds that a finished job's result is kept."""
    result_max_bytes: Annotated[int, Field(ge=1024 * 1024)] = 2 * 1024**3
    """Bytes of results kept; the oldest go first."""

    job_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """Hard limit of one picture on the GPU, in seconds."""
    hang_floor_s: Annotated[float, Field(gt=0, le=3_600)] = 30.0
    """Seconds of silence between two steps that are never called a hang, however fast it was."""
    defunct_exit_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """Seconds of a GPU that fails at everything after which the service exits with code 75."""
    canary_every_s: Annotated[float, Field(gt=0, le=3_600)] = 30.0
    """Seconds between two trial pictures of a GPU that failed at everything."""
    recycle_bytes: Annotated[int, Field(ge=0)] = 4 * 1024**3
    """Growth of the GPU process, in bytes of either memory, after which it is replaced; 0: never."""
    default_deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Patience of a caller who set no `expiration`, in seconds."""
    drain_s: Annotated[float, Field(ge=0, le=3_600)] = 60.0
    """Seconds that a stop waits for the work in hand."""

    embed_metadata: bool = True
    """Write the prompt into the picture; size, seed, steps and model are written in any case."""
    log_prompts: bool = False
    """Write prompts into the log."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: JSON unless on a terminal."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe record that is written."""
    worker_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")] = Field(
        default_factory=lambda: (
            re.sub(r"[^A-Za-z0-9_.:-]", "-", socket.gethostname())[:100] or "worker"
        )
    )
    """Told in replies and events; the machine's name by default."""

    @field_validator("amqp_url", "http_amqp_url")
    @classmethod
    def _speaks_amqp(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        problem = None if url is None else disagreement(nodes_in(url.get_secret_value()))
        if problem is not None:
            raise _disagree(f"{PREFIX}{str(info.field_name).upper()} {problem}")
        return url

    @field_validator("reply_to_allow")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise _disagree(
                f"{PREFIX}REPLY_TO_ALLOW is no regular expression: {error}."
            ) from error
        return pattern

    @field_validator("warm_sizes")
    @classmethod
    def _can_be_drawn(cls, sizes: str) -> str:
        sides = [int(side) for side in re.findall(r"\d+", sizes)]
        if any(not MIN_SIDE <= side <= MAX_SIDE for side in sides):
            raise _disagree(
                f"{PREFIX}WARM_SIZES ({sizes}) has a side outside {MIN_SIDE} to {MAX_SIDE} pixels. "
                "Give sizes such as 1024x1024,1280x720, or auto, or none."
            )
        return sizes

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.job_timeout_s > self.default_deadline_s:
            raise _disagree(
                f"{PREFIX}JOB_TIMEOUT_S ({self.job_timeout_s:g}) is above {PREFIX}DEFAULT_DEADLINE_S "
                f"({self.default_deadline_s:g}): a job would expire first. Lower the one or raise the other."
            )
        if self.api_token is None and not is_loopback(self.host):
            raise _disagree(
                f"{PREFIX}HOST ({self.host}) can be reached from other machines, and without "
                f"{PREFIX}API_TOKEN anybody could have pictures drawn. Set a token, or the host to "
                "127.0.0.1."
            )
        return self

    @property
    def host_names(self) -> frozenset[str]:
        """Return the names, beside loopback's, under which the job API may be called."""
        return frozenset({self.host.lower(), *self.allowed_hosts.lower().split(",")} - {""})

    @property
    def warm(self) -> list[str]:
        """Return the sizes to draw before the first job: those that requests for them are given."""
        if self.warm_sizes == "auto":
            return [f"{width}x{height}" for width, height in LISTED_SIZES]
        if self.warm_sizes == "none":
            return []
        asked = (size.split("x") for size in self.warm_sizes.split(","))
        drawn = (drawn_size(int(width), int(height)) for width, height in asked)
        return list(dict.fromkeys(f"{width}x{height}" for width, height in drawn))

    @property
    def store(self) -> str:
        """Return the database URL in use."""
        if self.store_url is not None:
            return self.store_url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'jobs.sqlite'}"


def read_settings(
    environment: Mapping[str, str] | None = None, secrets: Path = SECRETS_FOLDER
) -> Settings:
    """Read the settings from the environment, from files it names and from a secrets folder.

    A value is taken from `IMAGE_GEN_<NAME>`, else from the file that `IMAGE_GEN_<NAME>_FILE`
    names, else from `<secrets>/image_gen_<name>`; an empty value counts as not given.

    Raises:
        SettingsError: with a sentence for everything that is wrong, all at once.
    """
    environment = os.environ if environment is None else environment
    given = {
        name.removeprefix(PREFIX): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }
    sentences: list[str] = []
    values = _from_secrets(secrets, sentences)
    for name, value in sorted(given.items()):
        field, file = _field(name)
        if field is None:
            sentences += [] if name in OUTSIDE else [_unknown(name)]
        elif not file:
            values[field] = value
        elif field.upper() in given:
            sentences.append(
                f"{PREFIX}{field.upper()} and {PREFIX}{name} are both set. Keep one."
            )
        else:
            _read_file(Path(value), f"{PREFIX}{name} names a file", field, values, sentences)
    settings = _validate(values, sentences)
    if sentences or settings is None:
        raise SettingsError(sentences)
    return settings


def _field(name: str) -> tuple[str | None, bool]:
    """Return the field that a variable names and whether it names a file with the value."""
    lower = name.lower()
    if lower in Settings.model_fields:
        return lower, False
    if lower.endswith("_file") and lower.removesuffix("_file") in Settings.model_fields:
        return lower.removesuffix("_file"), True
    return None, False


def _unknown(name: str) -> str:
    known = [field.upper() for field in Settings.model_fields]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {PREFIX}{close[0]}?" if close else "Remove it."
    return f"{PREFIX}{name} is no setting of this service. {hint}"


def _from_secrets(folder: Path, sentences: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in Settings.model_fields:
        path = folder / f"{PREFIX}{field}".lower()
        if path.is_file():
            _read_file(path, f"{path} is a file", field, found, sentences)
    return found


def _read_file(
    path: Path, what: str, field: str, values: dict[str, Any], sentences: list[str]
) -> None:
    try:
        values[field] = path.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        # Not `error` as a whole: a secret set in place of a path would be told with it.
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        sentences.append(f"{what} that cannot be read: {reason}.")


_COMPARED = {"job_timeout_s", "default_deadline_s", "host", "api_token"}
"""The fields of rules that hold between fields."""


def _validate(values: dict[str, Any], sentences: list[str]) -> Settings | None:
    wrong: set[str] = set()
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            wrong.update(str(part) for part in details["loc"])
            if details["type"] == "disagree":
                sentences.append(details["msg"])
            else:
                name = f"{PREFIX}{str(details['loc'][0]).upper()}"
                sentences.append(f"{name}: {details['msg']}.")
    if wrong and wrong.isdisjoint(_COMPARED):
        # The rules between fields are looked at once the fields are right: so without the wrong.
        _validate({name: values[name] for name in values.keys() - wrong}, sentences)
    return None


def _disagree(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("disagree", "{sentence}", {"sentence": sentence})
