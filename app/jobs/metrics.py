"""What Prometheus is told: requests as they are answered, probes as the database has them when asked."""

import time
from collections.abc import Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.db.database import Database
from app.db.models import Probe
from app.jobs.dispatch.roster import seen_workers
from app.jobs.states import STATES

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# A plan takes about a millisecond and a page some ten.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_ERROR_FRACTIONS = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)


class Service(Protocol):
    """What a scrape reads."""

    database: Database

    @property
    def leads(self) -> bool:
        """Whether this replica dispatches."""
        ...


class Metrics:
    """The metrics of one server process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "fitproof_requests", "Requests answered.", ("route", "method", "status"), registry=self._registry
        )
        name, help_text = "fitproof_request_seconds", "Time until an answer begins."
        self.seconds = Histogram(name, help_text, ("route",), buckets=_SECONDS, registry=self._registry)

    def render(self, service: Service) -> bytes:
        """Write everything in Prometheus' text format.

        Raises:
            StorageUnavailableError: the database cannot be asked.
        """
        probes = CollectorRegistry(auto_describe=False)
        probes.register(_Snapshot(service))
        return generate_latest(self._registry) + generate_latest(probes)


class RequestMetrics:
    """Counts and times every request under its route's template, never under its path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, seconds = time.perf_counter(), 500, 0.0

        async def send_and_look(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                # Until the answer begins: an event stream goes on for minutes.
                status, seconds = message["status"], time.perf_counter() - started
            await send(message)

        try:
            await self.app(scope, receive, send_and_look)
        finally:
            route = _template(scope)
            self.metrics.requests.labels(route, scope["method"], status).inc()
            self.metrics.seconds.labels(route).observe(seconds)


def _template(scope: Scope) -> str:
    """`/api/v1/probes/{probe_id}`. A path that no route took is "none", so that strangers cannot invent series.

    Written from the path itself: a route of an included router does not know its prefix.
    """
    if "route" not in scope:
        return "none"
    template = str(scope["path"])
    for name, value in scope.get("path_params", {}).items():
        template = template.replace(f"/{value}", f"/{{{name}}}", 1)
    return template


class _Snapshot(Collector):
    """The database's part, read once per scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        with self._service.database.reading() as session:
            yield from (_by_state(session), _outcomes(session), _queue_age(session), _errors(session))
        slots = GaugeMetricFamily("fitproof_worker_slots", "Slots of attached workers.", labels=["worker", "engine"])
        busy = GaugeMetricFamily("fitproof_worker_busy", "Slots taken.", labels=["worker", "engine"])
        for seen in seen_workers(self._service.database):
            labels = [seen.worker.id, seen.worker.engine]
            slots.add_metric(labels, seen.worker.slots)
            busy.add_metric(labels, seen.busy)
        yield from (slots, busy)
        yield GaugeMetricFamily("fitproof_dispatches", "1 on the replica that dispatches.", value=self._service.leads)


def _by_state(session: Session) -> Metric:
    family = GaugeMetricFamily("fitproof_probes", "Probes by state.", labels=["state"])
    query = select(Probe.state, func.count()).group_by(Probe.state)
    counted = {row[0]: row[1] for row in session.execute(query)}
    for state, count in ({str(state): 0 for state in STATES} | counted).items():
        family.add_metric([state], count)
    return family


def _outcomes(session: Session) -> Metric:
    family = GaugeMetricFamily("fitproof_probe_outcomes", "Answers of probes.", labels=["instrument", "outcome"])
    query = select(Probe.instrument, Probe.outcome, func.count()).where(Probe.outcome.is_not(None))
    for instrument, outcome, count in session.execute(query.group_by(Probe.instrument, Probe.outcome)):
        family.add_metric([str(instrument), str(outcome)], count)
    return family


def _queue_age(session: Session) -> Metric:
    oldest = session.execute(select(func.min(Probe.created_at)).where(Probe.state == "queued")).scalar_one()
    age_seconds = max(0.0, time.time() - oldest) if oldest is not None else 0.0
    return GaugeMetricFamily("fitproof_queue_age_seconds", "Age of the oldest waiting probe.", value=age_seconds)


def _errors(session: Session) -> Metric:
    # A gauge: old probes are removed, and a counter never falls.
    name, help_text = "fitproof_prediction_error_fraction", "Formula against measured peak of the probes kept."
    family = GaugeHistogramMetricFamily(name, help_text, labels=["instrument"])
    size = func.abs(Probe.prediction_error)
    within = [func.sum(case((size <= bound, 1), else_=0)) for bound in _ERROR_FRACTIONS]
    query = select(Probe.instrument, func.count(), func.sum(size), *within).where(Probe.prediction_error.is_not(None))
    for instrument, count, total, *counts in session.execute(query.group_by(Probe.instrument)):
        buckets = [(str(bound), float(n)) for bound, n in zip(_ERROR_FRACTIONS, counts, strict=True)]
        buckets.append(("+Inf", float(count)))
        family.add_metric([str(instrument)], buckets, float(total))
    return family
