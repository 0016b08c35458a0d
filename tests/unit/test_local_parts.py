"""What the launcher decides without starting anything: ports, environments, delays, URLs, secrets."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from ha.config import Settings, load_settings
from ha.local import secret
from ha.local.console import _text
from ha.local.database import DatabaseRefused, Urls, named, with_user
from ha.local.parts import Commands, Layout, common_env, for_one, migrate_spec, notes, replica_env, replica_spec
from ha.local.ports import Ports, busy, holder
from ha.local.supervise import Event, restart_delay
from ha.local.watchdog import DEFAULT, _seconds


def layout(tmp_path: Path, **env: str) -> Layout:
    return Layout(
        tmp_path, Ports.from_base(21300), Urls("postgresql://o@h/d", "postgresql://a@h/d"), env, {}, Commands()
    )


def test_port_base_places_the_seven_ports_in_the_documented_order() -> None:
    ports = Ports.from_base(21300)
    assert (ports.a, ports.b, ports.gateway, ports.control) == (21301, 21302, 21303, 21304)
    assert (ports.etcd, ports.etcd_peer, ports.postgres) == (21305, 21306, 21307)
    assert (Ports().a, Ports().b, Ports().gateway, Ports().control, Ports().etcd) == (8081, 8082, 4002, 4080, 2379)


@pytest.mark.parametrize("base", [-1, 65529])
def test_a_port_base_without_room_is_refused_with_what_is_allowed(base: int) -> None:
    with pytest.raises(ValueError, match=f"--port-base is {base}; it must be from 0 to 65528"):
        Ports.from_base(base)


def test_a_busy_port_is_found_with_pid_and_command() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = busy({"gateway": port})
        assert found["gateway"].pid == os.getpid()
        assert str(found["gateway"]).startswith(f"pid {os.getpid()} (")
        assert "python" in found["gateway"].command
    assert busy({"gateway": port}) == {}


def test_a_port_held_on_all_addresses_or_over_ipv6_is_busy_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert busy({"x": server.getsockname()[1]})["x"].pid == os.getpid()
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        assert busy({"x": server.getsockname()[1]})["x"].pid == os.getpid()


def test_a_port_in_time_wait_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the server's side closes first and stays in TIME_WAIT
        client.recv(1)
        client.close()
    assert busy({"x": port}) == {}


def test_a_free_port_has_no_holder() -> None:
    port = Ports.free().a
    assert holder(port).pid is None


def test_a_replica_is_told_its_place_and_nothing_of_the_owner(tmp_path: Path) -> None:
    env = replica_env(layout(tmp_path, MIGRATE_DATABASE_URL="postgresql://prod", TWS_PORT="4001"), "b")
    assert env["REPLICA_NAME"] == "b"
    assert (env["HTTP_HOST"], env["HTTP_PORT"], env["ADVERTISE_URL"]) == (
        "127.0.0.1",
        "21302",
        "http://127.0.0.1:21302",
    )
    assert (env["TWS_HOST"], env["TWS_PORT"], env["TRADING_MODE"]) == ("127.0.0.1", "21303", "paper")
    assert env["ETCD_ENDPOINTS"] == "127.0.0.1:21305"
    assert env["DATABASE_URL"] == "postgresql://a@h/d"
    assert env["RUN_DIR"] == str(tmp_path / "run" / "b")
    assert env["LOG_FILE"] == str(tmp_path / "log" / "b.log")
    assert "MIGRATE_DATABASE_URL" not in env


def test_both_replicas_agree_on_gateway_client_and_cluster(tmp_path: Path) -> None:
    a, b = (replica_env(layout(tmp_path), name) for name in "ab")
    for name in ("CLUSTER_NAME", "TWS_CLIENT_ID", "TWS_GATEWAY_ID", "DATABASE_URL", "ETCD_ENDPOINTS"):
        assert a[name] == b[name]
    assert a["TWS_CLIENT_ID"] != "0"


def test_migrate_knows_the_owner_and_the_gateway_and_passes_no_failpoint(tmp_path: Path) -> None:
    env = migrate_spec(layout(tmp_path, FAILPOINTS="takeover.won=kill")).env
    assert env["MIGRATE_DATABASE_URL"] == "postgresql://o@h/d"
    assert env["TWS_GATEWAY_ID"]
    assert "FAILPOINTS" not in env


def test_other_settings_of_the_caller_pass_and_those_for_production_neighbours_do_not() -> None:
    env = {
        "MAX_ORDER_QUANTITY": "100",
        "LEASE_TTL": "3",
        "ETCD_CA": "/etc/ca",
        "POSTGRES_URL": "x",
        "METRICS_PORT": "9",
    }
    env |= {"FENCE_AGENT": "haproxy", "DATABASE_URL_FILE": "/etc/url", "RUN_DIR": "/run/adapter", "FAILPOINTS_a": "x"}
    kept = common_env(env)
    assert {"MAX_ORDER_QUANTITY", "LEASE_TTL"} == kept.keys() - {"no_proxy", "NO_PROXY"}
    assert notes(env) == ["METRICS_PORT is not used here: two replicas on one machine cannot share a port"]


def test_a_secret_file_is_found_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert common_env({"API_SECRET_KEY_FILE": "key"})["API_SECRET_KEY_FILE"] == str(tmp_path / "key")


def test_this_machine_is_never_reached_through_a_proxy() -> None:
    assert common_env({"no_proxy": "intra"})["no_proxy"] == "intra,127.0.0.1,localhost"


def test_the_launchers_own_supervisor_is_none_of_its_children(tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "WATCHDOG": "1.2"}
    kept = replica_env(layout(tmp_path, **env), "a")
    assert not kept.keys() & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
    assert kept["WATCHDOG"] == "1.2"


def test_a_replicas_settings_are_valid_and_warn_of_nothing(tmp_path: Path) -> None:
    env = replica_env(layout(tmp_path), "a")
    assert load_settings(env).warnings == ()


def test_without_the_setting_the_launcher_waits_as_long_as_the_replica_means(tmp_path: Path) -> None:
    default = Settings.model_fields["watchdog"].default
    assert default == DEFAULT
    waits = {"": default, "soon": default, "0": default, "nan": default, "0.9": 0.9}
    assert {text: _seconds(text) for text in waits} == waits


def test_a_setting_with_a_replicas_name_is_for_it_alone(tmp_path: Path) -> None:
    env = {"FAILPOINTS_a": "takeover.won=kill", "LOG_LEVEL_b": "DEBUG"}
    assert for_one(env, "a") == {"FAILPOINTS": "takeover.won=kill"}
    assert replica_env(layout(tmp_path, **env), "b")["LOG_LEVEL"] == "DEBUG"
    assert "FAILPOINTS" not in replica_env(layout(tmp_path, **env), "b")


def test_settings_for_a_part_are_read_at_every_start(tmp_path: Path) -> None:
    extra: dict[str, dict[str, str]] = {}
    place = Layout(tmp_path, Ports(), Urls("o", "a"), {}, extra, Commands())
    assert "FAILPOINTS" not in replica_spec(place, "a").env
    extra["a"] = {"FAILPOINTS": "takeover.won=kill"}
    assert replica_spec(place, "a").env["FAILPOINTS"] == "takeover.won=kill"


def test_a_restart_waits_a_second_and_longer_for_a_part_that_keeps_ending() -> None:
    delays = [restart_delay(n) for n in range(8)]
    assert delays[0] == 1.0
    assert delays == sorted(delays)
    assert delays[-1] == restart_delay(10_000) == 15.0


@pytest.mark.parametrize(
    ("env", "urls"),
    [
        ({}, (None, None)),
        ({"DATABASE_URL": "postgresql://x"}, ("postgresql://x", None)),
        ({"POSTGRES_URL": "postgresql://x"}, ("postgresql://x", None)),
        ({"DATABASE_URL": "a", "MIGRATE_DATABASE_URL": "o"}, ("a", "o")),
        ({"DATABASE_URL": " "}, (None, None)),
    ],
)
def test_the_callers_database_is_found_by_name_and_alias(
    env: dict[str, str], urls: tuple[str | None, str | None]
) -> None:
    assert named(env) == urls


def test_the_owners_url_alone_is_refused() -> None:
    with pytest.raises(DatabaseRefused, match="DATABASE_URL is not"):
        named({"MIGRATE_DATABASE_URL": "postgresql://o"})


def test_a_url_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://x\n")
    assert named({"DATABASE_URL_FILE": str(tmp_path / "url")}) == ("postgresql://x", None)
    with pytest.raises(DatabaseRefused, match="DATABASE_URL_FILE="):
        named({"DATABASE_URL_FILE": str(tmp_path / "none")})


def test_another_user_in_a_url_keeps_hosts_and_parameters() -> None:
    url = "postgresql://owner:p%40ss@h1:5432,h2:5433/db?target_session_attrs=read-write"
    expected = "postgresql://adapter:a%2Fb@h1:5432,h2:5433/db?target_session_attrs=read-write"
    assert with_user(url, "adapter", "a/b") == expected


def test_secrets_are_private_and_stay_the_same(tmp_path: Path) -> None:
    made = secret.load(tmp_path)
    assert made.fresh
    assert secret.load(tmp_path) != made, "not kept before the database knows them"
    secret.keep(tmp_path, made)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o600
    kept = secret.load(tmp_path)
    assert (kept.owner, kept.adapter, kept.fresh) == (made.owner, made.adapter, False)


def test_secrets_that_others_can_read_or_that_are_damaged_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text(json.dumps({"owner": "o", "adapter": "a"}))
    path.chmod(0o644)
    with pytest.raises(secret.SecretsRefused, match="chmod 600"):
        secret.load(tmp_path)
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(secret.SecretsRefused, match="damaged"):
        secret.load(tmp_path)


def test_a_death_and_a_released_lease_are_told_only_while_the_pair_runs() -> None:
    ended = Event("ended", "a", 7, "killed by SIGKILL")
    assert _text(ended, running=True) == "a (pid 7) ended: killed by SIGKILL"
    assert _text(ended, running=False) is None
    assert _text(Event("ready", "etcd", 7, "0.4 s"), running=False) == "etcd (pid 7) ready after 0.4 s"
