"""The attention of the HTTP face: it listens to the jobs that somebody looks at, and lets them go."""

import asyncio

import pytest

from consumer.http import attention as module
from consumer.http.attention import Attention

PATIENCE_S = 30


class Told:
    """Stands in the client's place."""

    def __init__(self):
        self.followed = set()
        self.news = asyncio.Condition()

    async def follow(self, job_id):
        async with self.news:
            self.followed.add(job_id)
            self.news.notify_all()

    async def unfollow(self, job_id):
        async with self.news:
            self.followed.remove(job_id)
            self.news.notify_all()

    async def until(self, *job_ids):
        """Return once exactly these are followed."""
        async with asyncio.timeout(PATIENCE_S), self.news:
            await self.news.wait_for(lambda: self.followed == set(job_ids))


@pytest.fixture
async def told():
    return Told()


@pytest.fixture
async def attention(told):
    attention = Attention(told.follow, told.unfollow)
    async with asyncio.TaskGroup() as tasks:
        tending = tasks.create_task(attention.tend())
        yield attention
        tending.cancel()


async def test_what_is_looked_at_is_followed_at_once(attention, told):
    """Looking twice follows once; another job is followed beside it."""
    attention.attend("a")
    attention.attend("a")
    await told.until("a")
    attention.attend("b")
    await told.until("a", "b")


async def test_what_nobody_looks_at_any_more_is_let_go(attention, told, monkeypatch):
    """After a while, and followed anew with the next look."""
    monkeypatch.setattr(module, "LINGER_S", 0.2)
    monkeypatch.setattr(module, "TEND_EVERY_S", 0.05)
    for _ in range(2):
        attention.attend("a")
        await told.until("a")
        await told.until()


async def test_there_is_an_end_to_what_is_followed(attention, told, monkeypatch):
    """Of too many, those are let go that were not looked at for longest."""
    monkeypatch.setattr(module, "ATTENDED_MOST", 2)
    monkeypatch.setattr(module, "TEND_EVERY_S", 0.05)
    for job_id, followed in (("a", "a"), ("b", "ab"), ("a", "ab"), ("c", "ac")):
        attention.attend(job_id)
        await told.until(*followed)
