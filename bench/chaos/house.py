"""The house: a broker, two consumers with one store, and a link before each; kept whole from row to row."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pamqp import frame as pamqp_frame

from bench.chaos.admin import EXPIRED, REQUESTS, Admin
from bench.chaos.cluster import cluster
from bench.chaos.nodes import ForgetfulNode
from bench.chaos.pipelines import WORK
from bench.chaos.place import Place
from bench.chaos.proxy import HEADER, Frame, Link
from bench.chaos.services import Consumer, Resources
from bench.chaos.work import Records

WORKERS = {"ada": 1, "bob": 2}
"""The consumers, with their MAX_CONCURRENT."""
READY_S = 60.0
RESTART_AFTER_S = 0.3
"""Before a consumer that ended is started again, as its supervisor would."""
QUIET_S = 20.0
STALL_S = 10.0


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the services hold when nothing is under way."""

    resources: dict[str, Resources]
    channels: dict[str, int]


class House:
    """A node, its links and its consumers. Use `open_house`."""

    def __init__(
        self,
        folder: Path,
        node: ForgetfulNode,
        settings: dict[str, object],
        *,
        stall_s: float = STALL_S,
        survivor: ForgetfulNode | None = None,
    ) -> None:
        self.folder = folder
        self.stall_s = stall_s
        self._settings = settings
        self.node = node
        """Where the links lead."""
        self.survivor = survivor or node
        """Where the bench itself looks: another node, if that one is to be killed."""
        self.admin = Admin(
            self.survivor.management_url("admin"), self.survivor.amqp_url("admin")
        )
        self.client_link = Link(node.amqp_port)
        self.places = {
            name: Place(name, Link(node.amqp_port), folder / name) for name in WORKERS
        }
        self.records = Records(place.folder / WORK for place in self.places.values())
        self.replies_seen: dict[str, set[str]] = {}
        self.client_link.watch = self._watch_client
        for place in self.places.values():
            place.link.watch = place.watch

    # ------------------------------------------------------------ what it is made of

    @property
    def links(self) -> list[Link]:
        """The links of the consumers."""
        return [place.link for place in self.places.values()]

    def wire_url(self, user: str = "chat-backend") -> str:
        """Return the URL that leads straight to the broker."""
        return self.survivor.amqp_url(user)

    def client_url(self) -> str:
        """Return the URL that leads there through the clients' link."""
        return self._through(self.client_link, "chat-backend")

    def _through(self, link: Link, user: str) -> str:
        return self.node.amqp_url(user).replace(f":{self.node.amqp_port}/", f":{link.port}/")

    def start(self, place: Place) -> None:
        """Start a consumer."""
        place.folder.mkdir(parents=True, exist_ok=True)
        place.served = Consumer(
            {
                "AMQP_URL": self._through(place.link, "imagegen-consumer"),
                "PORT": 0,
                "DATA_DIR": place.folder,
                "STORE_URL": f"sqlite:///{self.folder / 'jobs.sqlite'}",
                "MODEL": "scripted",
                "PIPELINE": "bench.chaos.pipelines:Chaotic",
                "WORKER_NAME": place.name,
                "LOG_FORMAT": "json",
                "MAX_CONCURRENT": WORKERS[place.name],
                **self._settings,
            },
            place.folder,
            self.stall_s,
        )

    def _watch_client(self, frame: Frame) -> None:
        """Book the replies that the client library is handed, by correlation id."""
        if frame.sender != "broker" or frame.kind != HEADER:
            return
        properties = pamqp_frame.unmarshal(frame.raw)[2].properties
        if properties.correlation_id and str(properties.message_type).startswith("imagegen."):
            self.replies_seen.setdefault(properties.correlation_id, set()).add(
                str(properties.message_id)
            )

    # ------------------------------------------------------------ whole again

    async def supervise(self) -> None:
        """Start consumers again that ended, for ever, as `control.sh` and containers do."""
        while True:
            for place in self.places.values():
                if place.served is not None and not place.served.running:
                    place.ended.append(place.served.process.returncode)
                    await asyncio.to_thread(place.served.drop)
                    await asyncio.sleep(RESTART_AFTER_S)
                    self.start(place)
            await asyncio.sleep(0.05)

    async def ready(self) -> None:
        """Heal what the last row left, and return when both consumers wait before empty queues.

        Raises:
            RuntimeError: if that takes longer than a minute.
        """
        for link in (self.client_link, *self.links):
            link.heal()
        await asyncio.to_thread(self.node.ensure_running)
        for place in self.places.values():
            if place.served is None:
                self.start(place)
        if not await self._all_working():
            told = {name: await self._health(place) for name, place in self.places.items()}
            raise RuntimeError(f"not ready within {READY_S:g} s: {told}")
        await self.admin.purge()
        self.records.new()
        for place in self.places.values():
            place.ended.clear()
            place.deliveries.clear()
        self.replies_seen.clear()

    async def renew(self) -> None:
        """Start both consumers afresh, when they do not come back by themselves."""
        for place in self.places.values():
            if place.served is not None:
                await asyncio.to_thread(place.served.drop)
                self.start(place)

    async def _all_working(self) -> bool:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            pages = [await self._health(place) for place in self.places.values()]
            told = (await self.admin.counts()).get(REQUESTS)
            consumers = told.consumers if told else 0
            if all(page.get("ready") for page in pages) and consumers == len(self.places):
                return True
            await asyncio.sleep(0.05)
        return False

    async def _health(self, place: Place) -> dict[str, Any]:
        """Return its health page; nothing while it has none."""
        served = place.served
        if served is None or not served.running or place.paused:
            return {}
        listening = [record for record in served.records if record["event"] == "http_listening"]
        if not listening:
            return {}
        try:
            return await asyncio.to_thread(served.health)
        except (OSError, json.JSONDecodeError):
            return {}

    async def quiet(self) -> bool:
        """Return once nothing is queued, handed out or in hand; False if it takes too long."""
        end = time.monotonic() + QUIET_S
        while time.monotonic() < end:
            pages = [await self._health(place) for place in self.places.values()]
            idle = all(page.get("ready") and page["work"]["in_hand"] == 0 for page in pages)
            if idle and not any(place.unsettled for place in self.places.values()):
                counts = await self.admin.counts()
                if counts and not counts[REQUESTS].ready and not counts[EXPIRED].ready:
                    return True
            await asyncio.sleep(0.05)
        return False

    # ------------------------------------------------------------ figures

    async def holdings(self) -> Holdings:
        """Return what the consumers hold."""
        resources, channels = {}, {}
        for name, place in self.places.items():
            resources[name] = await asyncio.to_thread(place.alive.resources)
            channels[name] = place.link.channels
        return Holdings(resources, channels)

    def first_delivery(self, since: float) -> float | None:
        """Return the loop's time of the first request handed out since a moment of it."""
        times = [at for place in self.places.values() for at, _ in place.deliveries]
        return min((at for at in times if at >= since), default=None)


@contextlib.asynccontextmanager
async def open_house(
    folder: Path, *, stall_s: float = STALL_S, **settings: object
) -> AsyncIterator[House]:
    """Start a node, links and consumers, and leave nothing of them behind."""
    node = ForgetfulNode(folder / "rabbitmq")
    try:
        await asyncio.to_thread(node.ensure_running)
        async with _lived_in(House(folder, node, settings, stall_s=stall_s)) as house:
            yield house
    finally:
        await asyncio.to_thread(node.kill)


@contextlib.asynccontextmanager
async def open_cluster_house(folder: Path, **settings: object) -> AsyncIterator[House]:
    """Start the same before a cluster of three; the links lead to the first, that may be killed."""
    with contextlib.ExitStack() as stack:
        started = cluster(folder / "rabbitmq")
        nodes = await asyncio.to_thread(stack.enter_context, started)
        async with _lived_in(House(folder, nodes[0], settings, survivor=nodes[1])) as house:
            yield house


@contextlib.asynccontextmanager
async def _lived_in(house: House) -> AsyncIterator[House]:
    async with contextlib.AsyncExitStack() as stack:
        for link in (house.client_link, *house.links):
            await stack.enter_async_context(link)
        supervisor = asyncio.get_running_loop().create_task(house.supervise())
        try:
            await house.ready()
            yield house
        finally:
            supervisor.cancel()
            await asyncio.wait({supervisor})
            for place in house.places.values():
                if place.served is not None:
                    await asyncio.to_thread(place.served.drop)
