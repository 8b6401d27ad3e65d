"""One PostgreSQL server for the whole run, a fresh database in it for each test."""

import logging
import secrets
from collections.abc import Iterator

import psycopg
import pytest

from tests.service.postgres import running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    yield from running_postgres()


@pytest.fixture
def postgres_database(postgres: str) -> str:
    return new_database(postgres)


def new_database(postgres: str) -> str:
    """Make a fresh database and return its address."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.replace("/postgres?", f"/{name}?")


@pytest.fixture(autouse=True)
def _log_lines_are_written() -> None:
    """The probe's program, which other tests run in this process, quiets logging for good."""
    logging.disable(logging.NOTSET)
