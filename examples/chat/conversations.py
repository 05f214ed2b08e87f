"""The conversations: what users and chat said, each message numbered anew when it changes."""

import sqlite3
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from examples.chat.accounts import User
from examples.chat.database import moment, written

PAGE = 60
"""Messages that are read at once."""

Author = Literal["user", "chat"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `picture` is the id of the picture that it shows."""

    id: int
    author: str
    text: str
    at: str
    picture: str | None
    changed: int
    """Grows with every change of any message: what a page has seen is one number.

    A picture that moves on numbers its message anew by a trigger of the database, so that no kill
    comes between the two.
    """


class Conversations:
    """Messages in the database, one conversation a user."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def whole(self) -> AbstractContextManager[None]:
        """Have what is said within be kept with the pictures that are added, or nothing of it."""
        return written(self._database)

    def say(self, user: User, author: Author, text: str, picture: str | None = None) -> None:
        """Add a message."""
        with written(self._database):
            self._database.execute(
                "INSERT INTO messages (user, author, text, at, picture, changed)"
                " SELECT ?, ?, ?, ?, ?, coalesce(max(changed), 0) + 1 FROM messages",
                (user.id, author, text, moment(), picture),
            )

    def before(self, user: User, before: int) -> list[Message]:
        """Return the latest messages with ids below this, at most PAGE; the oldest first."""
        rows = self._database.execute(
            "SELECT * FROM messages WHERE user = ? AND id < ? ORDER BY id DESC LIMIT ?",
            (user.id, before, PAGE),
        ).fetchall()
        return [_message(row) for row in reversed(rows)]

    def since(self, user: User, changed: int) -> list[Message]:
        """Return what changed after this number, at most PAGE, in the order of the changes."""
        rows = self._database.execute(
            "SELECT * FROM messages WHERE user = ? AND changed > ? ORDER BY changed LIMIT ?",
            (user.id, changed, PAGE),
        )
        return [_message(row) for row in rows]

    def latest(self) -> int:
        """Return the number of the latest change of all."""
        row = self._database.execute("SELECT max(changed) AS latest FROM messages").fetchone()
        return int(row["latest"] or 0)


def _message(row: sqlite3.Row) -> Message:
    return Message(
        row["id"], row["author"], row["text"], row["at"], row["picture"], row["changed"]
    )
