"""The life of a job in a store on a real PostgreSQL: the promises of the file."""

import pytest

from tests.test_store_life import *  # noqa: F403 - the very same tests


@pytest.fixture
def url(postgres):
    with postgres.database() as url:
        yield url
