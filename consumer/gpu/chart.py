"""The chart: what the parent notes of its children beside their states: memory, hangs, failures."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Hang:
    """A silence that was called a hang. Times are those of the event loop's clock."""

    job_id: str | None
    """Whose picture was in it; None while the child loaded."""
    stage: str
    """The stage of the picture, `handover` of its pixels, or `load`."""
    since: float
    """When the child was last heard of."""
    found: float
    """When the watch called it a hang."""
    note: str
    """How long which silence was."""

    @property
    def sentence(self) -> str:
        """What to write into a log."""
        where = "while loading" if self.job_id is None else f"in job {self.job_id}"
        return f"the GPU process hangs {where}: {self.note}"


@dataclass(slots=True)
class Chart:
    """Kept over all children of a parent."""

    memory: dict[str, int] = field(default_factory=dict)
    """Bytes by reading, as the child last told."""
    hang: Hang | None = None
    """Of the child of the moment, until the next one is ready."""
    last_hang: Hang | None = None
    failure: str | None = None
    """What went wrong last, in words without a period; None since a picture came out."""

    def hung(self, hang: Hang) -> None:
        """Take note of a hang."""
        self.hang = self.last_hang = hang

    def told(self, memory: dict[str, int]) -> None:
        """Take note of the child's memory; what it does not tell again stays."""
        self.memory = {**self.memory, **memory}

    def renewed(self, memory: dict[str, int]) -> None:
        """Take note of a child that is ready, with a memory of its own."""
        self.hang = None
        self.memory = dict(memory)
