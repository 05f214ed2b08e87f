"""The tables of the store, and the desk: what one transaction works with."""

from collections.abc import Callable
from dataclasses import dataclass

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
    Index("jobs_by_age", "updated", "image_bytes"),
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
