"""What each part of a replica is given of the settings."""

from __future__ import annotations

from collections.abc import Callable

from engine.auth import Access
from engine.broker import Broker
from engine.desk_settings import DeskSettings
from engine.door import Door
from engine.pace import MESSAGES, RESERVED
from engine.risk import Limits
from ha.calendar import GatewayCalendar, parse_daily, parse_weekly
from ha.config import Settings
from ha.etcd_access import EtcdAccess
from ha.fence import FenceAgent, Wait
from ha.fence_command import Command
from ha.fence_haproxy import Haproxy
from ha.lease import LeasePort, LeaseTiming
from ha.takeover import Rules
from ha.tend_rules import TendRules


def lease(settings: Settings, *, single: bool) -> LeasePort:
    """The lease: in etcd, or (`single`) that of a replica without a pair. What the other one needs is not loaded."""
    timing = LeaseTiming(settings.lease_ttl, settings.lease_margin, settings.lease_renew_every, settings.loop_allowance)
    if single:
        from ha.lease_single import SingleLease

        return SingleLease(settings.run_dir, timing)
    from ha.etcd_port import EtcdLease

    access = EtcdAccess(
        settings.etcd_endpoints, settings.etcd_ca, settings.etcd_cert, settings.etcd_key, settings.etcd_user,
        settings.etcd_password.get_secret_value() if settings.etcd_password else None,
    )  # fmt: skip
    return EtcdLease(access, cluster=settings.cluster_name, run_dir=settings.run_dir, timing=timing)


def fence_agent(settings: Settings) -> FenceAgent:
    """The agent that ends an old broker session. Raises ValueError with a sentence for what it cannot use."""
    replica = settings.replica_name or ""
    match settings.fence_agent:
        case "haproxy":
            return Haproxy(settings.fence_haproxy_socket or "", replica, prefix=settings.fence_haproxy_prefix)
        case "command":
            return Command(
                settings.fence_command or "",
                cluster=settings.cluster_name,
                replica=replica,
                client_id=settings.tws_client_id,
                gateway_id=settings.gateway_id,
            )
        case _:
            return Wait()


def spare_broker(settings: Settings) -> Callable[[], Broker]:
    """Makes brokers that take the spare clientId at this replica's gateway; what it tells by itself goes nowhere."""
    spare = settings.tws_spare_client_id or settings.tws_client_id % (2**31 - 1) + 1

    def make() -> Broker:
        from engine.broker_ib import IbBroker

        return IbBroker(settings.tws_host, settings.tws_port, spare, lambda _: None, time_zone=settings.tws_timezone)

    return make


def calendar(settings: Settings) -> GatewayCalendar | None:
    """The gateway's own calendar, None where no time is set."""
    daily, weekly = settings.gateway_restart, settings.gateway_weekly_login
    if daily is None and weekly is None:
        return None
    return GatewayCalendar(
        settings.gateway_time_zone,
        None if daily is None else parse_daily(daily),
        None if weekly is None else parse_weekly(weekly),
        before=settings.gateway_shut_before,
    )


def takeover_rules(settings: Settings) -> Rules:
    """Bounds of a takeover."""
    return Rules(
        claim_deadline=settings.claim_deadline,
        proof_every=settings.proof_every,
        request_timeout=settings.request_timeout,
        lag_limit=settings.lag_limit,
        fence_deadline=settings.fence_deadline,
        trading_mode=settings.trading_mode,
        keep_ended=settings.orders_in_memory,
    )


def tend_rules(settings: Settings) -> TendRules:
    """Bounds of what a leader tends to."""
    return TendRules(
        ack_timeout=settings.ack_timeout,
        ack_deadline=settings.ack_deadline,
        reconcile_deadline=settings.reconcile_deadline,
        reconcile_every=settings.reconcile_every,
        same_id=settings.in_doubt == "same_id",
        phase_deadline=settings.phase_deadline,
    )


def desk_settings(settings: Settings) -> DeskSettings:
    """What the order desk goes by; the account comes from the gateway."""
    limits = Limits(
        settings.max_order_quantity, settings.max_order_value, settings.max_open_orders,
        frozenset(settings.allowed_symbols) or None,
    )  # fmt: skip
    ages = {
        "MKT": settings.max_intent_age_mkt, "LMT": settings.max_intent_age_lmt, "STP": settings.max_intent_age_stp,
        "STP LMT": settings.max_intent_age_stp, "": settings.max_intent_age_other,
    }  # fmt: skip
    return DeskSettings(
        settings.cluster_name,
        limits,
        ages,
        settings.order_rate,
        settings.order_rate_per_symbol,
        settings.max_unacknowledged,
    )


def door_rate(settings: Settings) -> float:
    """Messages of any kind to the broker, in any second; 0 = no limit, as `ORDER_RATE` says."""
    return max(MESSAGES, settings.order_rate + RESERVED) if settings.order_rate else 0.0


def access(settings: Settings) -> Access:
    """Who may call: whoever has a token, or (only on loopback, ENABLE_API_AUTH off) everybody."""
    secret = settings.api_secret if settings.enable_api_auth else None
    return Access((secret,) if secret else ())


def door(settings: Settings) -> Door:
    """How often one may call, and from which pages."""
    return Door(settings.rate_limit_per_minute, tuple(settings.allowed_origins))
