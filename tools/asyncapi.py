"""The AsyncAPI 3 document of the queue, made from the models, the topology and the settings."""

from typing import Any

from pydantic import TypeAdapter

from consumer import VERSION, topology
from schemas import GenerationError, GenerationRequest, GenerationResult, JobEvent
from schemas.control import CONTROL_TYPE, JOBS_TYPE, STATUS_TYPE, ControlMessage
from schemas.events import EVENT_TYPE
from schemas.reply import ERROR_TYPE, MAX_REPLY_BYTES, RESULT_TYPE
from schemas.request import MAX_BODY_BYTES, REQUEST_TYPE
from schemas.status import JobList, JobStatus

MODELS: dict[str, Any] = {
    "GenerationRequest": GenerationRequest,
    "GenerationResult": GenerationResult,
    "GenerationError": GenerationError,
    "JobEvent": JobEvent,
    "ControlMessage": ControlMessage,
    "JobStatus": JobStatus,
    "JobList": JobList,
}
"""Everything that travels, by the name of its schema."""


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a model, on its own."""
    schema = TypeAdapter(MODELS[name]).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name, **schema}


def document(max_queue_size: int) -> dict[str, Any]:
    """Return the document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "imagegen",
            "version": VERSION,
            "description": "Requests for pictures over RabbitMQ, each answered exactly once.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "localhost:5672",
                "pathname": f"/{topology.VHOST}",
                "protocol": "amqp",
                "protocolVersion": "0-9-1",
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
        "x-topology": {
            "definitions": topology.definitions(max_queue_size),
            "users": topology.users(),
        },
    }


def _channels() -> dict[str, Any]:
    policies = {queue.name: queue.limits for queue in topology.queues(20)}
    return {
        "requests": {
            "address": topology.REQUESTS,
            "description": f"Published to the exchange {topology.EXCHANGE}, or the default one.",
            "messages": {"request": _message("request")},
            "bindings": {
                "amqp": {
                    "is": "queue",
                    "queue": {
                        "name": topology.REQUESTS,
                        "durable": True,
                        "exclusive": False,
                        "autoDelete": False,
                    },
                }
            },
            "x-policy": policies[topology.REQUESTS],
        },
        "replies": {
            "address": None,
            "description": "The queue that the request names in reply_to.",
            "messages": {
                name: _message(name) for name in ("result", "error", "status", "jobs")
            },
        },
        "events": _exchange_channel(
            topology.EVENTS, "topic", "event", "Routing key job.<state>.<job id>; best effort."
        ),
        "control": _exchange_channel(
            topology.CONTROL, "fanout", "control", "Heard by every consumer."
        ),
    }


def _exchange_channel(name: str, kind: str, message: str, description: str) -> dict[str, Any]:
    return {
        "address": name,
        "description": description,
        "messages": {message: _message(message)},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": name, "type": kind, "durable": True, "autoDelete": False},
            }
        },
    }


def _message(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/messages/{name}"}


def _operations() -> dict[str, Any]:
    """The operations of the service: it receives requests and sends the rest."""
    return {
        "generate": {
            "action": "receive",
            "channel": {"$ref": "#/channels/requests"},
            "messages": [{"$ref": "#/channels/requests/messages/request"}],
            "bindings": {"amqp": {"deliveryMode": 2, "priority": 4, "ack": True}},
            "reply": {
                "address": {"location": "$message.header#/replyTo"},
                "channel": {"$ref": "#/channels/replies"},
                "messages": [
                    {"$ref": "#/channels/replies/messages/result"},
                    {"$ref": "#/channels/replies/messages/error"},
                ],
            },
        },
        "tell": {
            "action": "send",
            "channel": {"$ref": "#/channels/events"},
            "messages": [{"$ref": "#/channels/events/messages/event"}],
        },
        "obey": {
            "action": "receive",
            "channel": {"$ref": "#/channels/control"},
            "messages": [{"$ref": "#/channels/control/messages/control"}],
            "reply": {
                "address": {"location": "$message.header#/replyTo"},
                "channel": {"$ref": "#/channels/replies"},
                "messages": [
                    {"$ref": "#/channels/replies/messages/status"},
                    {"$ref": "#/channels/replies/messages/jobs"},
                ],
            },
        },
    }


def _messages() -> dict[str, Any]:
    correlation = {"location": "$message.header#/correlationId"}
    plain = {
        "request": ("GenerationRequest", REQUEST_TYPE),
        "result": ("GenerationResult", RESULT_TYPE),
        "error": ("GenerationError", ERROR_TYPE),
        "event": ("JobEvent", EVENT_TYPE),
        "control": ("ControlMessage", CONTROL_TYPE),
        "status": ("JobStatus", STATUS_TYPE),
        "jobs": ("JobList", JOBS_TYPE),
    }
    messages: dict[str, dict[str, Any]] = {
        name: {
            "name": message_type,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{schema}"},
            "bindings": {"amqp": {"messageType": message_type}},
        }
        for name, (schema, message_type) in plain.items()
    }
    for name in ("request", "result", "error", "status", "jobs"):
        messages[name]["correlationId"] = correlation
    messages["request"] |= {"headers": _request_headers(), "x-max-bytes": MAX_BODY_BYTES}
    messages["result"]["x-max-bytes"] = MAX_REPLY_BYTES
    return messages


def _request_headers() -> dict[str, Any]:
    """The AMQP properties of a request, by the names that AMQP libraries give them."""
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            "messageId": {**text, "description": "The job id, and its idempotency key."},
            "correlationId": {**text, "maxLength": 255, "description": "Echoed unchanged."},
            "replyTo": {**text, "description": "Where the answer goes; absent: fire and poll."},
            "expiration": {**text, "description": "The caller's patience in ms."},
            "timestamp": {"type": "integer", "description": "Seconds since 1970, UTC."},
            "x-imagegen-accept": {
                "enum": [
                    "application/json",
                    "image/png",
                    "image/webp",
                    "image/jpeg",
                    "image/*",
                ],
                "description": "image/png: the reply's body is the picture, its facts headers.",
            },
            "traceparent": {**text, "description": "W3C trace context; echoed in the reply."},
        },
    }


def _schemas() -> dict[str, Any]:
    """All models with their parts as siblings, so that references stay inside the document."""
    schemas: dict[str, Any] = {}
    for name, model in MODELS.items():
        schema = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}")
        # OpenAPI's form, which AsyncAPI does not know; `oneOf` with constants says the same.
        schema.pop("discriminator", None)
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    return dict(sorted(schemas.items()))
