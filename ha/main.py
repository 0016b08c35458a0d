"""The composition root: builds one replica from its settings and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from loguru import logger

from engine import api_paths, failpoint
from engine.account import Accounts
from engine.api import Api, Standing
from engine.archive import Archive
from engine.audit import Audit
from engine.book import Book
from engine.broker import Fact
from engine.broker_ib import IbBroker
from engine.clock import boottime, utcnow
from engine.event_stream import EventStream
from engine.http import PortBusy, Server
from engine.inbound import Inbound
from engine.metrics import Metrics
from engine.openapi import Description
from engine.permit import Permit
from engine.projection import Projector
from engine.store import Connection, StoreError, Unknown
from engine.submit import Desk
from ha import from_settings as given
from ha import paths
from ha.calendar import day_began
from ha.commands import Commands
from ha.config import Settings
from ha.health import Health
from ha.lease import LeaderRecord, LeasePort
from ha.link import PATH as PEER_PATH
from ha.log_keeper import LogKeeper
from ha.node import Node
from ha.operate import Operate, OperateRules
from ha.peers import Peers
from ha.preflight import known_of, preflight
from ha.resolve import Resolve
from ha.role import HAS_EPOCH
from ha.startup import NotFit, check_database
from ha.tail import Tail
from ha.takeover import Takeover
from ha.tend import Tender
from ha.watch import Watch
from ha.watchdog import Watchdog, interval_of
from reconcile.run import Reconciler


def run(settings: Settings, *, single: bool = False) -> int:
    """Run one replica; the exit code. 0 after SIGTERM or SIGINT, 1 when it could not start or met a defect.

    `single` = without a pair: no etcd, no other replica; all else is the same.
    """
    try:
        failpoint.arm(settings.failpoints)
        return asyncio.run(_run(settings, single=single))
    except (NotFit, PortBusy, ValueError, RuntimeError) as error:
        for sentence in str(error).splitlines():
            logger.error("{}", sentence)
        return 1


@dataclass(slots=True)
class _Replica:
    node: Node
    watch: Watch
    server: Server
    peers: Peers
    reader: Connection
    archive: Archive
    watchdog: Watchdog
    keeper: LogKeeper
    warnings: list[str]


async def _run(settings: Settings, *, single: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    replica = _build(settings, single=single)
    ports = dict.fromkeys(p for p in (settings.http_port, settings.metrics_port, settings.healthcheck_port) if p)
    await replica.server.start(settings.http_host, list(ports))
    replica.watchdog.start()
    try:
        if not await _database_is_ours(settings, stop, replica.warnings):
            return 0
        for sentence in replica.warnings:
            logger.warning("{}", sentence)
        await replica.node.start(unless=replica.peers.namesake)
        replica.watch.start()
        replica.peers.start()
        replica.keeper.start()
        logger.info(
            "replica {} of {} is up on {}{}",
            settings.replica_name,
            settings.cluster_name,
            settings.advertise_url,
            ", without a pair" if single else "",
        )
        replica.watchdog.ready()
        return await _until_stopped(replica.node, stop)
    finally:
        replica.watchdog.stopping()
        await replica.keeper.stop()
        await replica.peers.stop()
        await replica.watch.stop()
        await replica.node.stop()
        await replica.reader.close()
        await replica.archive.close()
        await replica.server.stop()
        await replica.watchdog.stop()


async def _until_stopped(node: Node, stop: asyncio.Event) -> int:
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.5)
        if (defect := node.failed()) is not None:
            node.end_term("a defect")
            logger.opt(exception=defect).critical(
                "a defect ended the replica's own work; the supervisor starts a new one"
            )
            return 1
    return 0


async def _database_is_ours(settings: Settings, stop: asyncio.Event, warnings: list[str]) -> bool:
    """Wait until PostgreSQL answers, then see that it is ours. False when told to stop. Raises NotFit with sentences.

    What is only a risk is added to `warnings`.
    """
    said = False
    while not stop.is_set():
        try:
            warnings += await check_database(settings)
        except Unknown as error:
            if not said:
                logger.warning("waiting for PostgreSQL: {}", error)
            said = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)
        except StoreError as error:
            raise NotFit(f"PostgreSQL refused the start's checks: {error}") from error
        else:
            return True
    return False


def _build(settings: Settings, *, single: bool) -> _Replica:
    assert settings.database_dsn is not None
    assert settings.replica_name is not None
    url = settings.database_dsn
    me = LeaderRecord(
        settings.replica_name, uuid.uuid4().hex, settings.advertise_url, version=version("platform-adapter")
    )
    book, permit = Book(), Permit(settings.proof_max_age)
    archive = Archive(book, Connection(url, f"adapter-archive:{me.name}"))
    metrics = Metrics(book)
    sink = _Sink()
    broker = IbBroker(
        settings.tws_host, settings.tws_port, settings.tws_client_id, sink, time_zone=settings.tws_timezone,
        rate=given.door_rate(settings),
    )  # fmt: skip
    desk = Desk(book, permit, broker, given.desk_settings(settings))
    inbound = Inbound(book, desk, sink.doubt)
    lease = given.lease(settings, single=single)
    tail = Tail(book, url, me.name)
    reconciler = Reconciler(
        book,
        broker,
        cluster=settings.cluster_name,
        client_id=settings.tws_client_id,
        present_session=lambda: permit.session,
        losses=lambda: inbound.losses,
        link_up=lambda: "link" not in permit.shut,
        carry_out=desk.carry_out,
        limits=desk.settings.limits,
        day_began=lambda: day_began(settings.gateway_time_zone, utcnow()),
        archive=archive,
    )

    def make_takeover(on_fenced: Callable[[str], None]) -> Takeover:
        return Takeover(
            book,
            permit,
            desk,
            inbound,
            broker,
            lease,
            tail,
            given.fence_agent(settings),
            me,
            settings.tws_client_id,
            given.takeover_rules(settings),
            on_fenced=on_fenced,
        )

    def make_tender(takeover: Takeover, session_lost: Callable[[str], None]) -> Tender:
        return Tender(
            takeover, session_lost, permit=permit, desk=desk, broker=broker, reconciler=reconciler,
            rules=given.tend_rules(settings), calendar=given.calendar(settings),
        )  # fmt: skip

    node = Node(
        book, permit, desk, inbound, broker, lease, tail, me, make_takeover, make_tender,
        lambda epoch: Projector(url, me.name, epoch, book),
        lag_limit=settings.lag_limit, stop_without_etcd=settings.on_etcd_loss == "stop",
        phase_deadline=settings.phase_deadline,
    )  # fmt: skip
    sink.node = node
    access = given.access(settings)
    peers, reader, server = (
        Peers(lease, me),
        Connection(url, f"adapter-read:{me.name}"),
        Server(metrics.observe_http, given.door(settings)),
    )
    watch = Watch(
        node,
        settings.api_secret,
        settings.heartbeat_every,
        settings.suspect_after,
        proof_max_age=settings.proof_max_age,
        gateway=(settings.tws_host, settings.tws_port),
    )
    server.websocket(PEER_PATH, watch.link.admit, watch.link.talk)
    commands = Commands(Connection(url, f"adapter-operate:{me.name}"))
    look = given.spare_broker(settings)
    Resolve(
        node, access, commands, lambda: preflight(look, known_of(book), deadline=settings.request_timeout)
    ).register(server)
    Operate(node, watch, access, commands, OperateRules()).register(server)
    api = Api(book, desk, inbound, access, lambda: _standing(node), archive)
    api.register(server)
    accounts = Accounts(broker, book, api, access, lambda: permit.gate_open(boottime()))
    accounts.register(server)
    accounts.start()
    metrics.figures(accounts.known)
    EventStream(book, url, me.name, access).register(server)
    Audit(url, me.name, access).register(server)
    warnings: list[str] = []
    Health(
        node, peers, metrics, access, reader, cluster=settings.cluster_name, pid=os.getpid(), lag_limit=settings.lag_limit,
        warnings=warnings,
    ).register(server, metrics=settings.enable_metrics)  # fmt: skip
    Description(me.version, api_paths.OPERATIONS, paths.OPERATIONS).register(server)
    _gauges(metrics, node)
    keeper = LogKeeper(url, me.name, lambda: permit.epoch if node.state in HAS_EPOCH else None, metrics)
    watchdog = _watchdog(settings, node, lease, single=single)
    return _Replica(node, watch, server, peers, reader, archive, watchdog, keeper, warnings)


def _watchdog(settings: Settings, node: Node, lease: LeasePort, *, single: bool) -> Watchdog:
    """Raises ValueError with a sentence when the supervisor's watchdog does not suit the lease."""
    return Watchdog(
        interval_of(os.environ, settings.watchdog, settings.lease_ttl, os.getpid()),
        status=lambda: f"{node.role} {node.state}, epoch {node.permit.epoch or node.tail.epoch}",
        renewed_at=None if single else lambda: lease.contact().keeper_seen_at,
        renewed_within=settings.lease_ttl,
    )


class _Sink:
    """Ties the knot: the broker is made before the node that takes its facts."""

    node: Node

    def __call__(self, fact: Fact) -> None:
        self.node.take(fact)

    def doubt(self, reason: str) -> None:
        self.node.tender.doubt(reason)


def _standing(node: Node) -> Standing:
    """R35: a leader counts as known only if its epoch is at least any that this replica knows."""
    leads = node.state in HAS_EPOCH and node.permit.proven(
        boottime()
    )  # a thawed process does not lead by its own word (R12)
    epoch = node.permit.epoch or node.tail.epoch
    record = node.seen.record if node.seen is not None else None
    other = record is not None and record.instance != node.me.instance and record.epoch >= max(epoch, 1)
    return Standing(node.role, leads, epoch, record.url if record is not None and other and not leads else None)


def _gauges(metrics: Metrics, node: Node) -> None:
    permit, node.on_led = node.permit, metrics.took_over
    metrics.gauge("adapter_paused", "1 while automatic failover is paused.", lambda: float(node.paused))
    metrics.gauge("adapter_halted", "1 while new orders are halted.", lambda: float("halted" in node.control))
    metrics.gauge("adapter_epoch", "The epoch that this replica knows.", lambda: permit.epoch or node.tail.epoch)
    metrics.gauge("adapter_leader", "1 while this replica holds an epoch.", lambda: float(node.state in HAS_EPOCH))
    metrics.gauge("adapter_gate_open", "1 while orders may be sent.", lambda: float(permit.gate_open(boottime())))
    metrics.gauge("adapter_lease_trust_seconds", "Trust left in the lease.", lambda: node.lease.trust_left(boottime()))
    metrics.gauge(
        "adapter_proof_age_seconds", "Age of the last proof of epoch.", lambda: min(permit.proof_age(boottime()), 1e9)
    )
    metrics.gauge("adapter_decoder_losses", "Messages that ib_async could not decode.", lambda: node.inbound.losses)
