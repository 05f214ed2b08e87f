"""The store on a real PostgreSQL: the promises of the file, and what a server does to it."""

import asyncio
from datetime import datetime, timedelta

import pytest

from consumer.job import Succeeded
from consumer.store import Elsewhere, Finished, Store, StoreLostError, database
from tests.storing import picture
from tests.test_store import *  # noqa: F403 - the very same tests
from tests.test_store import NEW, begin, done


@pytest.fixture
def url(postgres):
    with postgres.database() as url:
        yield url


async def test_results_survive_a_killed_server(store, postgres):
    """A server that is killed is a lost store until it is back; then the same store goes on."""
    await done(store, picture())
    await begin(store, job_id="job-2")
    postgres.kill()
    for _ in range(2):
        with pytest.raises(StoreLostError):
            await begin(store)
    postgres.start()
    assert isinstance((await begin(store)).outcome, Succeeded)
    assert await store.finish("job-2", picture())


async def test_a_server_that_restarted_meanwhile_goes_unnoticed(store, postgres):
    """A connection that died between two operations costs nothing."""
    await done(store, picture())
    postgres.kill()
    postgres.start()
    assert isinstance(await begin(store), Finished)


async def test_a_service_may_start_before_its_server(url, postgres):
    """Opening says that the server is away, and may be tried again."""
    store = Store(url, "owner")
    postgres.kill()
    with pytest.raises(StoreLostError):
        await store.open()
    postgres.start()
    await store.open()
    assert await begin(store) == NEW
    await store.close()


async def test_a_server_that_hangs_is_lost(store, postgres):
    """A server that answers nothing holds nobody up for ever, on an old connection or a new one."""
    await begin(store)
    postgres.freeze()
    try:
        for _ in range(2):
            with pytest.raises(StoreLostError):
                await store.finish("job-1", picture())
    finally:
        postgres.thaw()
    assert await store.finish("job-1", picture())


async def test_a_row_that_somebody_locks_is_lost(store, postgres, url):
    """A lock that is not given back ends as a lost store, and the store goes on after it."""
    await begin(store)
    with postgres.connect(url) as connection, connection.transaction():
        connection.execute("SELECT * FROM jobs FOR UPDATE")
        with pytest.raises(StoreLostError, match="timeout"):
            await store.finish("job-1", picture())
    assert await store.finish("job-1", picture())


async def test_a_server_that_takes_no_writes_is_lost(store, postgres, url):
    """A standby, or a server set read-only, is no store."""
    await begin(store)
    name = url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgres.end_sessions(name)
    with pytest.raises(StoreLostError, match="read-only"):
        await store.probe()
    postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await store.probe()


async def test_tables_that_went_are_made_again(store, postgres, url):
    """A server that was set up anew under an open store serves it."""
    name = url.rpartition("/")[2]
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
    with pytest.raises(StoreLostError):
        await begin(store)
    postgres.execute(f"CREATE DATABASE {name}")
    assert await begin(store) == NEW


async def test_a_lost_answer_is_no_lost_end(store, postgres, url):
    """An end that was broken off is not there, and may be written again."""
    await begin(store)
    with postgres.connect(url) as blocker, blocker.transaction():
        blocker.execute("SELECT * FROM jobs FOR UPDATE")
        async with asyncio.TaskGroup() as tasks:
            finishing = tasks.create_task(_lost(store.finish("job-1", picture())))
            await asyncio.to_thread(postgres.end_a_waiting_session)
        assert finishing.result()
    assert await store.finish("job-1", picture())


async def _lost(operation):
    try:
        await operation
    except StoreLostError:
        return True
    return False


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
async def test_the_url_needs_no_driver(url, scheme):
    """Both ways to write it mean the same, and what else it says is kept."""
    store = Store(f"{url.replace('postgresql', scheme)}?application_name=x", "owner")
    await store.open()
    assert await begin(store) == NEW
    await store.close()


async def test_machines_need_not_agree_on_the_time(store, other, monkeypatch):
    """A lease is counted by the server: a consumer whose own clock runs ahead waits too."""
    await begin(store)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz=tz) + timedelta(days=1)

    monkeypatch.setattr(database, "datetime", Ahead)
    assert isinstance(await begin(other, redelivered=True), Elsewhere)
