"""Faults of the consumer: killed at exact moments, stopped, stalled, without a disk."""

import asyncio
import resource
import signal
import time

from bench.chaos.place import Place
from bench.chaos.proxy import BASIC_ACK, BODY, Frame, is_reply
from bench.chaos.rows import Scene
from bench.chaos.wait import until

PATIENCE_S = 30.0
NO_LIMIT = resource.RLIM_INFINITY


def _victim(scene: Scene) -> Place:
    return scene.house.places["ada"]


def _kill(scene: Scene, place: Place) -> None:
    """Kill it, and with it what the links keep back: nothing held may arrive after all."""
    place.alive.process.kill()
    place.link.reset()
    scene.healed()


async def killed_received(scene: Scene) -> None:
    """Killed with the delivery in its hands, before it did anything with it."""
    place = _victim(scene)
    taken = asyncio.Event()
    before = len(place.deliveries)

    def watch(frame: Frame) -> None:
        place.watch(frame)
        if len(place.deliveries) > before and frame.kind == BODY and frame.sender == "broker":
            taken.set()

    place.link.watch = watch
    await asyncio.wait_for(taken.wait(), PATIENCE_S)
    place.link.watch = place.watch
    _kill(scene, place)


async def killed_running(scene: Scene) -> None:
    """Killed while the GPU draws."""
    place = _victim(scene)
    jobs = [
        scene.load.job("draw=1.0") for _ in range(4)
    ]  # the other consumer takes two at most
    for job in jobs:
        await scene.load.wire.ask(job, 30.0)
    await until(
        lambda: any(place.records("started", scene.began, job_id=job.id) for job in jobs),
        PATIENCE_S,
    )
    _kill(scene, place)


async def killed_stored(scene: Scene) -> None:
    """Killed when the result is stored and the reply is not sent."""
    place = _victim(scene)
    hold = place.link.to_broker.hold(is_reply)
    await asyncio.wait_for(hold.frame, PATIENCE_S)
    _kill(scene, place)
    hold.release()


async def killed_unconfirmed(scene: Scene) -> None:
    """Killed when the reply is sent and its confirm has not come."""
    place = _victim(scene)
    reply = place.link.to_broker.hold(is_reply)
    sent = await asyncio.wait_for(reply.frame, PATIENCE_S)
    confirm = place.link.to_client.hold(
        lambda frame: (
            (frame.method, frame.connection, frame.channel)
            == (BASIC_ACK, sent.connection, sent.channel)
        )
    )
    reply.release()
    await asyncio.wait_for(confirm.frame, PATIENCE_S)
    _kill(scene, place)
    confirm.release()


async def killed_unacked(scene: Scene) -> None:
    """Killed when the reply is confirmed and the delivery is not acked."""
    place = _victim(scene)
    ack = place.link.to_broker.hold(lambda frame: frame.method == BASIC_ACK)
    await asyncio.wait_for(ack.frame, PATIENCE_S)
    _kill(scene, place)
    ack.release()


async def terminated(scene: Scene) -> None:
    """SIGTERM in a job: it is finished, answered and acked, and the exit code is 0."""
    job = scene.load.job("draw=1.0" if scene.short else "draw=2.0")
    await scene.load.wire.ask(job, 30.0)
    place = await scene.started(job)
    place.alive.signal(signal.SIGTERM)
    await until(lambda: bool(place.ended), PATIENCE_S)
    scene.require(place.ended[:1] == [0], f"exit codes {place.ended}, not 0")
    scene.checks.append(
        lambda work: scene.require(len(work.of(job.id)) == 1, "the job was drawn again")
    )


async def frozen(scene: Scene) -> None:
    """SIGSTOP for a minute in a job, then SIGCONT: the other consumer takes over."""
    job = scene.load.job("draw=2.0")
    await scene.load.wire.ask(job, 100.0)
    place = await scene.started(job)
    place.alive.signal(signal.SIGSTOP)
    place.paused = True
    try:
        await asyncio.sleep(60.0)
    finally:
        place.alive.signal(signal.SIGCONT)
        place.paused = False
    scene.healed()


async def stalled(scene: Scene) -> None:
    """The event loop of both consumers stands still."""
    for place in scene.house.places.values():
        place.alive.signal(signal.SIGUSR1)
    await asyncio.sleep(scene.house.stall_s)
    scene.healed()


async def disk_full(scene: Scene) -> None:
    """No file of either consumer can be written for some seconds: SQLite really fails."""
    end = time.monotonic() + (1.0 if scene.short else 3.0)
    while time.monotonic() < end:
        for place in scene.house.places.values():
            _limit_files(place, 0)
        await asyncio.sleep(0.05)
    for place in scene.house.places.values():
        _limit_files(place, NO_LIMIT)
    scene.healed()


def _limit_files(place: Place, size: int) -> None:
    if place.served is not None and place.served.running:
        try:
            resource.prlimit(place.served.process.pid, resource.RLIMIT_FSIZE, (size, NO_LIMIT))
        except ProcessLookupError:
            return
