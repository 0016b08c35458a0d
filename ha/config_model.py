"""The settings of the adapter, one attribute for each environment name (`TWS_PORT` is `tws_port`).

`ha.config.load_settings` reads and checks them; docs/settings.md is made from this file.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ha import config_types as kind
from ha.redact import redact


class Settings(BaseSettings):
    """All settings, valid and frozen. Printing them never shows a secret; `public` is safe to print."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,  # what stands below a setting is its line in docs/settings.md
    )

    warnings: tuple[str, ...] = Field((), exclude=True, repr=False)

    tws_host: kind.Host = "127.0.0.1"
    """Where IB Gateway, TWS or the relay before it listens."""
    tws_port: kind.Port = 4002
    """Its port: IB Gateway 4001 live, 4002 paper; TWS 7496, 7497; the usual container 4003, 4004."""
    tws_client_id: kind.ClientId = 17
    """The clientId that both replicas use; the gateway admits one session with it."""
    tws_spare_client_id: kind.ClientId | None = None
    """A clientId that nobody uses: with it a gateway is looked at before it is accepted. Else TWS_CLIENT_ID + 1."""
    tws_gateway_id: kind.Text | None = None
    """The gateway's identity, the same on both replicas; the address is only the way there."""
    trading_mode: Annotated[Literal["paper", "live"], kind.Lower] = "paper"
    """Compared with the port and the account's prefix (DU is paper)."""
    tws_auto_reconnect: kind.OnlyTrue = True
    """True only: a replica that does not connect again cannot take over."""
    request_timeout: kind.Seconds = 4.0
    """Bounds each request to the broker, in seconds."""
    tws_timezone: kind.Zone = "UTC"
    """The zone of the times that the gateway sends without one: the zone that it is set to."""
    gateway_restart: kind.Daily | None = None
    """When the gateway restarts itself, every day."""
    gateway_weekly_login: kind.Weekly | None = None
    """When it wants its weekly login."""
    gateway_time_zone: kind.Zone = "America/New_York"
    """The zone of these two times."""
    gateway_shut_before: kind.Seconds = 30.0
    """New orders wait from so many seconds before either; cancels pass."""
    ib_username: kind.Text | None = None
    """For the gateway's own login; the adapter does not read it."""
    ib_password: kind.Secret | None = None
    """For the gateway's own login; the adapter does not read it."""

    database_url: kind.DatabaseUrl | None = None
    """PostgreSQL as the adapter's role; required to run."""
    migrate_database_url: kind.DatabaseUrl | None = None
    """PostgreSQL as the owner of the tables; required by `adapter migrate`, `archive` and `rebuild`, read by nothing else."""
    postgres_password: kind.Secret | None = None
    """The password, where `DATABASE_URL` names none."""
    lag_limit: kind.Seconds = 1.0
    """A standby further behind than this is not ready and does not campaign, in seconds."""

    orders_in_memory: kind.Count = 20_000
    """Orders that have ended and stay in memory; older ones are read from the database. The leader's holds on both replicas."""

    etcd_endpoints: kind.Endpoints = ()
    """The members of etcd, three of them; required to run."""
    etcd_ca: kind.File | None = None
    """The authority that signed etcd's certificates; with it, etcd is spoken to over TLS."""
    etcd_cert: kind.File | None = None
    """This replica's certificate; with `ETCD_KEY` and `ETCD_CA`."""
    etcd_key: kind.File | None = None
    """Its key, readable by the adapter's user only."""
    etcd_user: kind.Text | None = None
    """etcd's user; with `ETCD_PASSWORD` and `ETCD_CA`."""
    etcd_password: kind.Secret | None = None
    """Its password."""

    replica_name: kind.Name | None = None
    """This replica's name, another one on each host; required to run."""
    cluster_name: kind.Name = "desk1"
    """The pair's name; orders carry a tag made from it, so it never changes."""
    run_dir: kind.File = Path()
    """Small files of this process (the lease that `adapter release` gives back)."""
    one_machine: kind.Flag = False
    """Everything runs on this machine, as with `adapter up`: then one member of etcd is no reason for a warning."""
    fence_agent: Annotated[Literal["wait", "haproxy", "command"], kind.Lower] = "wait"
    """How a new leader ends the old broker session: wait until it is gone, drop it at the relay, or run a command."""
    fence_command: kind.Text | None = None
    """What the agent `command` runs."""
    fence_haproxy_socket: kind.Text | None = None
    """The relay's master socket, for the agent `haproxy`: a path or HOST:PORT."""
    fence_haproxy_prefix: kind.Name = "gateway_"
    """The relay's frontends for the replicas are this and their names; no other frontend begins with it."""
    on_etcd_loss: Annotated[Literal["continue", "stop"], kind.Lower] = "continue"
    """Whether a leader goes on while etcd is away and every commit under its epoch succeeds."""
    in_doubt: Annotated[Literal["park", "same_id"], kind.Lower] = "park"
    """An order whose session died and that the broker does not show: it waits for an operator, or is repeated under its own order
    id while that is the highest one used and the gateway was not seen to restart. The assumption of `same_id` is yours: a gateway
    that restarts is away for some dial of ours, or its next order id goes back. If it were neither, it could be sent twice."""

    api_secret_key: kind.SigningKey | None = None
    """Signs the bearer tokens (HS256); without it the API is on loopback only."""
    enable_api_auth: kind.Flag = False
    """Whether the API asks for a token; off only on loopback."""
    http_host: kind.Host = "127.0.0.1"
    """The address that the API listens on."""
    http_port: kind.Port = 8080
    """The port of everything: API, health, metrics."""
    advertise_url: kind.WebUrl = ""
    """Where clients and the other replica reach this one."""
    enable_metrics: kind.Flag = True
    """Whether `/metrics` is served."""
    metrics_port: kind.Port | None = None
    """One more port that serves the same handlers."""
    healthcheck_port: kind.Port | None = None
    """One more port that serves the same handlers."""
    rate_limit_per_minute: kind.Count | None = None
    """Requests per minute, for each token and each remote address."""
    allowed_origins: kind.Words = ()
    """Origins that a browser may call from."""

    order_rate: kind.Rate = 40.0
    """Orders per second to the broker; 0 is no limit. Messages of any kind stay below 45 a second, or 5 above this where that is
    more; with 0 they have no limit either, and IB ends a session that sends more than 50 again and again."""
    order_rate_per_symbol: kind.Rate = 40.0
    """The same for each symbol."""
    max_unacknowledged: kind.Count = 200
    """With more orders than this without the broker's answer, no further one is sent."""
    max_intent_age_mkt: kind.Seconds = 5.0
    """A market order that could not be sent for so long expires, in seconds."""
    max_intent_age_lmt: kind.Seconds = 60.0
    """The same for limit orders."""
    max_intent_age_stp: kind.Seconds = 60.0
    """The same for stop orders."""
    max_intent_age_other: kind.Seconds = 60.0
    """The same for all others."""
    max_order_quantity: kind.Amount | None = None
    """The largest quantity of one order."""
    max_order_value: kind.Amount | None = None
    """The largest value of one order, in its currency."""
    allowed_symbols: kind.Words = ()
    """The symbols that may be traded."""
    max_open_orders: kind.Count | None = None
    """How many orders may be open at once."""

    lease_ttl: kind.WholeSeconds = 2
    """The lease in etcd lives so long without renewal, in whole seconds."""
    lease_margin: kind.Seconds = 0.5
    """Trust in the lease ends so long before it does."""
    lease_renew_every: kind.Seconds = 0.5
    """Pause between renewals."""
    loop_allowance: kind.Seconds = 0.5
    """A leader whose event loop stood still for longer steps down first."""
    proof_every: kind.Seconds = 0.25
    """The leader commits a proof of its epoch so often."""
    proof_max_age: kind.Seconds = 1.0
    """With an older proof the gate is shut and `/leader` answers 503."""
    heartbeat_every: kind.Seconds = 0.1
    """Pause between heartbeats from the leader to the standby."""
    suspect_after: kind.Seconds = 1.5
    """Silence of the leader after which the standby acts."""
    watchdog: kind.Seconds = 1.5
    """A process that is silent for longer is killed by its supervisor."""
    ack_timeout: kind.Seconds = 2.0
    """With an order unanswered for longer the gate is shut and the broker asked."""
    ack_deadline: kind.Seconds = 5.0
    """With an order still absent after this the leader drops its own session."""
    phase_deadline: kind.Seconds = 20.0
    """Each phase of a takeover ends within this time, else the lease goes back; not while the gateway is unreachable."""
    claim_deadline: kind.Seconds = 5.0
    """A takeover must have its epoch within this time."""
    fence_deadline: kind.Seconds = 30.0
    """A takeover must be admitted by the gateway within this time, else it holds."""
    reconcile_deadline: kind.Seconds = 5.0
    """A reconciliation parks what is still doubtful after this time; below 3 nothing can be proven absent."""
    reconcile_every: kind.Seconds = 30.0
    """Pause between the periodic reconciliations."""
    state_reconcile_on_start: kind.OnlyTrue = True
    """True only: every start reconciles."""

    log_level: Annotated[Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], kind.Upper] = "INFO"
    """The least level that is logged; libraries speak from WARNING on, with DEBUG from INFO, with TRACE always."""
    log_stderr: Annotated[Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None, kind.Upper] = None
    """The least level on stderr, where `LOG_FILE` has the rest."""
    log_file: kind.File | None = None
    """A file beside stderr; errors go to their own file next to it."""
    log_rotation: kind.Rotation = "midnight"
    """When `LOG_FILE` is closed, compressed and begun anew."""
    log_retention_days: kind.Count = 90
    """How long closed files are kept, in days; the errors' own file 365."""
    log_json: kind.Flag = False
    """One JSON object a line, for log collectors."""
    alert_email: kind.Mail | None = None
    """Who is told; with `SMTP_URL`."""
    alert_slack_webhook: kind.HookUrl | None = None
    """Where alerts are posted."""
    alert_heartbeat_url: kind.HookUrl | None = None
    """A dead man's switch that is called while all is well."""
    smtp_url: kind.MailUrl | None = None
    """The mail server for alerts."""
    state_backup_dir: kind.File | None = None
    """Where backups are written."""
    failpoints: kind.Failpoints = ""
    """For tests: where a process ends or stops by itself; never with live trading."""

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # called by keyword, the rest is in `_`
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed: `load_settings` reads the environment, so that it can report every error at once."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _computed_defaults(cls, data: Any) -> Any:
        data = dict(data)
        host = str(data.get("http_host", "127.0.0.1"))
        host = f"[{host}]" if ":" in host else host
        data.setdefault("advertise_url", f"http://{host}:{data.get('http_port', 8080)}")
        data.setdefault("run_dir", Path(".adapter", "run", str(data.get("replica_name", "adapter"))))
        data.setdefault("enable_api_auth", "api_secret_key" in data)
        return data

    @property
    def gateway_id(self) -> str:
        """The gateway's identity (R14): `TWS_GATEWAY_ID`, or the address where none is set."""
        return self.tws_gateway_id or f"{self.tws_host}:{self.tws_port}"

    @property
    def database_dsn(self) -> str | None:
        """`DATABASE_URL` in clear, with `POSTGRES_PASSWORD` where it names no password. A secret."""
        return _with_password(self.database_url, self.postgres_password)

    @property
    def migrate_dsn(self) -> str | None:
        """`MIGRATE_DATABASE_URL` in clear. A secret."""
        return _with_password(self.migrate_database_url, None)

    @property
    def api_secret(self) -> str | None:
        """`API_SECRET_KEY` in clear, or None. A secret."""
        return self.api_secret_key.get_secret_value() if self.api_secret_key else None

    def public(self) -> dict[str, Any]:
        """Every setting by its environment name, safe to print: secrets are `***`, the database's URL is masked."""
        shown: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = redact(value.get_secret_value()) if name.endswith("database_url") else "***"
            elif isinstance(value, (Decimal, Path)):
                value = str(value)
            if name != "warnings":
                shown[name.upper()] = list(value) if isinstance(value, tuple) else value
        return shown


def _with_password(url: SecretStr | None, password: SecretStr | None) -> str | None:
    if url is None or password is None:
        return url.get_secret_value() if url else None
    scheme, _, rest = url.get_secret_value().partition("://")
    user, at, hosts = rest.rpartition("@")
    if not at or ":" in user or "password=" in hosts:
        return f"{scheme}://{rest}"
    return f"{scheme}://{user}:{quote(password.get_secret_value(), safe='')}@{hosts}"
