"""The accounts: names and hashed passwords."""

import asyncio
import hashlib
import hmac
import re
import secrets
import sqlite3
from dataclasses import dataclass

from examples.chat.database import moment
from examples.chat.refusal import Refusal

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,31}")
SHORTEST, LONGEST = 8, 200
"""Characters of a password."""
_HASHES_AT_ONCE = 2
"""Each takes 16 MiB and a core for some tenths of a second."""
_HASHES_WAITING = 20
"""What comes then is turned away: who floods us with passwords is not to make others wait long."""


@dataclass(frozen=True, slots=True)
class User:
    """Who is signed in."""

    id: int
    name: str


class Accounts:
    """Who may sign in."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._places = asyncio.Semaphore(_HASHES_AT_ONCE)
        self._hashes = 0
        self._nobody = secrets.token_bytes(16), secrets.token_bytes(32)

    async def sign_up(self, name: str, password: str) -> User:
        """Make an account.

        Raises:
            Refusal: the name is none or taken, the password too short or too long, or too many
                are at it.
        """
        if not is_name(name):
            raise Refusal(400, "A name has 2 to 32 letters, digits, dots, - and _.")
        if not SHORTEST <= len(password) <= LONGEST:
            raise Refusal(400, f"A password has {SHORTEST} to {LONGEST} characters.")
        salt = secrets.token_bytes(16)
        hashed = await self._hash(password, salt)
        try:
            with self._database:
                made = self._database.execute(
                    "INSERT INTO users (name, salt, hash, made_at) VALUES (?, ?, ?, ?)",
                    (name, salt, hashed, moment()),
                )
        except sqlite3.IntegrityError:
            raise Refusal(409, "This name is taken. Choose another.") from None
        return User(int(made.lastrowid or 0), name)

    async def sign_in(self, name: str, password: str) -> User | None:
        """Return whose name and password these are; None takes as long.

        Raises:
            Refusal: too many are at it.
        """
        row = self._database.execute(
            "SELECT id, name, salt, hash FROM users WHERE name = ?", (name,)
        ).fetchone()
        salt, expected = self._nobody if row is None else (row["salt"], row["hash"])
        hashed = await self._hash(password[: LONGEST + 1], salt)
        if row is None or not hmac.compare_digest(hashed, expected):
            return None
        return User(row["id"], row["name"])

    async def _hash(self, password: str, salt: bytes) -> bytes:
        if self._hashes >= _HASHES_AT_ONCE + _HASHES_WAITING:
            raise Refusal(
                503, "Many are signing in. Try again in some seconds.", retry_after_s=5
            )
        self._hashes += 1
        try:
            async with self._places:
                return await asyncio.to_thread(_scrypt, password, salt)
        finally:
            self._hashes -= 1


def is_name(name: str) -> bool:
    """Whether an account may have this name."""
    return _NAME.fullmatch(name) is not None


def _scrypt(password: str, salt: bytes) -> bytes:
    """Return the hash by OWASP's parameters for 16 MiB of memory."""
    return hashlib.scrypt(
        password.encode(errors="replace"), salt=salt, n=2**14, r=8, p=5, maxmem=2**26, dklen=32
    )
