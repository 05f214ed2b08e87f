"""The work: what the GPU did, read from the record that the pipeline leaves. Pure but for the reading."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of the record; `at` in seconds since 1970."""

    job: str
    run: str
    what: str
    at: float


@dataclass(slots=True)
class Execution:
    """One start of a job on a GPU, with all that was noted of it."""

    job: str
    marks: list[Mark] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From its start to the last that was heard of it."""
        return self.marks[-1].at - self.marks[0].at

    @property
    def completed(self) -> bool:
        """Whether the picture was there at its end."""
        return self.marks[-1].what == "end"


@dataclass(frozen=True, slots=True)
class Work:
    """All executions of a row."""

    executions: tuple[Execution, ...]

    def of(self, job: str) -> list[Execution]:
        """Return the executions of one job, in the order of their starts."""
        return [execution for execution in self.executions if execution.job == job]

    @property
    def beyond_one(self) -> int:
        """Starts beyond the first of each job; what malformed messages start has no name."""
        named = [execution.job for execution in self.executions if execution.job]
        return len(named) - len(set(named))

    @property
    def seconds(self) -> float:
        """GPU seconds in all."""
        return sum(execution.seconds for execution in self.executions)

    @property
    def wasted(self) -> float:
        """GPU seconds beside the last completed execution of each job."""
        useful: dict[str, float] = {}
        for execution in self.executions:
            if execution.completed:
                useful[execution.job] = execution.seconds
        return self.seconds - sum(useful.values())


def gather(lines: Iterable[str]) -> Work:
    """Return the work that lines of the record tell. A line cut short by a kill is left out."""
    runs: dict[str, list[Mark]] = defaultdict(list)
    for line in lines:
        if line.endswith("}\n"):
            mark = Mark(**json.loads(line))
            runs[mark.run].append(mark)
    executions = [Execution(marks[0].job, marks) for marks in runs.values()]
    return Work(tuple(sorted(executions, key=lambda execution: execution.marks[0].at)))


class Records:
    """The records of several services; each row reads what is new."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._read = dict.fromkeys(paths, 0)

    def new(self) -> list[str]:
        """Return the lines written since the last call."""
        lines: list[str] = []
        for path, offset in self._read.items():
            if path.exists():
                with path.open() as file:
                    file.seek(offset)
                    lines += file.readlines()
                    self._read[path] = file.tell()
        return lines
