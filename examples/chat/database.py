"""The database: one SQLite file, its tables, and the moment as it is written there."""

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

BUSY_S = 0.5
"""For another program that has the file locked: everybody waits meanwhile."""

_TABLES = """
CREATE TABLE IF NOT EXISTS users (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  salt BLOB NOT NULL, hash BLOB NOT NULL, made_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
  digest BLOB PRIMARY KEY, user INTEGER NOT NULL REFERENCES users, ends_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pictures (
  id TEXT PRIMARY KEY, user INTEGER NOT NULL REFERENCES users,
  prompt TEXT NOT NULL, width INTEGER, height INTEGER, seed INTEGER,
  state TEXT NOT NULL, code TEXT, told TEXT, asked_at TEXT NOT NULL, deadline_at TEXT NOT NULL,
  drawn_width INTEGER, drawn_height INTEGER, drawn_seed INTEGER, seconds REAL, file BLOB);
CREATE INDEX IF NOT EXISTS pictures_by_state ON pictures (state, user);
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, user INTEGER NOT NULL REFERENCES users,
  author TEXT NOT NULL, text TEXT NOT NULL, at TEXT NOT NULL,
  picture TEXT REFERENCES pictures, changed INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS messages_by_change ON messages (user, changed);
CREATE INDEX IF NOT EXISTS messages_by_number ON messages (changed);
CREATE INDEX IF NOT EXISTS messages_by_picture ON messages (picture);
CREATE TRIGGER IF NOT EXISTS picture_moved AFTER UPDATE OF state ON pictures BEGIN
  UPDATE messages SET changed = (SELECT max(changed) + 1 FROM messages) WHERE picture = new.id; END;
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""


def opened(folder: Path) -> sqlite3.Connection:
    """Open the file in this folder, made where there is none; nobody else may read it.

    Used in the event loop itself: what is asked for takes well below a millisecond, a picture's
    bytes some, and a thread for each would cost more.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "chat.sqlite"
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_S)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(_TABLES)
    return connection


@contextlib.contextmanager
def written(connection: sqlite3.Connection) -> Iterator[None]:
    """Have all that is written within be kept, or nothing; within another it is part of that."""
    if connection.in_transaction:
        yield
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def secret(connection: sqlite3.Connection, name: str) -> bytes:
    """Return the secret of this name, 32 bytes, made by chance where there is none."""
    with connection:
        connection.execute(
            "INSERT OR IGNORE INTO secrets VALUES (?, ?)", (name, secrets.token_bytes(32))
        )
    row = connection.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
    return bytes(row["value"])


def moment(at: datetime | None = None) -> str:
    """Return a moment, the present one by default, as text that sorts: RFC 3339 in UTC."""
    return (at or datetime.now(tz=UTC)).isoformat(timespec="milliseconds")
