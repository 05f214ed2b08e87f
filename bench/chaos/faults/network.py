"""Faults of the network: resets, black holes, slow and broken links, frames that no client sends."""

import asyncio
import struct

from bench.chaos.place import Place, moment, now
from bench.chaos.rows import Fault, Scene
from bench.chaos.wait import until

NOTICED_S = 35.0
"""The bar: a link in which nothing arrives is given up within this."""
KILOBYTES_256 = 256 * 1024
PATIENCE_S = 30.0
SETTLED_S = 45.0


async def reset(scene: Scene) -> None:
    """Every link of the consumers ends with RST."""
    for link in scene.house.links:
        link.reset()
    scene.healed()


async def close(scene: Scene) -> None:
    """Every link of the consumers ends with FIN."""
    for link in scene.house.links:
        link.close()
    scene.healed()


def hole(lane_name: str, seconds: float) -> Fault:
    """Return the fault in which one direction of every link swallows everything for a while."""

    async def fault(scene: Scene) -> None:
        lanes = [getattr(link, lane_name) for link in scene.house.links]
        began = now()
        for lane in lanes:
            lane.swallow()
        await asyncio.sleep(0.5 if scene.short else seconds)
        for lane in lanes:
            lane.heal()
        scene.healed()
        if seconds > NOTICED_S:
            for place in scene.house.places.values():
                _require_noticed(scene, place, began)

    return fault


def _require_noticed(scene: Scene, place: Place, began: float) -> None:
    lost = place.records("broker_lost", began)
    if not lost:
        scene.require(kept=False, promise=f"{place.name} did not notice the hole")
        return
    seconds = moment(lost[0]) - began
    scene.note(f"{place.name} noticed after {seconds:.1f} s")
    scene.require(seconds <= NOTICED_S, f"{place.name} noticed the hole after {seconds:.1f} s")


async def latency(scene: Scene) -> None:
    """Every frame takes a second longer, each way."""
    lanes = [lane for link in scene.house.links for lane in link.lanes]
    for lane in lanes:
        lane.latency_s = 0.2 if scene.short else 1.0
    await scene.load.pictures(4 if scene.short else 12, PATIENCE_S)
    for lane in lanes:
        lane.heal()
    scene.healed()


async def narrow(scene: Scene) -> None:
    """Replies leave with 256 kB/s, and one of them has 4 MB."""
    width, height = (512, 512) if scene.short else (960, 1024)
    job = scene.load.job("noise", width=width, height=height)
    await scene.load.wire.ask(job, 60.0)
    for link in scene.house.links:
        link.to_broker.bytes_per_s = KILOBYTES_256 * (4 if scene.short else 1)
    place = await scene.started(job)
    settled = await until(
        lambda: bool(place.records("settled", scene.began, job_id=job.id, reply="confirmed")),
        SETTLED_S,
    )
    scene.require(settled, f"the reply of 4 MB was not confirmed within {SETTLED_S:g} s")
    for link in scene.house.links:
        link.heal()


async def cut(scene: Scene) -> None:
    """Half a frame of a reply, then half a frame of a delivery, and the link is cut."""
    for place in scene.house.places.values():
        for lane, above in ((place.link.to_broker, 500), (place.link.to_client, 60)):
            lane.cut_above = above
            await until(lambda lane=lane: not lane.cut_above, PATIENCE_S)
        if scene.short:
            break
    scene.healed()


async def channel_error(scene: Scene) -> None:
    """The broker closes the channel of every consumer: an ack of what was never delivered."""
    acked_nothing = struct.pack(">HHQB", 60, 80, 1 << 40, 0)
    for place in scene.house.places.values():
        await _inject(scene, place, 1, acked_nothing)
    scene.healed()


async def connection_error(scene: Scene) -> None:
    """The broker closes every consuming connection: a frame of no known type."""
    for place in scene.house.places.values():
        await _inject(scene, place, 9, b"noise")
    scene.healed()


async def _inject(scene: Scene, place: Place, kind: int, payload: bytes) -> None:
    """Put a frame onto the channel on which a consumer takes its requests."""
    await until(lambda: place.newest_delivery is not None, PATIENCE_S)
    frame, began = place.newest_delivery, now()
    if frame is None:
        raise RuntimeError(f"{place.name} is handed nothing")
    raw = struct.pack(">BHI", kind, frame.channel, len(payload)) + payload + b"\xce"
    place.link.inject(frame.connection, raw)
    lost = await until(lambda: bool(place.records("broker_lost", began)), PATIENCE_S)
    scene.require(lost, f"{place.name} did not notice the broker's close")


async def client_reset(scene: Scene) -> None:
    """The link of the client library ends with RST, three times."""
    for _ in range(1 if scene.short else 3):
        scene.house.client_link.reset()
        await scene.load.pictures(2, PATIENCE_S)


async def client_hole(scene: Scene) -> None:
    """The link of the client library swallows what comes back."""
    scene.house.client_link.to_client.swallow()
    await asyncio.sleep(0.5 if scene.short else 5.0)
    scene.house.client_link.heal()
