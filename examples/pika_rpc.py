"""A picture by plain pika: python pika_rpc.py URL PROMPT FILE [--direct] [--default-exchange]."""

import base64
import json
import sys
import uuid
from pathlib import Path

import pika
from pika.exceptions import NackError, UnroutableError

PATIENCE_MS = 120_000  # after it the service answers deadline_exceeded

url, prompt, file = sys.argv[1:4]
direct, default_exchange = "--direct" in sys.argv, "--default-exchange" in sys.argv
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
channel.confirm_delivery()
if direct:
    reply_to = "amq.rabbitmq.reply-to"
else:
    reply_to = channel.queue_declare("", exclusive=True).method.queue
replies = channel.consume(reply_to, auto_ack=True)
next(
    channel.consume(reply_to, auto_ack=True, inactivity_timeout=0.01)
)  # registers the consumer
correlation_id = str(uuid.uuid4())
try:
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
            expiration=str(PATIENCE_MS),
            delivery_mode=2,
        ),
        mandatory=True,
    )
except NackError:
    sys.exit("busy: the queue is full; try again later")
except UnroutableError:
    sys.exit("unroutable: no queue takes requests here")
reply = next(
    json.loads(body) for _, got, body in replies if got and got.correlation_id == correlation_id
)
if not reply["success"]:
    sys.exit(f"{reply['error']['code']}: {reply['error']['message']}")
Path(file).write_bytes(base64.b64decode(reply["image_base64"]))
