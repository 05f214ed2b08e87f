"""The protocol: every message between parent and GPU child, and how they are framed.

A frame is two big-endian 32-bit lengths, a JSON header of the first and raw bytes of the second.
"""

import json
import socket
import struct
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

_LENGTHS = struct.Struct(">II")
MAX_HEADER_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 1 << 28


class ProtocolError(Exception):
    """The peer sent something that is no frame or no message of ours."""


class Stage(StrEnum):
    """What a picture goes through."""

    TEXT_ENCODE = "text_encode"
    DENOISE = "denoise"
    VAE_DECODE = "vae_decode"


# ---------------------------------------------------------------- parent to child


@dataclass(frozen=True, slots=True)
class Load:
    """Load the model; the first message of a child's life."""

    pipeline: str
    """`module:Class`."""
    model: str
    revision: str | None
    device: str
    memory: str
    data_dir: str
    """Where a pipeline may keep files of its own."""
    warm: list[str] = field(default_factory=list)
    """Sizes to draw once before the readiness, as `1280x720`."""
    warm_on_cpu: bool = False
    """Draw them on a CPU, too, which has nothing to warm."""
    guidance: float = 0.0
    """What most pictures will be drawn with; above 0 other shapes go through the model."""


@dataclass(frozen=True, slots=True)
class Generate:
    """Draw one picture."""

    id: str
    prompt: str
    width: int
    height: int
    seed: int
    forwards: int
    guidance: float
    tiled: bool = False
    """Decode in tiles: slower and a little different, with a fraction of the memory."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop this picture at the next denoising step."""

    id: str


# ---------------------------------------------------------------- child to parent


@dataclass(frozen=True, slots=True)
class Loading:
    """The model is being loaded; a sentence for the log."""

    note: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded and pictures may be asked for."""

    model: str
    revision: str
    pipeline: str
    """The class of the diffusers pipeline."""
    device: str
    device_name: str
    backend: str
    """`cpu`, `cuda 13.0` or `rocm 7.2`."""
    dtype: str
    load_seconds: float
    steps_per_forward_less: int
    """Forwards = steps - this."""
    versions: dict[str, str] = field(default_factory=dict)
    architecture: str = ""
    """`gfx1100`, `sm_90`; empty on a CPU."""
    pci: str = ""
    """The device's PCI address, as `0000:03:00.0`; empty where torch does not tell it."""
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes, as in Done, after the load; `total` of the device."""
    warmed: list[str] = field(default_factory=list)
    """The sizes that were drawn before; without those that did not fit."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The model cannot be used; the child leaves."""

    message: str
    permanent: bool
    """Trying again would not help: a missing folder, a class we cannot call."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A stage has begun; from then on its silence is judged by what the stage usually takes."""

    id: str
    stage: str
    """`text_encode` when the picture is begun, `vae_decode` after the last step."""


@dataclass(frozen=True, slots=True)
class Step:
    """A denoising step was done."""

    id: str
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Done:
    """The picture; its payload is height x width x 3 bytes, uint8 sRGB, row by row."""

    id: str
    width: int
    height: int
    forwards: int
    seconds: dict[str, float]
    """By stage: text_encode, denoise, vae_decode."""
    memory: dict[str, int]
    """Bytes: resident of the process; allocated, reserved and peak on a device with its own."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The picture was cancelled after this many steps."""

    id: str
    step: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The picture cannot be had; the child goes on."""

    id: str
    code: str
    """`invalid_request`, `out_of_memory`, `nan_output` or `internal`."""
    message: str
    frames: str = ""
    """Of a defect: the lines of code that it came through."""


Message = (
    Load
    | Generate
    | Cancel
    | Loading
    | Ready
    | LoadFailed
    | Begun
    | Step
    | Done
    | Stopped
    | Failed
)

CATALOGUE: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        Load,
        Generate,
        Cancel,
        Loading,
        Ready,
        LoadFailed,
        Begun,
        Step,
        Done,
        Stopped,
        Failed,
    )
}


def encode(message: Message, payload_length: int = 0) -> bytes:
    """Return the frame of a message up to its payload, which the caller sends after it."""
    header = json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()
    return _LENGTHS.pack(len(header), payload_length) + header


def decode(header: bytes | bytearray) -> Message:
    """Return the message of a frame's header.

    Raises:
        ProtocolError: if it is no message of the catalogue.
    """
    try:
        fields: dict[str, Any] = json.loads(header)
        return CATALOGUE[fields.pop("kind")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"no message of ours: {header[:80]!r}") from error


PREFIX_BYTES = _LENGTHS.size


def lengths(prefix: bytes | bytearray) -> tuple[int, int]:
    """Return the header's and the payload's length in bytes.

    Raises:
        ProtocolError: if they are beyond what we ever send.
    """
    header, payload = _LENGTHS.unpack(prefix)
    if header > MAX_HEADER_BYTES or payload > MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"a frame of {header} + {payload} bytes")
    return header, payload


def receive(connection: socket.socket) -> Message:
    """Receive a frame without payload, blocking; for the child.

    Raises:
        EOFError: when the parent's socket is closed.
        ProtocolError: when it is no frame of ours.
    """
    header, payload = lengths(_exactly(connection, PREFIX_BYTES))
    message = decode(_exactly(connection, header))
    _exactly(connection, payload)
    return message


def _exactly(connection: socket.socket, count: int) -> bytes:
    buffer = bytearray()
    while len(buffer) < count:
        chunk = connection.recv(count - len(buffer))
        if not chunk:
            raise EOFError
        buffer += chunk
    return bytes(buffer)
