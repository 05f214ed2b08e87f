"""Faults of the GPU: its process killed, hung, short of memory, poisoned; and work called off."""

import asyncio
import json
import os
import signal
from uuid import uuid4

import aio_pika

from bench.chaos.job import Job
from bench.chaos.place import Place, moment
from bench.chaos.rows import Scene
from bench.chaos.wait import until
from bench.chaos.work import Work

PATIENCE_S = 30.0


async def child_killed(scene: Scene) -> None:
    """The GPU process is killed in a picture: it is drawn by the one that takes its place."""
    job = scene.load.job("draw=1.0")
    await scene.load.wire.ask(job, 30.0)
    place = await scene.started(job)
    page = await asyncio.to_thread(place.alive.health)
    os.kill(page["gpu"]["pid"], signal.SIGKILL)
    await _answered(scene, job)


async def hang(scene: Scene) -> None:
    """The GPU stands still in a picture: killed at the hard limit, and drawn by the next."""
    await _once(scene, "hang_once")


async def out_of_memory(scene: Scene) -> None:
    """Too little memory once: drawn at the second try."""
    await _once(scene, "oom_once")


async def dies_once(scene: Scene) -> None:
    """The GPU process dies of a picture, once."""
    await _once(scene, "die_once")


async def _once(scene: Scene, word: str) -> None:
    mark = scene.house.folder / f"{word}-{uuid4()}"
    job = scene.load.job(f"draw=0.1 {word}={mark}")
    await scene.load.wire.ask(job, 40.0)
    await _answered(scene, job)


async def poison(scene: Scene) -> None:
    """A picture of which the GPU process dies every time: after three it is poison, and parked.

    Where the service gives the job back before that, as something that may be tried again, it is.
    """
    job = scene.load.job("draw=0.1 die")
    await scene.load.wire.ask(job, 40.0, wants=("gpu_died", "poison"))
    await _answered(scene, job)
    if not _is_poison(scene, job.id):
        again = f"{job.id}-again"
        await scene.load.wire.ask(job, 40.0, wants=("poison",), correlation_id=again)
        await scene.load.answered(again, 45.0)
        scene.require(_is_poison(scene, again), "the third death was not answered poison")
    scene.require(
        await until_parked(scene, 1), "the poisonous request does not lie in the parking queue"
    )
    scene.checks.append(
        lambda work: scene.require(len(work.of(job.id)) == 3, "not drawn three times")
    )


def _is_poison(scene: Scene, request_id: str) -> bool:
    return any(answer.kind == "poison" for answer in scene.load.ledger.answers[request_id])


async def until_parked(scene: Scene, count: int) -> bool:
    """Return once so many messages are parked; False if it takes too long."""
    for _ in range(40):
        if await scene.house.admin.parked() >= count:
            return True
        await asyncio.sleep(0.1)
    return False


async def cancelled(scene: Scene) -> None:
    """A running job is called off: no more than the step under way is drawn."""
    job = scene.load.job(f"draw={2.0 if scene.short else 4.0}")
    await scene.load.wire.ask(job, 40.0, wants=("cancelled",))
    place = await scene.started(job)
    channel = await scene.load.wire.channel()
    control = await channel.get_exchange("imagegen.control", ensure=False)
    order = json.dumps({"op": "cancel", "job_id": job.id}).encode()
    await control.publish(aio_pika.Message(order, message_id=str(uuid4())), "")
    await ends_within_a_step(scene, job, place, "cancel_heard")
    await _answered(scene, job)


async def ends_within_a_step(scene: Scene, job: Job, place: Place, event: str) -> None:
    """Wait for the record of what ends a job; nothing but the step under way is drawn after it."""
    told = await until(
        lambda: bool(place.records(event, scene.began, job_id=job.id)), PATIENCE_S
    )
    scene.require(told, f"{place.name} has no record {event}")
    if told:
        heard = moment(place.records(event, scene.began, job_id=job.id)[0])
        scene.checks.append(lambda work: _at_most_a_step(scene, work, job, heard))


def _at_most_a_step(scene: Scene, work: Work, job: Job, heard: float) -> None:
    marks = [mark for run in work.of(job.id) for mark in run.marks]
    after = [mark for mark in marks if mark.at > heard]
    before_s = heard - marks[0].at if marks else 0.0
    after_s = max((mark.at - heard for mark in after), default=0.0)
    scene.note(f"{before_s:.2f} GPU s before the end was heard of, {after_s:.2f} s after it")
    scene.require(len(after) <= 1, f"{len(after)} marks of the GPU after the end was heard of")


async def _answered(scene: Scene, job: Job) -> None:
    answers = scene.load.ledger.answers
    answered = await scene.load.answered(job.id, 45.0)
    scene.require(answered, f"{job.id} has no answer")
    if answered:
        kind, wants = answers[job.id][0].kind, scene.load.ledger.asked[job.id].wants
        scene.require(kind in wants, f"{job.id} was answered {kind}, not {wants[0]}")
