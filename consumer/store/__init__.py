"""The store: jobs, their results and who was answered, in SQLite or PostgreSQL."""

from consumer.store.begun import Begun, Conflict, Elsewhere, Finished, Started
from consumer.store.database import StoreLostError
from consumer.store.records import CANCELLED_FAULT, LEASE_S
from consumer.store.store import RENEW_EVERY_S, Store

__all__ = [
    "CANCELLED_FAULT",
    "LEASE_S",
    "RENEW_EVERY_S",
    "Begun",
    "Conflict",
    "Elsewhere",
    "Finished",
    "Started",
    "Store",
    "StoreLostError",
]
