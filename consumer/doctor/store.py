"""The store as it is found: its database can be reached, and what time it is there."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from consumer.doctor.machine import Folder, folder
from consumer.errors import StartRefusedError
from consumer.store.database import kind_of

CONNECT_S = 5


@dataclass(frozen=True, slots=True)
class StoreFound:
    """A database, asked without writing anything into it."""

    kind: str
    """`sqlite` or `postgresql`; empty where the service knows no such store."""
    place: Folder | None
    """Of a SQLite file; it need not be there yet."""
    problem: str | None = None
    ahead_s: float | None = None
    """Seconds that its clock is ahead of ours; None where it has none of its own."""


def look(url: str) -> StoreFound:
    """Ask the database of the settings."""
    try:
        kind_of(url, "doctor")
    except StartRefusedError as refused:
        return StoreFound("", None, " ".join(refused.sentences))
    parsed = make_url(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        path = Path(parsed.database or "").absolute()
        return StoreFound(kind, folder(path.parent), _problem_of_file(path))
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        connect_args={"connect_timeout": CONNECT_S},
    )
    try:
        with engine.connect() as connection:
            before = datetime.now(tz=UTC)
            there: datetime = connection.execute(text("select clock_timestamp()")).scalar_one()
            here = before + (datetime.now(tz=UTC) - before) / 2
    except SQLAlchemyError as error:
        return StoreFound(kind, None, str(getattr(error, "orig", error)).strip())
    return StoreFound(kind, None, ahead_s=(there - here).total_seconds())


def _problem_of_file(path: Path) -> str | None:
    """Return why a file cannot be used; read only, so that a service may be at work on it."""
    if not path.exists():
        return None
    engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(text("select count(*) from sqlite_master"))
    except SQLAlchemyError as error:
        return str(getattr(error, "orig", error))
    return None
