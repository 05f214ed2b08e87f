"""The picture that a caller gets, and the progress on the way to it."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIELD_HEADER_PREFIX = "x-imagegen-"


@dataclass(frozen=True, slots=True)
class Progress:
    """News of a job: `running`, `step`, or the state it ended in."""

    job_id: str
    state: str
    step: int
    """Denoising steps done."""
    steps: int
    """Denoising steps in all; 0 where not known."""


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """A picture with its facts."""

    data: bytes
    """The file's bytes, in `format`."""
    format: str
    width: int
    height: int
    seed: int
    prompt: str
    job_id: str
    model: str
    generation_time: float
    """Seconds from the start on the GPU to the encoded image."""
    forwards: int
    sha256: str
    worker: str
    attempt: int
    replayed: bool
    timings: Mapping[str, float]
    """Seconds by stage."""

    def save(self, path: str | Path) -> Path:
        """Write the file; returns its path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data)
        return path


def image_from_reply(
    body: bytes, content_type: str | None, headers: Mapping[str, Any]
) -> GeneratedImage:
    """Return the picture of a result, whether it came as raw bytes or as JSON."""
    if (content_type or "").startswith("image/"):
        fields = {
            name.removeprefix(FIELD_HEADER_PREFIX).replace("-", "_"): value
            for name, value in headers.items()
            if name.startswith(FIELD_HEADER_PREFIX)
        }
        fields["timings"] = json.loads(fields["timings"])
        data = body
    else:
        fields = json.loads(body)
        data = base64.b64decode(fields["image_base64"])
    return GeneratedImage(
        data=data,
        format=str(fields["format"]),
        width=int(fields["width"]),
        height=int(fields["height"]),
        seed=int(fields["seed"]),
        prompt=str(fields["prompt"]),
        job_id=str(fields["job_id"]),
        model=str(fields["model"]),
        generation_time=float(fields["generation_time"]),
        forwards=int(fields["forwards"]),
        sha256=str(fields["sha256"]),
        worker=str(fields["worker"]),
        attempt=int(fields["attempt"]),
        replayed=bool(fields["replayed"]),
        timings=fields["timings"],
    )
