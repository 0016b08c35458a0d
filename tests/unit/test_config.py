"""Settings: every sentence that a wrong one gets, and that a secret is in none of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha.config import ConfigError, Need, Settings, load_settings
from ha.config_docs import markdown
from ha.config_names import distance, near
from ha.config_read import FIELDS, KNOWN, SECRETS
from ha.config_rules import findings
from ha.lease import LeaseTiming

DSN = "postgresql://adapter:hunter2@db1:5432/ledger"
OWNER = "postgresql://owner:hunter3@db1:5432/ledger"
KEY = "k" * 32
RUN = {"DATABASE_URL": DSN, "ETCD_ENDPOINTS": "a:2379,b:2379,c:2379", "REPLICA_NAME": "a"}


def sentences(env: dict[str, str], need: Need = "run", dotenv: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings({**RUN, **env}, need=need, dotenv=dotenv)
    return caught.value.sentences


def sentence(env: dict[str, str], need: Need = "run") -> str:
    said = sentences(env, need)
    assert len(said) == 1, said
    return said[0]


def test_the_defaults_agree_with_each_other_and_say_nothing() -> None:
    settings = load_settings(RUN)
    assert settings.warnings == ()
    assert (settings.lease_ttl, settings.tws_port, settings.order_rate) == (2, 4002, 40.0)
    assert settings.advertise_url == "http://127.0.0.1:8080"
    assert settings.run_dir == Path(".adapter/run/a")
    assert settings.gateway_id == "127.0.0.1:4002"
    assert settings.enable_api_auth is False


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings(RUN).tws_port = 1  # type: ignore[misc]


# each row: what is set, and all that must be said about it
WRONG_VALUES = [
    ({"TWS_PORT": "70000"}, "TWS_PORT=70000 is not allowed: it must be a port from 1 to 65535."),
    ({"TWS_PORT": "many"}, "TWS_PORT=many is not allowed: it must be a port from 1 to 65535."),
    (
        {"TWS_CLIENT_ID": "0"},
        "TWS_CLIENT_ID=0 is not allowed: it must be a whole number from 1 to 2147483647, never 0.",
    ),
    ({"TWS_HOST": "a b"}, "TWS_HOST=a b is not allowed: it must be a host name or an address."),
    ({"TWS_TIMEZONE": "Mars/X"}, "it must be a time zone such as America/New_York (no zone 'Mars/X' is known here)."),
    ({"GATEWAY_TIME_ZONE": "America"}, "GATEWAY_TIME_ZONE=America is not allowed: it must be a time zone such as"),
    ({"GATEWAY_RESTART": "24:00"}, "GATEWAY_RESTART=24:00 is not allowed: it must be a time of day such as 23:45."),
    ({"GATEWAY_WEEKLY_LOGIN": "14:00"}, "it must be a weekday and a time such as SUN 14:00."),
    ({"GATEWAY_SHUT_BEFORE": "0"}, "GATEWAY_SHUT_BEFORE=0 is not allowed: it must be seconds, above 0"),
    ({"TRADING_MODE": "real"}, "TRADING_MODE=real is not allowed: it must be one of paper, live."),
    ({"TWS_AUTO_RECONNECT": "false"}, "TWS_AUTO_RECONNECT=false is not allowed: it must be true."),
    ({"STATE_RECONCILE_ON_START": "no"}, "STATE_RECONCILE_ON_START=no is not allowed: it must be true."),
    ({"REPLICA_NAME": "../a"}, "REPLICA_NAME=../a is not allowed: it must be 1 to 32 of A-Z a-z 0-9 _ -, beginning"),
    ({"CLUSTER_NAME": "a b"}, "CLUSTER_NAME=a b is not allowed: it must be 1 to 32 of A-Z a-z 0-9 _ -, beginning"),
    ({"HTTP_PORT": "0"}, "HTTP_PORT=0 is not allowed: it must be a port from 1 to 65535."),
    ({"HTTP_HOST": "http://x"}, "HTTP_HOST=http://x is not allowed: it must be a host name or an address."),
    ({"ADVERTISE_URL": "host:8080"}, "ADVERTISE_URL=host:8080 is not allowed: it must be a URL http://HOST:PORT or"),
    ({"LEASE_TTL": "1"}, "LEASE_TTL=1 is not allowed: it must be whole seconds from 2 to 3600 (etcd grants no less)."),
    ({"LEASE_TTL": "2.5"}, "LEASE_TTL=2.5 is not allowed: it must be whole seconds"),
    ({"LEASE_MARGIN": "nan"}, "LEASE_MARGIN=nan is not allowed: it must be seconds, above 0 and at most 86400."),
    ({"ACK_TIMEOUT": "-1"}, "ACK_TIMEOUT=-1 is not allowed: it must be seconds, above 0 and at most 86400."),
    ({"ORDER_RATE": "-1"}, "ORDER_RATE=-1 is not allowed: it must be orders per second, 0 for no limit."),
    ({"MAX_ORDER_QUANTITY": "0"}, "MAX_ORDER_QUANTITY=0 is not allowed: it must be a decimal number above 0."),
    ({"MAX_ORDER_VALUE": "Infinity"}, "MAX_ORDER_VALUE=Infinity is not allowed: it must be a decimal number above 0."),
    ({"MAX_OPEN_ORDERS": "1.5"}, "MAX_OPEN_ORDERS=1.5 is not allowed: it must be a whole number from 1."),
    ({"FENCE_AGENT": "pray"}, "FENCE_AGENT=pray is not allowed: it must be one of wait, haproxy, command."),
    ({"ON_ETCD_LOSS": "x"}, "ON_ETCD_LOSS=x is not allowed: it must be one of continue, stop."),
    ({"LOG_LEVEL": "loud"}, "LOG_LEVEL=loud is not allowed: it must be one of TRACE, DEBUG, INFO, WARNING, ERROR,"),
    ({"LOG_ROTATION": "25:00"}, 'LOG_ROTATION=25:00 is not allowed: it must be "midnight", HH:MM (UTC), a size as'),
    ({"LOG_ROTATION": "soon"}, 'LOG_ROTATION=soon is not allowed: it must be "midnight"'),
    ({"LOG_JSON": "perhaps"}, "LOG_JSON=perhaps is not allowed: it must be true or false."),
    ({"ALERT_EMAIL": "me"}, "ALERT_EMAIL=me is not allowed: it must be one mail address."),
    (
        {"ETCD_ENDPOINTS": "a"},
        "ETCD_ENDPOINTS=a is not allowed: it must be HOST:PORT,HOST:PORT,… ('a' is not HOST:PORT).",
    ),
    ({"ETCD_ENDPOINTS": "a:x"}, "(the port in 'a:x' is not a number from 1 to 65535)."),
    ({"ETCD_ENDPOINTS": "http://a:1"}, "('http://a:1' has a scheme; write HOST:PORT, and set ETCD_CA"),
    ({"ETCD_ENDPOINTS": "a:1,b:1,a:1"}, "(a:1 stands there more than once)."),
    ({"ETCD_ENDPOINTS": ","}, "(it names no endpoint)."),
    ({"FAILPOINTS": "x"}, "('x' is not POINT=kill|stop|raise|sleep:SECONDS, with @N for the N-th passage)."),
    ({"FAILPOINTS": "lunch=kill"}, "(there is no point 'lunch'; there are submit.before_commit,"),
    ({"API_SECRET_KEY": "hunter2"}, "API_SECRET_KEY is not allowed: it must be at least 32 bytes (it has 7 bytes;"),
    ({"SECRET_KEY": "hunter2"}, "SECRET_KEY is not allowed: it must be at least 32 bytes (it has 7 bytes;"),
    ({"DATABASE_URL": "mysql://u:hunter2@h/d"}, "DATABASE_URL is not allowed: it must be a URL postgresql://USER:"),
    ({"DATABASE_URL": "postgresql+asyncpg://u:hunter2@h/d"}, "(leave out '+asyncpg', the driver is chosen here)."),
    ({"MIGRATE_DATABASE_URL": "x"}, "MIGRATE_DATABASE_URL is not allowed: it must be a URL postgresql://USER:"),
    ({"SMTP_URL": "mail:hunter2"}, "SMTP_URL is not allowed: it must be a URL smtp://USER:PASSWORD@HOST:PORT or"),
    ({"ALERT_SLACK_WEBHOOK": "hunter2"}, "ALERT_SLACK_WEBHOOK is not allowed: it must be a URL http://… or https://…"),
]


@pytest.mark.parametrize(("env", "expected"), WRONG_VALUES, ids=lambda v: str(v)[:50])
def test_a_wrong_value_gets_one_sentence_with_its_name_and_what_is_allowed(env: dict[str, str], expected: str) -> None:
    said = sentence(env)
    assert expected in said
    assert next(iter(env)) in said
    assert "hunter2" not in said


RELATIONS = [
    ({"TWS_PORT": "7496"}, "TWS_PORT=7496 is the live port of TWS, but TRADING_MODE=paper: use 4002 (IB Gateway), "),
    ({"TWS_PORT": "4001"}, "TWS_PORT=4001 is the live port of IB Gateway, but TRADING_MODE=paper: "),
    ({"TWS_PORT": "4003"}, "TWS_PORT=4003 is the live port of the gateway's container, but TRADING_MODE=paper: "),
    ({"TRADING_MODE": "live", "TWS_PORT": "7497"}, "TWS_PORT=7497 is the paper port of TWS, but TRADING_MODE=live: "),
    (
        {"TRADING_MODE": "live", "TWS_PORT": "4002"},
        "TWS_PORT=4002 is the paper port of IB Gateway, but TRADING_MODE=live",
    ),
    ({"TRADING_MODE": "live", "TWS_PORT": "4004"}, "or set TRADING_MODE=paper if that is meant."),
    ({"HTTP_HOST": "10.0.0.5"}, "HTTP_HOST=10.0.0.5 is reachable from other machines, and there is no API_SECRET_KEY"),
    ({"HTTP_HOST": "adapter-a"}, "HTTP_HOST=adapter-a is reachable from other machines, and there is no"),
    (
        {"HTTP_HOST": "10.0.0.5", "API_SECRET_KEY": KEY, "ENABLE_API_AUTH": "false"},
        "ENABLE_API_AUTH=false is allowed on loopback only, and HTTP_HOST=10.0.0.5 is not",
    ),
    ({"ENABLE_API_AUTH": "true"}, "ENABLE_API_AUTH=true needs API_SECRET_KEY (at least 32 bytes)."),
    (
        {"HTTP_HOST": "0.0.0.0", "API_SECRET_KEY": KEY},
        "ADVERTISE_URL=http://0.0.0.0:8080 is no address that others can call: set it to this host's own address.",
    ),
    ({"HTTP_HOST": "::", "API_SECRET_KEY": KEY}, "ADVERTISE_URL=http://[::]:8080 is no address that others can call"),
    ({"ETCD_USER": "u", "ETCD_CA": __file__}, "ETCD_USER needs ETCD_PASSWORD too: set both or neither."),
    ({"ETCD_PASSWORD": "hunter2"}, "ETCD_PASSWORD needs ETCD_USER too: set both or neither."),
    ({"ETCD_USER": "u", "ETCD_PASSWORD": "hunter2"}, "ETCD_USER needs ETCD_CA too: set both or neither."),
    ({"ETCD_CERT": __file__, "ETCD_CA": __file__}, "ETCD_CERT needs ETCD_KEY too: set both or neither."),
    ({"ALERT_EMAIL": "me@desk"}, "ALERT_EMAIL needs SMTP_URL too: set both or neither."),
    ({"ETCD_CA": "/nowhere/ca.pem"}, "ETCD_CA=/nowhere/ca.pem cannot be read: No such file or directory."),
    ({"FENCE_AGENT": "command"}, "FENCE_AGENT=command needs FENCE_COMMAND: set it, or use wait."),
    ({"FENCE_AGENT": "haproxy"}, "FENCE_AGENT=haproxy needs FENCE_HAPROXY_SOCKET: set it, or use wait."),
    (
        {"TRADING_MODE": "live", "TWS_PORT": "4001", "FAILPOINTS": "commit.before_send=kill"},
        "FAILPOINTS is for tests and not allowed with TRADING_MODE=live: remove it.",
    ),
    ({"STATE_FILE": "s.json"}, "STATE_FILE=s.json is not used: the state is the database that DATABASE_URL names"),
    (
        {"POSTGRES_URL": OWNER},
        "POSTGRES_URL and DATABASE_URL are both set and differ: POSTGRES_URL is an alias, remove it",
    ),
    ({"ACK_TIMEOUT": "5"}, "ACK_TIMEOUT=5 must be below ACK_DEADLINE=5: the broker is asked first"),
    ({"HEARTBEAT_EVERY": "0.75"}, "HEARTBEAT_EVERY=0.75 must be below half of SUSPECT_AFTER=1.5: "),
]


@pytest.mark.parametrize(("env", "expected"), RELATIONS, ids=lambda v: str(v)[:50])
def test_settings_that_contradict_each_other_get_one_sentence(env: dict[str, str], expected: str) -> None:
    said = sentence(env)
    assert expected in said
    assert "hunter2" not in said


@pytest.mark.rule(12)
@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"LOOP_ALLOWANCE": "1"}, "LOOP_ALLOWANCE=1 must be below PROOF_MAX_AGE=1: "),
        ({"PROOF_MAX_AGE": "1.5"}, "PROOF_MAX_AGE=1.5 must be below SUSPECT_AFTER=1.5: "),
        ({"SUSPECT_AFTER": "2"}, "SUSPECT_AFTER=2 must be below LEASE_TTL=2: "),
        ({"WATCHDOG": "2"}, "WATCHDOG=2 must be below LEASE_TTL=2: "),
        ({"LEASE_MARGIN": "2"}, "LEASE_MARGIN=2 must be below LEASE_TTL=2: "),
        (
            {"LEASE_RENEW_EVERY": "0.9"},
            "LEASE_RENEW_EVERY=0.9 and a third of LEASE_TTL=2 must together be below 1.5, LEASE_TTL less LEASE_MARGIN",
        ),
        (
            {"LEASE_MARGIN": "1.2", "LEASE_RENEW_EVERY": "0.1", "LOOP_ALLOWANCE": "0.8"},
            "LOOP_ALLOWANCE=0.8 must be below 0.8, LEASE_TTL less LEASE_MARGIN",
        ),
        ({"PROOF_EVERY": "0.5"}, "PROOF_EVERY=0.5 must be below half of PROOF_MAX_AGE=1: "),
    ],
    ids=lambda v: str(v)[:40],
)
def test_a_timing_relation_that_does_not_hold_stops_the_start(env: dict[str, str], expected: str) -> None:
    assert expected in sentence(env)


@pytest.mark.rule(12)
def test_timings_one_step_inside_their_limits_are_accepted() -> None:
    inside = {"LOOP_ALLOWANCE": "0.99", "PROOF_MAX_AGE": "1.49", "SUSPECT_AFTER": "1.99", "WATCHDOG": "1.99"}
    inside |= {"LEASE_RENEW_EVERY": "0.83", "PROOF_EVERY": "0.74"}
    assert load_settings({**RUN, **inside}).suspect_after == 1.99


@given(
    ttl=st.integers(2, 30),
    margin=st.floats(0.01, 30),
    renew_every=st.floats(0.01, 30),
    loop_allowance=st.floats(0.01, 30),
)
def test_a_lease_timing_that_the_settings_allow_is_one_that_the_lease_takes(
    ttl: int, margin: float, renew_every: float, loop_allowance: float
) -> None:
    lease = {
        "lease_ttl": ttl,
        "lease_margin": margin,
        "lease_renew_every": renew_every,
        "loop_allowance": loop_allowance,
    }
    found = findings(Settings(**lease), "cli")  # type: ignore[arg-type]
    try:
        LeaseTiming(ttl, margin, renew_every, loop_allowance)
    except ValueError:
        assert any("LEASE_TTL" in finding.names for finding in found)
    else:
        assert not any("LEASE_MARGIN" in finding.names for finding in found)


@pytest.mark.rule(14)
def test_client_id_zero_is_refused() -> None:
    assert "never 0" in sentence({"TWS_CLIENT_ID": "0"})


@pytest.mark.parametrize(("mode", "port"), [("paper", "7497"), ("paper", "4004"), ("live", "4001"), ("live", "7496")])
def test_the_known_ports_of_a_mode_are_accepted(mode: str, port: str) -> None:
    assert load_settings({**RUN, "TRADING_MODE": mode, "TWS_PORT": port}).tws_port == int(port)


@pytest.mark.parametrize("mode", ["paper", "live"])
def test_a_port_that_nobody_knows_is_accepted_in_both_modes(mode: str) -> None:
    assert load_settings({**RUN, "TRADING_MODE": mode, "TWS_PORT": "21200"}).tws_port == 21200


def test_everything_that_is_wrong_is_said_at_once_and_only_once() -> None:
    said = sentences({"TWS_PORT": "x", "LEASE_TTL": "1", "LEASE_MARGIN": "7", "TWS_PRT": "1", "REPLICA_NAME": ""})
    assert [s.split("=")[0].split(" ")[0] for s in said] == ["TWS_PRT", "TWS_PORT", "LEASE_TTL", "REPLICA_NAME"]
    # LEASE_MARGIN=7 is not judged against a LEASE_TTL that is itself wrong


def test_a_wrong_host_and_port_do_not_also_make_a_wrong_advertised_address() -> None:
    assert len(sentences({"HTTP_HOST": "a b", "HTTP_PORT": "x"})) == 2


@pytest.mark.parametrize(
    ("need", "missing"),
    [
        ("run", ["DATABASE_URL", "ETCD_ENDPOINTS", "REPLICA_NAME"]),
        ("migrate", ["MIGRATE_DATABASE_URL", "DATABASE_URL"]),
        ("release", ["REPLICA_NAME"]),
        ("single", ["DATABASE_URL", "REPLICA_NAME"]),
    ],
)
def test_what_a_command_needs_is_named_when_it_is_missing(need: Need, missing: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({}, need=need)
    assert [s.split(" is not set: it is ")[0] for s in caught.value.sentences] == missing


def test_migrate_with_one_database_url_asks_for_the_owners() -> None:
    assert sentence({}, "migrate") == (
        "MIGRATE_DATABASE_URL is not set: it is the database as the owner of its tables, another role than that of "
        "DATABASE_URL."
    )


def test_the_command_line_needs_no_setting() -> None:
    assert load_settings({}, need="cli").replica_name is None


@pytest.mark.parametrize(("alias", "name"), [("POSTGRES_URL", "database_url"), ("SECRET_KEY", "api_secret_key")])
def test_an_alias_counts_as_its_setting(alias: str, name: str) -> None:
    value = DSN if alias == "POSTGRES_URL" else KEY
    secret = getattr(load_settings({alias: value}, need="cli"), name)
    assert secret.get_secret_value() == value


def test_an_alias_with_the_same_value_is_no_contradiction() -> None:
    assert load_settings({**RUN, "POSTGRES_URL": DSN}).database_dsn == DSN


def test_a_secret_key_turns_tokens_on() -> None:
    assert load_settings({**RUN, "API_SECRET_KEY": KEY}).enable_api_auth is True
    assert load_settings({**RUN, "API_SECRET_KEY": KEY, "ENABLE_API_AUTH": "false"}).enable_api_auth is False


def test_commas_make_lists() -> None:
    settings = load_settings({**RUN, "ALLOWED_SYMBOLS": "AAPL, MSFT,", "ETCD_ENDPOINTS": "[::1]:1, b:2, c:3"})
    assert settings.allowed_symbols == ("AAPL", "MSFT")
    assert settings.etcd_endpoints == ("[::1]:1", "b:2", "c:3")


def test_words_are_read_in_any_case() -> None:
    settings = load_settings({**RUN, "LOG_LEVEL": "debug", "FENCE_AGENT": "WAIT", "TRADING_MODE": "Paper"})
    assert (settings.log_level, settings.fence_agent, settings.trading_mode) == ("DEBUG", "wait", "paper")


def test_an_empty_value_counts_as_not_set() -> None:
    assert load_settings({**RUN, "TWS_PORT": "", "API_SECRET_KEY": " "}).tws_port == 4002


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TWS_PRT", "TWS_PORT"),
        ("TWS_PROT", "TWS_PORT"),
        ("tws_port", "TWS_PORT"),
        ("ETCD_ENDPOINT", "ETCD_ENDPOINTS"),
        ("LEASE_TTL_SECONDS", "LEASE_TTL"),
        ("LEASE_MARGIN_MS", "LEASE_MARGIN"),
        ("LOG_LEVL", "LOG_LEVEL"),
        ("ADAPTER_TOKN", "ADAPTER_TOKEN"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("MAX_ORDERS_QUANTITY", "MAX_ORDER_QUANTITY"),
    ],
)
def test_a_slip_in_a_name_is_refused_with_what_is_meant(name: str, meant: str, tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"{name}=1\n")
    assert sentences({}, dotenv=dotenv) == [f"{name} is no setting: did you mean {meant}?"]


@pytest.mark.parametrize(
    "name", ["POSTGRES_USER", "POSTGRES_DB", "HTTP_PROXY", "LOGNAME", "ETCD_UNSUPPORTED_ARCH", "PATH"]
)
def test_a_foreign_name_in_the_environment_is_left_alone(name: str) -> None:
    assert load_settings({**RUN, name: "1"}).warnings == ()


def test_an_unknown_name_of_ours_or_in_the_env_file_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("POSTGRES_USER=u\n")
    settings = load_settings({**RUN, "TWS_SOMETHING_ELSE": "1"}, dotenv=dotenv)
    assert settings.warnings == (
        "POSTGRES_USER is no setting of the adapter and has no effect.",
        "TWS_SOMETHING_ELSE is no setting of the adapter and has no effect.",
    )


def test_a_setting_that_is_no_secret_does_not_come_from_a_file() -> None:
    said = sentence({"TWS_PORT_FILE": "/x"})
    assert said == "TWS_PORT_FILE is no setting: only a secret may come from a file; set TWS_PORT."


@pytest.mark.parametrize("name", ["MAX_WORKERS", "CACHE_SIZE", "MAX_SUBSCRIPTIONS", "REDIS_URL", "ALERT_HEARTBEAT_URL"])
def test_a_name_without_effect_is_accepted_with_a_warning(name: str) -> None:
    warnings = load_settings({**RUN, name: "http://h/50"}).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{name} has no effect: ")


def test_known_names_are_never_slips_of_each_other() -> None:
    assert [name for name in KNOWN if near(name, KNOWN) != name] == []


@pytest.mark.parametrize(
    ("a", "b", "steps"), [("", "", 0), ("ab", "ab", 0), ("ab", "ba", 1), ("abc", "ac", 1), ("kitten", "sitting", 3)]
)
def test_distance_counts_single_letter_slips(a: str, b: str, steps: int) -> None:
    assert distance(a, b) == distance(b, a) == steps


# --- etcd's members ---------------------------------------------------------------------------------------------------


def test_fewer_than_three_members_are_allowed_and_warned_about() -> None:
    for members, word in (("a:1", "1 member:"), ("a:1,b:1", "2 members:")):
        warnings = load_settings({**RUN, "ETCD_ENDPOINTS": members}).warnings
        assert len(warnings) == 1
        assert word in warnings[0]
        assert "add a witness" in warnings[0]


def test_an_even_number_of_members_is_warned_about() -> None:
    (warning,) = load_settings({**RUN, "ETCD_ENDPOINTS": "a:1,b:1,c:1,d:1"}).warnings
    assert warning.startswith("ETCD_ENDPOINTS names 4 members: an even number survives no more losses")


def test_on_one_machine_one_member_is_enough_and_only_there() -> None:
    assert load_settings({**RUN, "ETCD_ENDPOINTS": "127.0.0.1:1", "ONE_MACHINE": "true"}).warnings == ()
    said = sentence({"ETCD_ENDPOINTS": "127.0.0.1:1,db1:2379", "ONE_MACHINE": "true"})
    assert said == (
        "ONE_MACHINE=true is for `adapter up`, and ETCD_ENDPOINTS names db1:2379, which is not on this machine: remove it."
    )


def test_a_single_replica_needs_no_etcd_and_says_that_it_asks_none() -> None:
    without = {name: value for name, value in RUN.items() if name != "ETCD_ENDPOINTS"}
    assert load_settings(without, need="single").warnings == ()
    (warning,) = load_settings(RUN, need="single").warnings
    assert warning == "ETCD_ENDPOINTS is not used: `adapter run --single` asks no etcd."


# --- secrets ----------------------------------------------------------------------------------------------------------


def secret_file(directory: Path, content: str, mode: int = 0o600) -> Path:
    path = directory / "secret"
    path.write_text(content)
    path.chmod(mode)
    return path


def test_a_secret_comes_from_the_file_that_name_file_names(tmp_path: Path) -> None:
    path = secret_file(tmp_path, DSN + "\n")
    assert load_settings({"DATABASE_URL_FILE": str(path)}, need="cli").database_dsn == DSN


def test_an_alias_can_come_from_a_file_too(tmp_path: Path) -> None:
    path = secret_file(tmp_path, KEY)
    assert load_settings({"SECRET_KEY_FILE": str(path)}, need="cli").api_secret == KEY


def test_a_secrets_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = secret_file(tmp_path, KEY, 0o644)
    assert sentence({"API_SECRET_KEY_FILE": str(path)}) == (
        f"API_SECRET_KEY_FILE={path} can be read by others: chmod 600 {path}"
    )


def test_a_secrets_file_for_the_services_group_is_accepted(tmp_path: Path) -> None:
    path = secret_file(tmp_path, KEY, 0o640)
    assert load_settings({**RUN, "API_SECRET_KEY_FILE": str(path)}).api_secret == KEY


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read: No such file"), ("\n", "is empty: write")])
def test_a_secrets_file_that_gives_nothing_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        secret_file(tmp_path, content)
    assert said in sentence({"IB_PASSWORD_FILE": str(path)})


def test_a_secrets_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = secret_file(tmp_path, "")
    path.write_bytes(b"\xff\xfe")
    assert "cannot be read: it is not UTF-8 text." in sentence({"IB_PASSWORD_FILE": str(path)})


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    path = secret_file(tmp_path, KEY)
    said = sentence({"API_SECRET_KEY": KEY, "API_SECRET_KEY_FILE": str(path)})
    assert said == "API_SECRET_KEY and API_SECRET_KEY_FILE are both set: keep one of them."


def test_a_wrong_secret_from_a_file_is_not_shown(tmp_path: Path) -> None:
    said = sentence({"API_SECRET_KEY_FILE": str(secret_file(tmp_path, "hunter2"))})
    assert said.startswith("API_SECRET_KEY is not allowed: it must be at least 32 bytes")
    assert "hunter2" not in said


def test_etcds_key_must_not_be_readable_by_others(tmp_path: Path) -> None:
    key = secret_file(tmp_path, "pem", 0o644)
    said = sentence({"ETCD_CA": __file__, "ETCD_CERT": __file__, "ETCD_KEY": str(key)})
    assert said == f"ETCD_KEY={key} can be read by others: chmod 600 {key}"


ALL_SECRETS = {
    "IB_PASSWORD": "hunter2",
    "DATABASE_URL": DSN,
    "MIGRATE_DATABASE_URL": OWNER,
    "POSTGRES_PASSWORD": "hunter2",
    "ETCD_PASSWORD": "hunter2",
    "API_SECRET_KEY": "hunter2" * 5,
    "ALERT_SLACK_WEBHOOK": "https://hooks/hunter2",
    "ALERT_HEARTBEAT_URL": "https://beat/hunter2",
    "SMTP_URL": "smtp://u:hunter2@mail:25",
}


def test_printing_settings_shows_no_secret() -> None:
    env = {**RUN, **ALL_SECRETS, "ETCD_USER": "u", "ETCD_CA": __file__}
    assert set(ALL_SECRETS) == SECRETS
    settings = load_settings(env)
    for shown in (
        str(settings),
        repr(settings),
        str(settings.public()),
        str(settings.model_dump()),
        *settings.warnings,
    ):
        assert not re.search(r"hunter\d", shown)


def test_public_shows_every_setting_and_masks_the_secrets() -> None:
    public = load_settings({**RUN, "API_SECRET_KEY": KEY, "MAX_ORDER_VALUE": "10.50"}).public()
    assert set(public) == set(FIELDS)
    assert public["DATABASE_URL"] == "postgresql://adapter:***@db1:5432/ledger"
    assert public["API_SECRET_KEY"] == "***"
    assert public["IB_PASSWORD"] is None
    assert public["MAX_ORDER_VALUE"] == "10.50"
    assert public["ETCD_ENDPOINTS"] == ["a:2379", "b:2379", "c:2379"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://adapter@db/ledger", "postgresql://adapter:p%40%2F@db/ledger"),
        (
            "postgresql://adapter@h1:1,h2:2/l?target_session_attrs=read-write",
            "postgresql://adapter:p%40%2F@h1:1,h2:2/l?",
        ),
        (DSN, DSN),
        ("postgresql:///ledger?host=/run/pg", "postgresql:///ledger?host=/run/pg"),
    ],
)
def test_postgres_password_fills_a_url_that_names_none(url: str, expected: str) -> None:
    dsn = load_settings({**RUN, "DATABASE_URL": url, "POSTGRES_PASSWORD": "p@/"}).database_dsn
    assert dsn is not None
    assert dsn.startswith(expected)


# --- .env -------------------------------------------------------------------------------------------------------------


def test_the_environment_stands_over_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("TWS_PORT=4004\nTWS_CLIENT_ID=9\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWS_PORT", "21200")
    settings = load_settings(need="cli")
    assert (settings.tws_port, settings.tws_client_id) == (21200, 9)


def test_an_env_file_with_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(f"SECRET_KEY={KEY}\nTWS_PORT=4002\n")
    path.chmod(0o644)
    assert sentences({}, dotenv=path) == [f"{path} holds SECRET_KEY and can be read by others: chmod 600 {path}"]
    path.chmod(0o600)
    assert load_settings(RUN, dotenv=path).api_secret == KEY


def test_an_env_file_without_a_secret_may_be_readable(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("TWS_PORT=4004\n")
    path.chmod(0o644)
    assert load_settings(RUN, dotenv=path).tws_port == 4004


def test_an_env_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"TWS_PORT=\xff\n")
    assert sentences({}, dotenv=path)[0].startswith(f"{path} cannot be read: ")


def test_a_directory_of_that_name_is_no_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load_settings(RUN, dotenv=tmp_path / ".env").warnings == ()


def test_a_forged_line_in_a_value_does_not_break_the_sentence() -> None:
    said = sentence({"TWS_PORT": "1\nAPI_SECRET_KEY is fine"})
    assert "\n" not in said
    assert "\\n" in said


# --- docs -------------------------------------------------------------------------------------------------------------


def test_the_settings_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == markdown(), "run: python -m ha.config --markdown docs/settings.md"


def test_every_setting_has_its_line_on_the_page() -> None:
    page = markdown()
    rows: list[Any] = re.findall(r"^\| `([A-Z_]+)`", page, re.MULTILINE)
    assert rows[: len(FIELDS)] == list(FIELDS)
    assert all(field.description for name, field in Settings.model_fields.items() if name != "warnings")
