"""The sessions: which cookie is whose, and the token without which nothing is changed."""

import hashlib
import hmac
import secrets
import sqlite3
from datetime import UTC, datetime, timedelta

from examples.chat.accounts import User
from examples.chat.database import moment, secret

LASTS = timedelta(days=14)


class Sessions:
    """Who is signed in where.

    A visitor has a cookie too, of which nothing is kept: the token against forged requests is made
    from it, for signing in as for everything after. Signing in gives another cookie, so that one
    that somebody planted is worth nothing.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._key = secret(database, "csrf")

    def begin(self, user: User) -> str:
        """Sign a user in; returns the cookie."""
        cookie = new_cookie()
        with self._database:
            self._database.execute("DELETE FROM sessions WHERE ends_at < ?", (moment(),))
            self._database.execute(
                "INSERT INTO sessions VALUES (?, ?, ?)",
                (_digest(cookie), user.id, moment(datetime.now(tz=UTC) + LASTS)),
            )
        return cookie

    def user(self, cookie: str) -> User | None:
        """Return whose cookie it is."""
        row = self._database.execute(
            "SELECT users.id, users.name FROM sessions JOIN users ON users.id = sessions.user"
            " WHERE digest = ? AND ends_at >= ?",
            (_digest(cookie), moment()),
        ).fetchone()
        return None if row is None else User(row["id"], row["name"])

    def end(self, cookie: str) -> None:
        """Sign out, here alone. May be called twice."""
        with self._database:
            self._database.execute("DELETE FROM sessions WHERE digest = ?", (_digest(cookie),))

    def token(self, cookie: str) -> str:
        """Return the token that goes with a cookie."""
        return hmac.new(self._key, cookie.encode(), hashlib.sha256).hexdigest()

    def is_token(self, cookie: str, token: str) -> bool:
        """Whether a request that brings both was made by a page of ours."""
        return hmac.compare_digest(self.token(cookie).encode(), token.encode())


def new_cookie() -> str:
    """Return a value that nobody guesses."""
    return secrets.token_urlsafe(32)


def _digest(cookie: str) -> bytes:
    """Return what is kept of a cookie: who reads the file cannot sign in by it."""
    return hashlib.sha256(cookie.encode()).digest()
