"""The table: every row of the bench, in the order in which it runs."""

from bench.chaos.faults import broker, callers, consumers, gpu, messages, network
from bench.chaos.rows import Row, Scene


async def _nothing(_: Scene) -> None:
    """No fault: what the load looks like by itself."""


LONG = {"quick": False, "short": False, "patience_s": 110.0}

ROWS = (
    Row("no fault", "no fault: the load by itself", _nothing),
    Row("rst", "RST on both links of every consumer", network.reset),
    Row("fin", "FIN on both links of every consumer", network.close),
    Row(
        "hole out 2 s", "2 s: nothing from the consumers arrives", network.hole("to_broker", 2)
    ),
    Row("hole in 2 s", "2 s: nothing arrives at the consumers", network.hole("to_client", 2)),
    Row(
        "hole out 10 s",
        "the same for 10 s",
        network.hole("to_broker", 10),
        quick=False,
        short=False,
    ),
    Row(
        "hole in 10 s",
        "the same for 10 s",
        network.hole("to_client", 10),
        quick=False,
        short=False,
    ),
    Row("hole out 60 s", "the same for 60 s", network.hole("to_broker", 60), **LONG),
    Row("hole in 60 s", "the same for 60 s", network.hole("to_client", 60), **LONG),
    Row("latency", "1 s of latency each way", network.latency, quick=False, short=False),
    Row(
        "narrow",
        "256 kB/s during a reply of 4 MB",
        network.narrow,
        quick=False,
        patience_s=60.0,
        short=False,
    ),
    Row("half a frame", "half a frame, then RST; each way", network.cut),
    Row("channel error", "the broker closes the consuming channels", network.channel_error),
    Row(
        "connection error",
        "the broker closes the consuming connections",
        network.connection_error,
    ),
    Row("client rst", "RST on the client library's link, three times", network.client_reset),
    Row("client hole", "5 s: nothing arrives at the client library", network.client_hole),
    Row(
        "queue recreated",
        "the queue deleted with a job in hand, and created again",
        broker.queue_recreated,
        short=False,
    ),
    Row(
        "broker restart",
        "the node stopped and started",
        broker.restart,
        quick=False,
        short=False,
    ),
    Row("broker kill", "the node killed and started", broker.kill, quick=False),
    Row(
        "memory alarm",
        "publishers blocked for 5 s",
        broker.memory_alarm,
        quick=False,
        short=False,
    ),
    Row("kill received", "kill -9 with the delivery received", consumers.killed_received),
    Row("kill running", "kill -9 while the GPU draws", consumers.killed_running),
    Row(
        "kill stored",
        "kill -9 with the result stored, the reply not sent",
        consumers.killed_stored,
    ),
    Row(
        "kill unconfirmed",
        "kill -9 with the reply sent, unconfirmed",
        consumers.killed_unconfirmed,
    ),
    Row(
        "kill unacked",
        "kill -9 with the reply confirmed, the delivery not acked",
        consumers.killed_unacked,
    ),
    Row("sigterm", "SIGTERM in a job", consumers.terminated),
    Row("sigstop 60 s", "SIGSTOP for 60 s in a job, then SIGCONT", consumers.frozen, **LONG),
    Row(
        "loop stalled", "both event loops stand still for 10 s", consumers.stalled, quick=False
    ),
    Row("disk full", "no file can be written for 3 s", consumers.disk_full, supervised=True),
    Row("child killed", "kill -9 of the GPU process in a job", gpu.child_killed),
    Row("child dies", "the GPU process dies of a job, once", gpu.dies_once, short=False),
    Row("child hangs", "the GPU process hangs in a job, once", gpu.hang, quick=False),
    Row("out of memory", "the GPU has too little memory, once", gpu.out_of_memory),
    Row("poison", "a job that kills every GPU process", gpu.poison, short=False),
    Row("cancelled", "a running job called off", gpu.cancelled),
    Row("caller gone before", "the reply queue gone before the job", callers.gone_before),
    Row("caller gone during", "the reply queue gone during the job", callers.gone_during),
    Row("caller gone after", "the reply queue gone before the reply", callers.gone_after),
    Row("library cancelled", "a caller of the library gives up", callers.library_cancelled),
    Row("reply queue full", "the reply queue full for 2 s", callers.reply_queue_full),
    Row(
        "reply queue stuffed",
        "the reply queue full for ever",
        callers.reply_queue_full_for_ever,
        quick=False,
        short=False,
    ),
    Row("reply queue bogus", "a reply queue that never was", callers.reply_queue_bogus),
    Row(
        "reply queue forbidden",
        "replies wanted in the queue of requests",
        callers.reply_queue_forbidden,
    ),
    Row("malformed", "every malformed message", messages.malformed, quick=False, short=False),
    Row(
        "hostile",
        "hostile and unreadable properties, 17 MiB",
        messages.hostile,
        quick=False,
        short=False,
    ),
    Row("same id twice", "an id again, and with another body", callers.same_id_twice),
    Row("burst", "ten times the bound at once", callers.burst, quick=False, patience_s=60.0),
)

CLUSTER_ROWS = (
    Row(
        "cluster node killed",
        "of three nodes, the one that leads the queue killed",
        broker.node_killed,
        **LONG,
    ),
)

ENDS_A_CONSUMER = ("sigterm", "disk full")
"""Of any consumer: the soak watches one process from end to end."""
SOAK_ROWS = [row for row in ROWS if row.quick and row.name not in ENDS_A_CONSUMER]
