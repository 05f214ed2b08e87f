"""The store: jobs, their results and who was answered, in SQLite or PostgreSQL."""

from consumer.store.begun import Begun, Conflict, Elsewhere, Finished, Known, Started
from consumer.store.database import StoreLostError
from consumer.store.lookup import NO_LINE, Line, Place, Record, Wanted
from consumer.store.records import CANCELLED_FAULT, LEASE_S
from consumer.store.store import RENEW_EVERY_S, Store

__all__ = [
    "CANCELLED_FAULT",
    "LEASE_S",
    "NO_LINE",
    "RENEW_EVERY_S",
    "Begun",
    "Conflict",
    "Elsewhere",
    "Finished",
    "Known",
    "Line",
    "Place",
    "Record",
    "Started",
    "Store",
    "StoreLostError",
    "Wanted",
]
