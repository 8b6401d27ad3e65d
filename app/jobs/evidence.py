"""Measurements this installation keeps: its own and those that people share, as JSON lines."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import strictjson
from app.db.database import Database
from app.db.models import Evidence
from app.jobs.order import digest_of, fingerprint_of
from app.reading import reading
from planner.errors import FieldProblem, FitproofError, InvalidRequestError
from planner.measurement import Measurement
from planner.request.schema import Request
from planner.request.validation.messages import MOST_PROBLEMS, field_problems

_PAGE = 500


@dataclass(frozen=True, slots=True)
class ImportResult:
    """How many records were new, and how many were already here."""

    added: int
    known: int


@dataclass(frozen=True, slots=True)
class CardReading:
    """What a card told torch about itself the last time it was measured here."""

    device_name: str
    total_memory_bytes: int | None
    context_bytes: int | None


def keep(session: Session, measurement: Measurement, origin: str, at: float, fingerprint: str | None = None) -> bool:
    """Add one record; False if the same one is here already.

    `fingerprint` is the request's as its sender wrote it; the measurement may hold a hub model's whole config.
    """
    document = measurement.model_dump(mode="json")
    digest = digest_of(document)
    if session.get(Evidence, digest) is not None:
        return False
    session.add(
        Evidence(
            digest=digest,
            origin=origin,
            instrument=measurement.instrument,
            fingerprint=fingerprint or fingerprint_of(Request.parse(measurement.request)),
            device_name=measurement.device.name,
            measurement=document,
            created_at=at,
        )
    )
    session.flush()
    return True


def export_lines(database: Database) -> Iterator[str]:
    """Every record as one JSON line, oldest first, read page by page."""
    at, digest = 0.0, ""
    while True:
        query = (
            select(Evidence)
            .where((Evidence.created_at > at) | ((Evidence.created_at == at) & (Evidence.digest > digest)))
            .order_by(Evidence.created_at, Evidence.digest)
            .limit(_PAGE)
        )
        with database.reading() as session:
            page = session.execute(query).scalars().all()
        for record in page:
            yield json.dumps(record.measurement, sort_keys=True) + "\n"
        if len(page) < _PAGE:
            return
        at, digest = page[-1].created_at, page[-1].digest


def import_lines(database: Database, text: str, origin: str) -> ImportResult:
    """Add every record of `text`, or none of them if one is wrong.

    Raises:
        InvalidRequestError: names every bad line.
    """
    measurements = _parse_lines(text.splitlines())
    now = time.time()
    with database.writing() as session:
        added = sum(keep(session, measurement, origin, now) for measurement in measurements)
    return ImportResult(added, len(measurements) - added)


def measurements_by_fingerprint(database: Database, fingerprint: str, limit: int = 20) -> list[Measurement]:
    """What was measured for exactly one request, newest first: the page shows it beside the prediction."""
    query = (
        select(Evidence.measurement)
        .where(Evidence.fingerprint == fingerprint)
        .order_by(Evidence.created_at.desc())
        .limit(limit)
    )
    with database.reading() as session:
        return [Measurement.model_validate(document) for document in session.execute(query).scalars()]


def cuda_measurements(database: Database) -> list[Measurement]:
    """Every measurement of a real card: the accuracy page and the bands stand on them."""
    query = select(Evidence.measurement).where(Evidence.instrument == "cuda").order_by(Evidence.created_at)
    with database.reading() as session:
        return [Measurement.model_validate(document) for document in session.execute(query).scalars()]


def cuda_version(database: Database) -> tuple[int, float]:
    """Changes whenever `cuda_measurements` does: how many there are, and when the newest was kept."""
    query = select(func.count(), func.max(Evidence.created_at)).where(Evidence.instrument == "cuda")
    with database.reading() as session:
        count, newest = session.execute(query).one()
    return int(count), float(newest or 0.0)


def last_reading(database: Database, device_name: str) -> CardReading | None:
    """Return the newest reading of a card under the name it gives itself."""
    query = (
        select(Evidence.measurement)
        .where(Evidence.instrument == "cuda", Evidence.device_name == device_name)
        .order_by(Evidence.created_at.desc())
        .limit(1)
    )
    with database.reading() as session:
        document = session.execute(query).scalar_one_or_none()
    if document is None:
        return None
    measurement = Measurement.model_validate(document)
    return CardReading(device_name, measurement.device.total_memory_bytes, measurement.context_bytes)


def _parse_lines(lines: Iterable[str]) -> list[Measurement]:
    measurements: list[Measurement] = []
    problems: list[FieldProblem] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            with reading("a measurement"):
                measurements.append(_measurement(line))
        except strictjson.InvalidJsonError as error:
            fix = f"{error.problems[0].message}; write one Measurement on each line"
            problems.append(FieldProblem(f"line {number}", fix))
        except FitproofError as error:
            problems += [_at_line(number, problem) for problem in error.problems]
        if len(problems) >= MOST_PROBLEMS:
            break
    if problems:
        raise InvalidRequestError("The records cannot be imported; none was.", problems[:MOST_PROBLEMS])
    return measurements


def _measurement(line: str) -> Measurement:
    try:
        measurement = Measurement.model_validate(strictjson.loads(line.encode("utf-8", "surrogatepass")))
    except ValidationError as error:
        problems = field_problems(error.errors(include_url=False), root="record")
        raise InvalidRequestError("This is no measurement.", problems) from None
    Request.parse(measurement.request)
    return measurement


def _at_line(number: int, problem: FieldProblem) -> FieldProblem:
    return FieldProblem(f"line {number}: {problem.field}", problem.message)
