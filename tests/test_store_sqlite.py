"""The store on a file: who lives, who is stopped, and what happens to the file under it."""

import os
import signal
import sqlite3

import psutil
import pytest

from consumer.errors import StartRefusedError
from consumer.store import Elsewhere, Started, Store, StoreLostError
from consumer.store.owners import Owners
from tests import test_store as promises
from tests.store_child import Child
from tests.storing import picture
from tests.test_store import NEW, begin, done

clock, open_store, store = promises.clock, promises.open_store, promises.store


@pytest.fixture
def file(tmp_path):
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def url(file):
    return f"sqlite:///{file}"


@pytest.fixture
def child(url):
    """Start processes with a store of their own."""
    children = []

    def start(owner):
        children.append(Child(url, owner))
        return children[-1]

    yield start
    for one in children:
        one.end()


# ---------------------------------------------------------------- who lives


async def test_a_killed_owner_is_not_waited_for(store, child):
    """What a kill of its service left running is taken over at once, its lease notwithstanding."""
    dead = child("dead")
    assert dead.ask("begin job-1") == "Started"
    assert isinstance(await begin(store, redelivered=True), Elsewhere)
    dead.end()
    assert await begin(store, redelivered=True) == Started(attempt=2, deaths=0)


async def test_a_stopped_owner_has_its_lease(store, clock, child):
    """A process that is stopped is no dead one: its job is taken over when its lease ends."""
    stopped = child("stopped")
    stopped.ask("begin job-1")
    stopped.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, stopped.process.pid, os.WSTOPPED)  # noqa: ASYNC222 - at once
    begun = await begin(store, redelivered=True)
    assert begun.owner == "stopped"
    clock.passes(begun.left_s)
    assert await begin(store, redelivered=True) == Started(attempt=2, deaths=0)
    stopped.process.send_signal(signal.SIGCONT)
    assert stopped.ask("finish job-1 10") == "False"


async def test_a_closed_owner_leaves_its_jobs(open_store):
    """A service that stopped in order is as gone as one that was killed."""
    first, second = await open_store(), await open_store()
    await begin(first)
    await first.close()
    assert await begin(second, redelivered=True) == Started(attempt=2, deaths=0)


async def test_a_picture_of_a_dead_heir_is_ours_to_end(store, clock, child):
    """Who lost a job to somebody who died then may still hand in its picture."""
    await begin(store)
    heir = Store(store._database._kind.engine.url.render_as_string(), "heir", clock=clock)
    await heir.open()
    clock.passes(12)
    await begin(heir, redelivered=True)
    await heir.close()
    assert await store.finish("job-1", picture())


async def test_a_lost_proof_of_life_is_mended(open_store, file):
    """Who removes our file makes us look dead until the next renewal, not for ever."""
    ours, theirs = await open_store("ours"), await open_store("theirs")
    await begin(ours)
    (file.parent / "jobs.sqlite.owners" / "ours").unlink()
    await ours.renew()
    assert isinstance(await begin(theirs, redelivered=True), Elsewhere)


async def test_the_dead_leave_no_files(open_store, child, file):
    """The proofs of killed services are swept away by the next one."""
    folder = file.parent / "jobs.sqlite.owners"
    child("dead").end()
    living = await open_store("living")
    assert [path.name for path in folder.iterdir()] == ["living"]
    await living.close()
    assert not list(folder.iterdir())


def test_an_owners_name_is_no_path(tmp_path):
    """Whatever a service is called, its file stays in the folder."""
    one = Owners(tmp_path / "owners", "../../x:1/ä")
    other = Owners(tmp_path / "owners", "other")
    one.hold()
    one.hold()
    assert other.alive("../../x:1/ä")
    assert [path.parent for path in tmp_path.rglob("*x*")] == [tmp_path / "owners"]
    other.hold()
    other.sweep()
    assert other.alive("../../x:1/ä")
    one.release()
    one.release()
    assert not other.alive("../../x:1/ä")
    other.release()


# ---------------------------------------------------------------- what happens to the file


async def test_two_processes_share_the_file(store, child):
    """Work of one is seen by the other at once; neither locks the other out."""
    neighbour = child("neighbour")
    for number in range(10):
        neighbour.send(f"begin theirs-{number}")
        neighbour.send(f"finish theirs-{number} 100000")
        await done(store, picture(), job_id=f"ours-{number}")
        assert (neighbour.heard(), neighbour.heard()) == ("Started", "True")
    assert neighbour.ask("begin ours-9") == "Finished"
    begun = await begin(store, job_id="theirs-9")
    assert begun.outcome.image == b"x" * 100_000


async def test_a_full_disk_is_a_lost_store(child):
    """Neither a picture nor a probe finds room; nothing is half written, and room mends it."""
    starved = child("starved")
    starved.ask("begin job-1")
    starved.ask("probe")
    psutil.Process(starved.process.pid).rlimit(psutil.RLIMIT_FSIZE, (4096, -1))
    assert starved.ask("finish job-1 1000000").startswith("lost: ")
    assert starved.ask("probe").startswith("lost: ")
    psutil.Process(starved.process.pid).rlimit(psutil.RLIMIT_FSIZE, (-1, -1))
    assert starved.ask("probe") == "None"
    assert starved.ask("finish job-1 1000000") == "True"


async def test_a_probe_starts_an_empty_log(store, file):
    """An old log would have room for a probe although the disk has none."""
    await done(store, picture(image=bytes(1_000_000)))
    log = file.with_name("jobs.sqlite-wal")
    assert log.stat().st_size > 1_000_000
    await store.probe()
    assert 0 < log.stat().st_size < 100_000


async def test_a_file_without_room_is_a_lost_store(store):
    """SQLite's own word for a full disk."""
    await begin(store)
    limit = "PRAGMA max_page_count = 1"
    await store._database.transaction(
        lambda connection: connection.exec_driver_sql(limit).all()
    )
    with pytest.raises(StoreLostError, match="full"):
        await store.finish("job-1", picture(image=bytes(1_000_000)))
    assert await store.finish("job-1", picture(image=bytes(1_000_000)))


async def test_a_locked_file_is_a_lost_store(store, file):
    """A writer that does not end is waited for, then told of; after it all goes on."""
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLostError, match="locked"):
        await begin(store)
    writer.close()
    assert await begin(store) == NEW


async def test_a_deleted_file_is_noticed(open_store, file):
    """What nobody could read later is not written: the store is lost once, then begins anew."""
    ours, theirs = await open_store("ours"), await open_store("theirs")
    await done(ours, picture())
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink()
    for one in (ours, theirs):
        with pytest.raises(StoreLostError, match="deleted"):
            await begin(one)
    assert await begin(ours) == NEW
    assert isinstance(await begin(theirs), Elsewhere)


async def test_a_deleted_folder_is_made_again(open_store, file, tmp_path):
    """The same, with all that stood beside the file."""
    url = f"sqlite:///{tmp_path / 'folder' / 'jobs.sqlite'}"
    one = Store(url, "one")
    await one.open()
    await done(one, picture())
    (tmp_path / "folder").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreLostError):
        await begin(one)
    assert await begin(one) == NEW
    await one.close()


@pytest.mark.parametrize(
    "content", [b"this is no database" * 1000, None], ids=["text", "folder"]
)
async def test_what_is_no_database_is_a_lost_store(url, file, content):
    """A file that SQLite cannot read is told of like one that is not there."""
    if content:
        file.write_bytes(content)
    else:
        file.mkdir()
    one = Store(url, "one")
    with pytest.raises(StoreLostError):
        await one.open()
    await one.close()


async def test_a_damaged_file_is_a_lost_store(url, file):
    """Garbage in the middle of the file is noticed as what it is."""
    first = Store(url, "first")
    await first.open()
    await done(first, picture(image=bytes(100_000)))
    await first.close()
    with file.open("r+b") as pages:
        pages.seek(4096)
        pages.write(b"\xff" * (file.stat().st_size - 4096))
    second = Store(url, "second")
    with pytest.raises(StoreLostError):
        await begin(second)
    await second.close()


async def test_a_wrong_statement_is_no_lost_store(store):
    """A defect of ours keeps its name."""
    with pytest.raises(Exception, match="no such column") as caught:
        await store._database.transaction(
            lambda connection: connection.exec_driver_sql("SELECT nonsense FROM jobs")
        )
    assert not isinstance(caught.value, StoreLostError)


# ---------------------------------------------------------------- room


async def test_the_file_does_not_grow_for_ever(store, file):
    """Twenty times the room is drawn: file and log stay at the room, a round and 4 MiB of log."""
    room = 1_000_000
    sizes = []
    for round_ in range(20):
        for number in range(10):
            job_id = f"job-{round_}-{number}"
            await done(store, picture(image=os.urandom(100_000)), job_id=job_id)
        await store.prune(ttl_s=3600, max_bytes=room)
        sizes.append(_size(file))
    assert await _kept(store) <= room
    assert max(sizes) < 8 * room
    await store.prune(ttl_s=3600, max_bytes=0)
    await store.probe()
    assert _size(file) < room / 2


def _size(file):
    return sum(
        path.stat().st_size for path in file.parent.glob("jobs.sqlite*") if path.is_file()
    )


async def _kept(store):
    sql = "SELECT sum(length(data)) FROM images"
    return await store._database.transaction(
        lambda connection: connection.exec_driver_sql(sql).scalar()
    )


# ---------------------------------------------------------------- the URL


@pytest.mark.parametrize(
    "url", ["mysql://host/jobs", "sqlite://", "sqlite:///:memory:", "jobs"]
)
def test_what_is_no_store_is_refused(url):
    """A typo, or a database that forgets, is told before anything starts; no password with it."""
    with pytest.raises(StartRefusedError, match="names no database"):
        Store(url, "owner")
