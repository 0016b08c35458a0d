"""Metrics in Prometheus' form, prefix `adapter_`, base units in the names. One registry per process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import ClassVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from engine.book import Book
from engine.broker import AccountFact
from engine.events import Event, Kind
from engine.order import Order, State

_ENDS = frozenset({Kind.ORDER_CANCELLED, Kind.ORDER_REJECTED, Kind.ORDER_EXPIRED})

_LATENCY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_PHASE = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
CONTENT_TYPE = "text/plain; version=0.0.4"


class Metrics:
    """What this process counts. `observe_*` are called where things happen, gauges are read when somebody asks."""

    def __init__(self, book: Book) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._book = book
        self._orders = Counter("adapter_orders", "Orders accepted into the ledger.", ["side"], registry=self.registry)
        self._ended = Counter("adapter_orders_ended", "Orders that ended, by state.", ["state"], registry=self.registry)
        self._executions = Counter("adapter_executions", "Executions booked.", ["side"], registry=self.registry)
        self._http = Histogram(
            "adapter_http_request_seconds", "Time to answer a request.", ["method", "path", "status"],
            registry=self.registry, buckets=_LATENCY,
        )  # fmt: skip
        self._acknowledged = Histogram(
            "adapter_order_acknowledged_seconds", "From durable to the broker's first evidence.",
            registry=self.registry, buckets=_LATENCY,
        )  # fmt: skip
        self._takeovers = Counter("adapter_takeovers", "Terms that led here.", ["kind"], registry=self.registry)
        self._phases = Histogram(
            "adapter_takeover_phase_seconds", "What each phase of a takeover cost; `total` is all of them.", ["phase"],
            registry=self.registry, buckets=_PHASE,
        )  # fmt: skip
        for name, text, read in (
            ("adapter_ledger_seq", "The last event of the log that this replica has folded.", lambda: book.seq),
            ("adapter_orders_open", "Orders that have not ended.", lambda: len(book.open_ids)),
            ("adapter_orders_in_memory", "Orders in memory; older ones are in the database.", lambda: len(book.orders)),
            ("adapter_orders_queued", "Orders behind the gate.", lambda: len(book.queued)),
            ("adapter_breaks_open", "Differences that wait for a person.", lambda: len(book.open_breaks)),
            (
                "adapter_positions",
                "Positions that are not flat.",
                lambda: sum(1 for p in book.positions.values() if p.quantity),
            ),
        ):
            self.gauge(name, text, read)
        self._http_children: dict[tuple[str, str, int], Histogram] = {}
        book.observers.append(self._applied)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when somebody asks."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def figures(self, read: Callable[[], Iterable[AccountFact]]) -> None:
        """What the broker last said of its accounts, read when somebody asks; no series for what is not known."""
        self.registry.register(_Figures(read))

    def observe_http(self, method: str, path: str, status: int, seconds: float) -> None:
        """One answered request; `path` is the route's pattern, so that label values are bounded."""
        key = method, path, status  # as bounded as the label values are
        if (child := self._http_children.get(key)) is None:
            child = self._http_children[key] = self._http.labels(method, path, str(status))
        child.observe(seconds)

    def took_over(self, kind: str, milliseconds: Mapping[str, float | int | None]) -> None:
        """A term began to lead; `milliseconds`: its phases by their names in the history, `detect_ms` and so on."""
        self._takeovers.labels(kind).inc()
        for name, value in milliseconds.items():
            if name.endswith("_ms") and value is not None:
                self._phases.labels(name.removesuffix("_ms")).observe(value / 1000)

    def _applied(self, event: Event) -> None:
        if event.kind == Kind.ORDER_ACCEPTED:
            self._orders.labels(event.payload["side"]).inc()
        elif event.kind == Kind.EXECUTION:
            self._executions.labels(event.payload["side"]).inc()
        elif event.kind == Kind.ORDER_WORKING and event.order_id is not None:
            order = self._book.orders[event.order_id]
            self._acknowledged.observe(max(0.0, (event.at - order.created_at).total_seconds()))
        if (ended := self._book.orders.get(event.order_id or "")) is not None and _ends(event, ended):
            self._ended.labels(ended.state.value).inc()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)


class _Figures(Collector):
    """Account figures, by account and currency."""

    NAMES: ClassVar = {
        "adapter_net_liquidation": ("net_liquidation", "Net liquidation value, as the broker last said."),
        "adapter_account_balance": ("cash", "Cash, as the broker last said."),
        "adapter_buying_power": ("buying_power", "Buying power, as the broker last said."),
        "adapter_maintenance_margin": ("maintenance_margin", "Maintenance margin, as the broker last said."),
    }  # fmt: skip

    def __init__(self, read: Callable[[], Iterable[AccountFact]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """One family per figure."""
        for name, (figure, text) in self.NAMES.items():
            family = GaugeMetricFamily(name, text, labels=["account", "currency"])
            for fact in self._read():
                if (value := getattr(fact, figure)) is not None:
                    family.add_metric([fact.account, fact.currency], float(value))
            yield family


def _ends(event: Event, order: Order) -> bool:
    """Whether it was this event that ended the order: a commission or a correction after the end ends nothing."""
    if event.kind != Kind.EXECUTION:
        return event.kind in _ENDS
    completes = order.filled - Decimal(event.payload["quantity"]) < order.quantity
    return order.state is State.FILLED and completes and event.payload.get("revision", 1) == 1
