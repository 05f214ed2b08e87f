"""The rights as data: what each user may do with each object, and what each AMQP operation needs."""

import aiormq
from aiormq import spec

STRANGE_EXCHANGE, STRANGE_QUEUE = "strange", "strange.queue"
NEARLY = ("imagegen.clients", "imagegen.requests2", "my.imagegen.client.a", "imagegen2")
"""Queues whose names only look like ours."""
MINE, PARTNER = "imagegen.client.mine", "imagegen.client.partner"

EXCHANGES = {
    "": "direct",
    "imagegen": "direct",
    "imagegen.dlx": "fanout",
    "imagegen.control": "fanout",
    "imagegen.events": "topic",
    "amq.topic": "topic",
    STRANGE_EXCHANGE: "direct",
}
OWN_QUEUES = ("imagegen.requests", "imagegen.expired", "imagegen.parking")
CLIENT_QUEUES = (MINE, PARTNER)
QUEUES = (*OWN_QUEUES, *CLIENT_QUEUES, STRANGE_QUEUE, *NEARLY)

RIGHTS = {
    "imagegen-consumer": {
        "": "w",
        "imagegen": "w",
        "imagegen.control": "wr",
        "imagegen.events": "wr",
        "imagegen.requests": "r",
        "imagegen.expired": "r",
        "imagegen.parking": "r",
        MINE: "w",
        PARTNER: "w",
        "amq.gen": "cwr",
    },
    "chat-backend": {
        "": "w",
        "imagegen": "w",
        "imagegen.control": "w",
        "imagegen.events": "r",
        MINE: "cwr",
        PARTNER: "cwr",
        "amq.gen": "cwr",
    },
    "imagegen-http": {
        "imagegen": "w",
        "imagegen.control": "w",
        "imagegen.events": "r",
        MINE: "cwr",
        PARTNER: "cwr",
        "amq.gen": "cwr",
    },
    "monitoring": {},
}
"""User, object, and of it c(onfigure), w(rite) and r(ead); what is not there is refused."""

PROFILES = {
    "default": RIGHTS,
    "hardened": RIGHTS | {"chat-backend": RIGHTS["chat-backend"] | {"": ""}},
}

IT = "the object itself"
NOBODY = "nobody"
"""Stands for a right that no user can have."""

# ---------------------------------------------------------------- operations on an exchange


async def _declare_exchange(channel, name):
    await channel.exchange_declare(name, exchange_type=EXCHANGES[name], durable=True)


async def _look_for_exchange(channel, name):
    await channel.exchange_declare(name, passive=True)


async def _delete_exchange(channel, name):
    await channel.exchange_delete(name)


async def _publish(channel, name):
    await channel.basic_publish(b"", exchange=name, routing_key="nowhere")


async def _publish_as_another(channel, name):
    nobody = spec.Basic.Properties(user_id="nobody-of-this-name")
    try:
        await channel.basic_publish(
            b"", exchange=name, routing_key="nowhere", properties=nobody
        )
    except aiormq.exceptions.ChannelPreconditionFailed as refused:
        raise aiormq.exceptions.ChannelAccessRefused(str(refused)) from None


async def _bind_to_it(channel, name):
    await channel.queue_bind(PARTNER, name, "some.key")
    await channel.queue_unbind(PARTNER, name, "some.key")


async def _unbind_from_it(channel, name):
    await channel.queue_unbind(PARTNER, name, "some.key")


async def _copy_events_to_it(channel, name):
    await channel.exchange_bind(name, "imagegen.events", routing_key="some.key")
    await channel.exchange_unbind(name, "imagegen.events", routing_key="some.key")


async def _copy_it_to_control(channel, name):
    await channel.exchange_bind("imagegen.control", name, routing_key="some.key")
    await channel.exchange_unbind("imagegen.control", name, routing_key="some.key")


async def _dead_letter_into_it(channel, name):
    dead = {"x-dead-letter-exchange": name}
    queue = "imagegen.client.dead"
    await channel.queue_declare(queue, arguments=dead)
    await channel.queue_delete(queue)


ON_EXCHANGES = {
    "declare": (_declare_exchange, [("c", IT)]),
    "look": (_look_for_exchange, "look"),
    "delete": (_delete_exchange, [("c", IT)]),
    "publish": (_publish, [("w", IT)]),
    "publish as another user": (_publish_as_another, [("c", NOBODY)]),
    "bind a queue to it": (_bind_to_it, [("w", PARTNER), ("r", IT)]),
    "unbind a queue from it": (_unbind_from_it, [("w", PARTNER), ("r", IT)]),
    "copy events to it": (_copy_events_to_it, [("w", IT), ("r", "imagegen.events")]),
    "copy it to control": (_copy_it_to_control, [("w", "imagegen.control"), ("r", IT)]),
    "dead-letter into it": (_dead_letter_into_it, [("c", MINE), ("r", MINE), ("w", IT)]),
}
"""What is tried, and which rights it needs on which object."""

NEVER = {
    "": {
        "declare",
        "delete",
        "look",
        "bind a queue to it",
        "unbind a queue from it",
        "copy events to it",
        "copy it to control",
    },
    "amq.topic": {"delete"},
}
"""What the broker lets nobody do, whatever the rights."""

# ---------------------------------------------------------------- operations on a queue


async def _declare_queue(channel, name):
    await channel.queue_declare(name, durable=True, arguments={"x-queue-type": "classic"})


async def _look_for_queue(channel, name):
    await channel.queue_declare(name, passive=True)


async def _delete_queue(channel, name):
    await channel.queue_delete(name)


async def _purge(channel, name):
    await channel.queue_purge(name)


async def _consume_and_cancel(channel, name):
    consumer = await channel.basic_consume(name, _ignore)
    await channel.basic_cancel(consumer.consumer_tag)


async def _get(channel, name):
    await channel.basic_get(name)


async def _bind_it(channel, name):
    await channel.queue_bind(name, "imagegen.events", "some.key")
    await channel.queue_unbind(name, "imagegen.events", "some.key")


async def _publish_to_it(channel, name):
    await channel.basic_publish(b"", exchange="", routing_key=name)


async def _ignore(_):
    """Take a message and do nothing."""


ON_QUEUES = {
    "declare": (_declare_queue, [("c", IT)]),
    "look": (_look_for_queue, "look"),
    "delete": (_delete_queue, [("c", IT)]),
    "purge": (_purge, [("r", IT)]),
    "consume and cancel": (_consume_and_cancel, [("r", IT)]),
    "get": (_get, [("r", IT)]),
    "bind it to events": (_bind_it, [("w", IT), ("r", "imagegen.events")]),
    "publish by the default exchange": (_publish_to_it, [("w", "")]),
}

# ---------------------------------------------------------------- what is nobody's in particular


async def _own_queue(channel, _):
    """Everything that is done with a queue that the broker names."""
    name = (await channel.queue_declare("", exclusive=True)).queue
    await channel.queue_bind(name, "imagegen.events", "some.key")
    await channel.queue_purge(name)
    await channel.basic_get(name)
    await _consume_and_cancel(channel, name)
    await channel.queue_unbind(name, "imagegen.events", "some.key")
    await channel.queue_delete(name)


async def _direct_reply(channel, _):
    """Ask by direct reply-to."""
    await channel.basic_consume("amq.rabbitmq.reply-to", _ignore, no_ack=True)
    reply_to = spec.Basic.Properties(reply_to="amq.rabbitmq.reply-to")
    await channel.basic_publish(
        b"", exchange="imagegen", routing_key="nowhere", properties=reply_to
    )


ON_OTHERS_EXCLUSIVE = {
    name: (try_it, [("c", NOBODY)])
    for name, (try_it, _) in ON_QUEUES.items()
    if name not in {"look", "declare", "publish by the default exchange"}
}
ALONE = {
    "use a queue that the broker names": (
        _own_queue,
        [("c", "amq.gen"), ("w", "amq.gen"), ("r", "amq.gen"), ("r", "imagegen.events")],
    ),
    "ask by direct reply-to": (_direct_reply, [("w", "imagegen")]),
}

REFUSALS = (
    aiormq.exceptions.ChannelAccessRefused,
    aiormq.exceptions.ChannelLockedResource,
)
"""403; 405, which is of another connection."""

ON_THE_API = {
    ("GET", "queues/{vhost}"): {"monitoring"},
    ("GET", "policies/{vhost}"): {"monitoring"},
    ("POST", "queues/{vhost}/imagegen.parking/get"): set(),
    ("DELETE", "queues/{vhost}/imagegen.requests/contents"): set(),
    ("DELETE", "queues/{vhost}/imagegen.requests"): set(),
    ("PUT", "queues/{vhost}/mine"): set(),
    ("POST", "exchanges/{vhost}/imagegen/publish"): set(),
    ("PUT", "policies/{vhost}/mine"): set(),
    ("DELETE", "policies/{vhost}/imagegen.requests"): set(),
    ("GET", "definitions"): set(),
    ("GET", "users"): set(),
    ("PUT", "users/mine"): set(),
    ("PUT", "permissions/{vhost}/monitoring"): set(),
    ("PUT", "vhosts/mine"): set(),
}
"""What is asked of the management API, and which users it is done for."""

API_BODY = {
    "count": 1,
    "ackmode": "ack_requeue_false",
    "encoding": "auto",
    "properties": {},
    "routing_key": "nowhere",
    "payload": "",
    "payload_encoding": "string",
    "pattern": "x",
    "definition": {"max-length": 1},
    "tags": "",
    "password": "x",
    **dict.fromkeys(("configure", "write", "read"), ".*"),
}
"""What any of them wants, so that a refusal is one of rights."""


def tries(exclusive):
    """Give each try: object, operation, how it is tried, and what it needs."""
    for kind, objects in ((ON_EXCHANGES, EXCHANGES), (ON_QUEUES, QUEUES)):
        for name in objects:
            for operation, (try_it, needs) in kind.items():
                never = operation in NEVER.get(name, ())
                yield name, operation, try_it, [("c", NOBODY)] if never else needs
    for operation, (try_it, needs) in ON_OTHERS_EXCLUSIVE.items():
        yield exclusive, operation, try_it, needs
    for operation, (try_it, needs) in ALONE.items():
        yield "", operation, try_it, needs


def may(rights, name, needs, release):
    """Whether a user with these rights is let do something on a broker of this release."""
    if needs == "look":
        # Before 4.3 whoever may be on the vhost may ask whether a thing is there.
        return release < (4, 3, 0) or bool(rights.get(name))
    return all(
        right in rights.get(name if where is IT else where, "") for right, where in needs
    )
