"""The fixture of the tests that need PostgreSQL."""

import pytest

from tests.postgres import Postgres


@pytest.fixture(scope="module")
def postgres():
    """One server for the tests of a file; who kills it starts it again."""
    server = Postgres()
    yield server
    server.end()
