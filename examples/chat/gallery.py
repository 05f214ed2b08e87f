"""The gallery: each user's pictures, from the wish to the file."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from examples.chat.accounts import User
from examples.chat.database import moment, written
from examples.chat.states import UNDER_WAY, State, before
from imagegen_client import GeneratedImage

_UNDER_WAY = ", ".join(f"'{state}'" for state in UNDER_WAY)


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of the service: the same words however often it is asked."""

    prompt: str
    width: int | None = None
    height: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A wish and what became of it; not its file. What is not known is None."""

    id: str
    """The job's id at the service, too."""
    user: int
    order: Order
    state: State
    code: str | None
    told: str | None
    """What the service said of a wish that it refused."""
    deadline_at: datetime
    drawn: Order | None
    """Size and seed as drawn."""
    seconds: float | None
    """What the drawing took."""

    @property
    def under_way(self) -> bool:
        return self.state in UNDER_WAY


class Gallery:
    """Pictures in the database."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, user: User, order: Order, deadline_s: float) -> Picture:
        """Write a wish down, before anybody is asked."""
        now = datetime.now(tz=UTC)
        id_ = str(uuid4())
        with written(self._database):
            self._database.execute(
                "INSERT INTO pictures (id, user, prompt, width, height, seed, state, asked_at,"
                " deadline_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    id_,
                    user.id,
                    order.prompt,
                    order.width,
                    order.height,
                    order.seed,
                    State.ASKED,
                    moment(now),
                    moment(now + timedelta(seconds=deadline_s)),
                ),
            )
        return self.of(user, id_)

    def of(self, user: User, id_: str) -> Picture:
        """Return a user's picture. Raises KeyError where it is none of his, or there is none."""
        return self._one("SELECT * FROM pictures WHERE id = ? AND user = ?", (id_, user.id))

    def named(self, id_: str) -> Picture:
        """Return a picture, whosever it is. Raises KeyError where there is none."""
        return self._one("SELECT * FROM pictures WHERE id = ?", (id_,))

    def file(self, user: User, id_: str) -> bytes | None:
        """Return the file of a user's picture; None where it is none of his, or not drawn."""
        row = self._database.execute(
            "SELECT file FROM pictures WHERE id = ? AND user = ?", (id_, user.id)
        ).fetchone()
        return None if row is None else row["file"]

    def under_way(self, user: User | None = None) -> list[Picture]:
        """Return what has not ended: a user's, or everybody's."""
        whose = "" if user is None else " AND user = ?"
        rows = self._database.execute(
            f"SELECT * FROM pictures WHERE state IN ({_UNDER_WAY}){whose} ORDER BY asked_at",  # noqa: S608 - states of ours
            () if user is None else (user.id,),
        )
        return [_picture(row) for row in rows]

    def begin(self, id_: str) -> bool:
        """Note that it is being drawn; returns whether that is news."""
        return self._move(id_, State.DRAWING)

    def fail(self, id_: str, code: str, told: str) -> bool:
        """Note why it was not drawn; returns whether that is news."""
        return self._move(id_, State.FAILED, code=code, told=told)

    def cancel(self, id_: str) -> bool:
        """Note that it was called off; returns whether that is news."""
        return self._move(id_, State.CANCELLED, code="cancelled")

    def keep(self, id_: str, image: GeneratedImage) -> bool:
        """Keep the file, as the service made it; returns whether that is news."""
        return self._move(
            id_,
            State.DRAWN,
            file=image.data,
            drawn_width=image.width,
            drawn_height=image.height,
            drawn_seed=image.seed,
            seconds=image.generation_time,
        )

    def _move(self, id_: str, state: State, **facts: object) -> bool:
        """Change the state where TRANSITIONS has it; elsewhere nothing is changed."""
        earlier = before(state)
        columns = "".join(f", {name} = ?" for name in facts)
        marks = ", ".join("?" * len(earlier))
        with written(self._database):
            done = self._database.execute(
                f"UPDATE pictures SET state = ?{columns} WHERE id = ? AND state IN ({marks})",  # noqa: S608 - columns of ours
                (state, *facts.values(), id_, *earlier),
            )
        return done.rowcount == 1

    def _one(self, query: str, values: tuple[object, ...]) -> Picture:
        row = self._database.execute(query, values).fetchone()
        if row is None:
            raise KeyError(values[0])
        return _picture(row)


def _picture(row: sqlite3.Row) -> Picture:
    order = Order(row["prompt"], row["width"], row["height"], row["seed"])
    drawn = (
        None
        if row["drawn_seed"] is None
        else Order(row["prompt"], row["drawn_width"], row["drawn_height"], row["drawn_seed"])
    )
    return Picture(
        row["id"],
        row["user"],
        order,
        State(row["state"]),
        row["code"],
        row["told"],
        datetime.fromisoformat(row["deadline_at"]),
        drawn,
        row["seconds"],
    )
