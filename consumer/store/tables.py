"""The tables of the store, and the desk: what one transaction works with."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

# Times are milliseconds since 1970, by the clock of the database.
tables = MetaData()
jobs = Table(
    "jobs",
    tables,
    Column("id", String, primary_key=True),
    Column("body_sha256", String, nullable=False),
    Column("user_id", String),
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("owner", String, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("facts", String),
    Column("error", String),
    Column("image_bytes", BigInteger, nullable=False),
    # Added later, so they may be null: in a row that was written before, for ever.
    Column("created", BigInteger),
    Column("started", BigInteger),
    Column("deadline", BigInteger),
    Column("drawing", String),
    Index("jobs_by_age", "updated", "image_bytes"),
    Index("jobs_by_creation", "created", "id"),
    Index("jobs_by_state", "state", "created"),
)
images = Table(
    # Apart from the jobs, so that looking for old ones does not read gigabytes.
    "images",
    tables,
    Column("job_id", String, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
cancels = Table(
    "cancels",
    tables,
    Column("job_id", String, primary_key=True),
    Column("user_id", String, primary_key=True),
    Column("any_job", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False, index=True),
)
answers = Table(
    "answers",
    tables,
    Column("job_id", String, primary_key=True),
    Column("address", String, primary_key=True),
    Column("created", BigInteger, nullable=False, index=True),
)
pruned = Table(
    # What is left of a job whose result was removed, so that its end is still known for a while.
    "pruned",
    tables,
    Column("job_id", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("user_id", String),
    Column("created", BigInteger),
    Column("ended", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False, index=True),
)
probes = Table(
    "probes",
    tables,
    Column("owner", String, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Desk:
    """What a step works with: a transaction, and who does it."""

    connection: Connection
    owner: str
    clock: Callable[[Connection], int]
    alive: Callable[[str], bool]
    """Whether something speaks against the death of an owner whose lease has not ended."""

    def now_ms(self) -> int:
        """Return the time; to be read after the row was locked."""
        return self.clock(self.connection)


def milliseconds(moment: datetime) -> int:
    """Return a moment as the tables have it."""
    return int(moment.timestamp() * 1000)
