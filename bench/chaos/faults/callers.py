"""Faults of the callers: gone before, during and after, reply queues full and forbidden, a burst."""

import asyncio
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractQueue

from bench.chaos.faults.gpu import ends_within_a_step, until_parked
from bench.chaos.job import Job
from bench.chaos.ledger import PICTURE, Word
from bench.chaos.proxy import is_reply
from bench.chaos.rows import Scene
from bench.chaos.work import Work

BOUND = 20
PATIENCE_S = 30.0


async def _reply_queue(scene: Scene, **arguments: object) -> AbstractQueue:
    channel = await scene.load.wire.channel()
    return await channel.declare_queue(
        f"imagegen.client.chaos-{uuid4()}",
        durable=True,
        arguments={"x-queue-type": "classic", "x-expires": 300_000, **arguments},
    )


def _require_not_drawn(scene: Scene, job: Job, why: str) -> None:
    scene.checks.append(
        lambda work: scene.require(not work.of(job.id), f"drawn although {why}")
    )


async def gone_before(scene: Scene) -> None:
    """The caller's queue is gone before the job starts: it is not drawn."""
    queue = await _reply_queue(scene)
    await queue.delete()
    job = scene.load.job("draw=0.5")
    await scene.load.wire.ask(job, 20.0, wants=(), reply_to=queue.name)
    _require_not_drawn(scene, job, "its caller was gone")


async def gone_during(scene: Scene) -> None:
    """The caller's queue goes while its job is drawn: it is not drawn to its end."""
    queue = await _reply_queue(scene)
    job = scene.load.job("draw=4.0")  # the service looks every other second
    await scene.load.wire.ask(job, 20.0, wants=(), reply_to=queue.name)
    place = await scene.started(job)
    await queue.delete()
    await ends_within_a_step(scene, job, place, "caller_gone")
    scene.checks.append(lambda work: _require_unfinished(scene, work, job))


def _require_unfinished(scene: Scene, work: Work, job: Job) -> None:
    finished = any(run.completed for run in work.of(job.id))
    scene.require(not finished, "drawn to its end although its caller was gone")


async def gone_after(scene: Scene) -> None:
    """The caller's queue goes when the picture is there and the reply is not sent."""
    queue = await _reply_queue(scene)
    holds = [
        place.link.to_broker.hold(
            lambda frame: is_reply(frame) and queue.name.encode() in frame.raw
        )
        for place in scene.house.places.values()
    ]
    job = scene.load.job()
    await scene.load.wire.ask(job, 20.0, wants=(), reply_to=queue.name)
    frames = [hold.frame for hold in holds]
    await asyncio.wait(frames, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    await queue.delete()
    for hold in holds:
        hold.release()


async def reply_queue_full(scene: Scene) -> None:
    """The reply queue is full for a while: the answer comes when there is room."""
    queue = await _reply_queue(scene, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    channel = await scene.load.wire.channel()
    await channel.default_exchange.publish(_filler(), queue.name)
    job = scene.load.job()
    await scene.load.wire.ask(job, 30.0, reply_to=queue.name)
    await asyncio.sleep(0.5 if scene.short else 2.0)
    await queue.get(no_ack=True)
    await queue.consume(scene.load.wire.take)
    answered = await scene.load.answered(job.id, PATIENCE_S)
    scene.require(answered, "no answer when the reply queue had room again")
    await queue.delete(if_unused=False, if_empty=False)


def _filler() -> aio_pika.Message:
    return aio_pika.Message(b"x", message_id=str(uuid4()))


async def reply_queue_full_for_ever(scene: Scene) -> None:
    """The reply queue stays full: given up at the deadline, and the place goes to others."""
    queue = await _reply_queue(scene, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    channel = await scene.load.wire.channel()
    await channel.default_exchange.publish(_filler(), queue.name)
    await scene.load.wire.ask(scene.load.job(), 4.0, wants=(), reply_to=queue.name)
    await scene.load.pictures(6, PATIENCE_S)
    await asyncio.sleep(4.0)
    await queue.delete(if_unused=False, if_empty=False)


async def reply_queue_bogus(scene: Scene) -> None:
    """A reply queue that never was: not drawn."""
    job = scene.load.job("draw=0.5")
    await scene.load.wire.ask(job, 20.0, wants=(), reply_to="imagegen.client.never-was")
    _require_not_drawn(scene, job, "its reply queue never was")


async def reply_queue_forbidden(scene: Scene) -> None:
    """Replies wanted in a queue of ours: not drawn, parked."""
    job = scene.load.job("draw=0.5")
    await scene.load.wire.ask(job, 20.0, wants=(), reply_to="imagegen.requests")
    scene.require(await until_parked(scene, 1), "not parked")
    _require_not_drawn(scene, job, "its answer may not go where it asks")


async def library_cancelled(scene: Scene) -> None:
    """A caller of the library gives up in a running job: it is called off."""
    job = scene.load.job("draw=4.0")
    call = asyncio.get_running_loop().create_task(scene.load.library.ask(job, 40.0, wants=()))
    place = await scene.started(job)
    call.cancel()
    await asyncio.wait({call})
    await ends_within_a_step(scene, job, place, "cancel_heard")
    scene.checks.append(lambda work: _require_unfinished(scene, work, job))


async def burst(scene: Scene) -> None:
    """Ten times the bound at once: what is taken is answered, the rest refused at once."""
    count = (2 if scene.short else 10) * BOUND
    jobs = [scene.load.job("draw=0.05") for _ in range(count)]
    words = await asyncio.gather(*(scene.load.wire.ask(job, 60.0) for job in jobs))
    scene.note(f"{words.count(Word.CONFIRMED)} of {count} taken")
    scene.require(Word.REFUSED in words, "nothing was refused")


async def same_id_twice(scene: Scene) -> None:
    """One id asked again is answered from the store; with another body it is refused."""
    first, other = scene.load.job(), scene.load.job()
    ask = scene.load.wire.ask
    await ask(first, 20.0)
    await scene.load.answered(first.id, PATIENCE_S)
    again = Job(first.id, first.seed, first.words)
    await ask(again, 20.0, wants=(PICTURE,), correlation_id=f"{first.id}-again")
    conflicting = Job(first.id, other.seed, other.words)
    await ask(
        conflicting,
        20.0,
        wants=("idempotency_conflict",),
        correlation_id=f"{first.id}-other",
    )
    scene.checks.append(
        lambda work: scene.require(len(work.of(first.id)) == 1, "drawn more than once")
    )
