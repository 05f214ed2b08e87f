"""The outfit: what the settings give to each part. Pure."""

import re
from datetime import timedelta

from consumer import topology
from consumer.admission import Limits
from consumer.gpu.limits import GpuLimits
from consumer.gpu.protocol import Load, Ready
from consumer.http.application import DOCUMENTS, OPEN_PATHS
from consumer.http.safety import LOOPBACK_NAMES, Rules
from consumer.settings import Settings


def load(settings: Settings) -> Load:
    """Return what the GPU process is told to load."""
    return Load(
        settings.pipeline,
        settings.model,
        settings.model_revision,
        settings.device,
        settings.memory,
        str(settings.data_dir.absolute()),
        settings.warm,
        settings.warm_sizes not in {"auto", "none"},
        settings.guidance_scale,
    )


def gpu_limits(settings: Settings) -> GpuLimits:
    """Return what is called a hang, a broken GPU or a child that grew too big."""
    return GpuLimits(
        job_timeout_s=settings.job_timeout_s,
        step_floor_s=settings.hang_floor_s,
        defunct_exit_s=settings.defunct_exit_s,
        canary_every_s=settings.canary_every_s,
        recycle_bytes=settings.recycle_bytes,
    )


def rules(settings: Settings) -> Rules:
    """Return who may speak to the job API."""
    token = settings.api_token
    return Rules(
        hosts=LOOPBACK_NAMES | settings.host_names,
        token=None if token is None else token.get_secret_value().encode(),
        open_paths=OPEN_PATHS,
        tokenless_paths=DOCUMENTS,
    )


def limits(settings: Settings, ready: Ready | None) -> Limits:
    """Return the limits; while the model loads, those that any model has."""
    return Limits(
        default_width=settings.default_width,
        default_height=settings.default_height,
        default_steps=settings.inference_steps,
        guidance_scale=settings.guidance_scale,
        steps_per_forward_less=ready.steps_per_forward_less if ready else 0,
        default_deadline=timedelta(seconds=settings.default_deadline_s),
        reply_to_allow=re.compile(settings.reply_to_allow),
        own_objects=topology.OWN_OBJECTS,
    )
