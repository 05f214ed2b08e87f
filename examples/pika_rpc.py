"""A picture by plain pika: python pika_rpc.py URL PROMPT FILE [--direct] [--default-exchange]."""

import base64
import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, NackError, UnroutableError

PATIENCE_S = int(os.environ.get("PATIENCE_S", "120"))  # then it is answered deadline_exceeded
GRACE_S = 5  # for that answer: where no service runs, none comes

url, prompt, file = sys.argv[1:4]
direct, default_exchange = "--direct" in sys.argv, "--default-exchange" in sys.argv
correlation_id = str(uuid.uuid4())


def ask(channel: BlockingChannel) -> Iterator[tuple[Any, Any, Any]]:
    """Publish the request; returns what comes in reply, and empty messages when nothing does."""
    channel.confirm_delivery()
    if direct:
        reply_to = "amq.rabbitmq.reply-to"
    else:
        reply_to = channel.queue_declare("", exclusive=True).method.queue
    next(
        channel.consume(reply_to, auto_ack=True, inactivity_timeout=0.01)
    )  # registers the consumer
    channel.basic_publish(
        "" if default_exchange else "imagegen",
        "imagegen.requests",
        json.dumps({"prompt": prompt, "width": 512, "height": 512}),
        pika.BasicProperties(
            reply_to=reply_to,
            correlation_id=correlation_id,
            # The job's id: sent again under it, nothing is drawn twice.
            message_id=str(uuid.uuid4()),
            content_type="application/json",
            expiration=str(PATIENCE_S * 1000),
            delivery_mode=2,
        ),
        mandatory=True,
    )
    return channel.consume(reply_to, auto_ack=True, inactivity_timeout=PATIENCE_S + GRACE_S)


try:
    replies = ask(pika.BlockingConnection(pika.URLParameters(url)).channel())
    body = next(
        body for _, got, body in replies if not got or got.correlation_id == correlation_id
    )
except NackError:
    sys.exit("busy: the queue is full; try again later")
except UnroutableError:
    sys.exit("unroutable: no queue takes requests here")
except (AMQPError, OSError) as error:
    sys.exit(f"broker: {error!r}")
if body is None:
    sys.exit("no answer: nobody draws; try again later")
reply = json.loads(body)
if not reply["success"]:
    sys.exit(f"{reply['error']['code']}: {reply['error']['message']}")
Path(file).write_bytes(base64.b64decode(reply["image_base64"]))
