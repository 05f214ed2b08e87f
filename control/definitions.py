"""What a broker of our own is given: its configuration, its topology and its users. Pure."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

ADMIN = "admin"
"""A user of our own node only: control.sh and the tests use the management API with it."""

REQUESTS = "imagegen.requests"


def configuration(text: str, ours: Mapping[str, str]) -> str:
    """Return a rabbitmq.conf with our lines in the place of its own of the same name."""
    kept = [line for line in text.splitlines() if line.partition("=")[0].strip() not in ours]
    return "\n".join([*kept, *(f"{name} = {value}" for name, value in ours.items()), ""])


def topology(text: str, max_queue_size: int) -> str:
    """Return the definitions with the bound of the request queue set."""
    definitions: dict[str, Any] = json.loads(text)
    for policy in definitions["policies"]:
        if policy["name"] == REQUESTS:
            policy["definition"]["max-length"] = max_queue_size
    return json.dumps(definitions, indent=1)


def users(text: str, hashes: Mapping[str, str]) -> str:
    """Return the definitions of users with everyone's password hash, and the admin added."""
    definitions: dict[str, Any] = json.loads(text)
    vhost = definitions["permissions"][0]["vhost"]
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    definitions["users"].append({"name": ADMIN, "tags": ["administrator"]})
    definitions["permissions"].append({"user": ADMIN, "vhost": vhost, **everything})
    for user in definitions["users"]:
        user["password_hash"] = hashes[user["name"]]
        user["hashing_algorithm"] = "rabbit_password_hashing_sha256"
    return json.dumps(definitions, indent=1)


def user_names(text: str) -> list[str]:
    """Return the names of all users that a node has."""
    return [*(user["name"] for user in json.loads(text)["users"]), ADMIN]


def password_hash(password: str, salt: bytes) -> str:
    """Return RabbitMQ's hash: base64 of a salt of four bytes and SHA-256 over salt and password."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
