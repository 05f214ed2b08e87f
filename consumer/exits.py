"""The exits: why the service ends before it was told to, in the log and as an exit code."""

from typing import TypeVar

from consumer.errors import EXIT_CONFIG, EXIT_TEMPORARY, StartRefusedError
from consumer.gpu.process import GpuDefunctError, GpuStartError
from consumer.logs import logger

log = logger(__name__)

E = TypeVar("E", bound=Exception)


def tell_refusal(group: BaseExceptionGroup[StartRefusedError]) -> int:
    """Tell why the service cannot start."""
    refused = _first_leaf(group)
    for sentence in refused.sentences:
        log.error("start_refused", problem=sentence)
    return refused.exit_code


def tell_gpu_failure(group: BaseExceptionGroup[GpuStartError]) -> int:
    """Tell why the model cannot be loaded."""
    failed = _first_leaf(group)
    log.error("model_cannot_be_loaded", problem=str(failed))
    return EXIT_CONFIG if failed.permanent else EXIT_TEMPORARY


def tell_defunct(group: BaseExceptionGroup[GpuDefunctError]) -> int:
    """Tell that the GPU fails at everything."""
    log.error("gpu_defunct", problem=str(_first_leaf(group)))
    return EXIT_TEMPORARY


def _first_leaf(group: BaseExceptionGroup[E]) -> E:
    first = group.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first
