"""The local launcher with real etcd, PostgreSQL and stand-in gateway; replicas are small programs with a file lock."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engine.clock import boottime
from ha.local import releaser
from ha.local.database import with_user
from ha.local.opening import lacking
from ha.local.pair import LocalPair, StartFailed
from ha.local.parts import Commands
from ha.local.ports import Ports, busy
from ha.local.probe import answers
from ha.local.supervise import Event

REPLICA = '''
    """A replica with nothing but its roles: whoever holds the lock on ../leader leads."""
    import fcntl, http.server, os, signal, subprocess, sys, threading
    lock = open("../leader", "w")
    leading = threading.Event()

    def campaign():
        fcntl.flock(lock, fcntl.LOCK_EX)
        leading.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            good = {"/livez": True, "/readyz": True, "/leader": leading.is_set()}.get(self.path, False)
            self.send_response(200 if good else 503)
            self.end_headers()

        def log_message(self, *_):
            pass

    assert os.environ["DATABASE_URL"] and "MIGRATE_DATABASE_URL" not in os.environ
    print("told:", os.environ.get("FAILPOINTS"), flush=True)
    if os.environ.get("CRASH"):
        sys.exit("this replica was told to crash")
    if os.environ.get("FORK"):
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if os.environ.get("DEAF") else lambda *_: os._exit(0))
    threading.Thread(target=campaign, daemon=True).start()
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["HTTP_PORT"])), Handler).serve_forever()
'''
MIGRATE = '''
    """Proves that both roles can log in and what each may do."""
    import os, subprocess, sys
    import psycopg
    owner, adapter = os.environ["MIGRATE_DATABASE_URL"], os.environ["DATABASE_URL"]
    with psycopg.connect(owner) as db:
        db.execute("CREATE TABLE IF NOT EXISTS starts (at timestamptz DEFAULT now())")
        db.execute("GRANT SELECT ON starts TO adapter")
        db.execute("INSERT INTO starts DEFAULT VALUES")
    with psycopg.connect(adapter) as db:
        print("starts:", db.execute("SELECT count(*) FROM starts").fetchone()[0])
'''
RELEASE = '''
    """Answers as the real one; writes down the moment at which it was asked."""
    import json, os, sys, time
    print('{"ready": true}', flush=True)
    for line in sys.stdin:
        if os.environ.get("HANG"):
            time.sleep(1000)
        with open(line.strip() + "/asked", "a") as file:
            file.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME)}\\n")
        print(json.dumps({"outcome": "nothing", "reason": "stand-in", "ms": 0.1}), flush=True)
'''
GATEWAY = """
    import json, signal, sys
    print(json.dumps({"ready": True}), flush=True)
    signal.sigwait({signal.SIGTERM})
"""


LAUNCHER = """
    import sys
    from pathlib import Path
    from ha.local import console
    from ha.local.parts import Commands

    directory, base, scripts = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    parts = {name: (sys.executable, str(scripts / f"{name}.py")) for name in ("migrate", "replica", "release")}
    sys.exit(console.up(directory, json=True, port_base=base, restart=True, commands=Commands(**parts)))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where everything of these tests lies; they use one DIR one after the other, as a person does."""
    where = tmp_path_factory.mktemp("local")
    programs = {"migrate": MIGRATE, "replica": REPLICA, "release": RELEASE, "launcher": LAUNCHER}
    for name, text in programs.items():
        (where / f"{name}.py").write_text(textwrap.dedent(text))
    yield where
    shutil.rmtree(where)  # databases are too large to keep


@pytest.fixture
def directory(place: Path) -> Path:
    """DIR of a pair that may have been up before, with its database; without its logs and run directories."""
    for name in ("log", "run"):
        shutil.rmtree(place / "pair" / name, ignore_errors=True)
    return place / "pair"


@pytest.fixture
def make_pair(directory: Path, place: Path) -> Callable[..., LocalPair]:
    commands = Commands(
        **{name: (sys.executable, str(place / f"{name}.py")) for name in ("migrate", "replica", "release")}
    )

    def make(where: Path = directory, **more: Any) -> LocalPair:
        events: list[Event] = []
        pair = LocalPair(where, **{"ports": Ports.free(), "commands": commands, "on_event": events.append} | more)
        pair.events = events  # type: ignore[attr-defined]
        return pair

    return make


class Launched:
    """`adapter up` in a process of its own, with the stand-ins."""

    def __init__(self, directory: Path, place: Path, **env: str) -> None:
        self.directory = directory
        base = free_base()
        self.process = subprocess.Popen(
            [sys.executable, str(place / "launcher.py"), str(directory), str(base), str(place)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | env,
            cwd=place,
            text=True,
        )

    def ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        return json.loads(line)


@pytest.fixture
def launch(directory: Path, place: Path) -> Iterator[Callable[..., Launched]]:
    started: list[Launched] = []

    def start(**env: str) -> Launched:
        started.append(Launched(directory, place, **env))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        for stream in (one.process.stdout, one.process.stderr):
            if stream is not None:
                stream.close()
    eventually(lambda: not processes_of(place), 15)


def free_base() -> int:
    """A base whose seven ports are free now."""
    while True:
        base = Ports.free().a
        if not busy(Ports.from_base(base).named()):
            return base


def processes_of(directory: Path) -> list[str]:
    """Every living process that works in `directory` or names it, the tests' own runner aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), os.getppid()):
            continue
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if command and (str(directory) in command or os.readlink(entry / "cwd").startswith(str(directory))):
                found.append(f"{entry.name} {command}")
    return found


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def kinds(pair: LocalPair, part: str) -> list[str]:
    return [event.kind for event in pair.events if event.part == part]  # type: ignore[attr-defined]


async def test_a_pair_comes_up_says_where_it_is_ends_whole_and_continues_with_its_data(
    make_pair: Callable[..., LocalPair], place: Path
) -> None:
    pair = make_pair(place / "new")
    async with pair:
        info = pair.info()
        assert info["ready"] is True
        assert [replica["name"] for replica in info["replicas"]] == ["a", "b"]
        assert info["replicas"][0]["url"] == f"http://127.0.0.1:{pair.ports.a}"
        assert info["gateway"]["control"] == f"http://127.0.0.1:{pair.ports.control}"
        assert info["etcd"] == [f"127.0.0.1:{pair.ports.etcd}"]
        assert json.loads((pair.directory / "pair.json").read_text()) == info
        for name in ("pair.json", "secrets"):
            assert (pair.directory / name).stat().st_mode & 0o077 == 0
        check_database(info["database_url"], info["migrate_database_url"])
        assert await answers(pair.ports.etcd, "/health")
    assert not processes_of(place)
    assert not (pair.directory / "pair.json").exists()
    assert not busy(pair.ports.named())

    again = make_pair(place / "new")  # on other ports
    async with again:
        assert (again.directory / "log" / "migrate.log").read_text().split() == ["starts:", "1", "starts:", "2"]
    assert not processes_of(place)


def check_database(adapter_url: str, owner_url: str) -> None:
    with psycopg.connect(adapter_url) as db:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert db.execute(f"SHOW {setting}").fetchone() == ("on",)
        assert db.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert db.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        role = "SELECT rolsuper, pg_has_role('adapter_owner', 'MEMBER') FROM pg_roles WHERE rolname = current_user"
        assert db.execute(role).fetchone() == (False, False)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("INSERT INTO starts DEFAULT VALUES")
    with psycopg.connect(owner_url) as db:
        assert db.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(with_user(adapter_url, "postgres", "postgres"))


@pytest.mark.rule(34)
async def test_the_lease_of_a_dead_replica_is_asked_back_at_once_and_before_its_restart(
    make_pair: Callable[..., LocalPair],
) -> None:
    pair = make_pair()
    async with pair:
        leader = "a" if await answers(pair.ports.a, "/leader") else "b"
        other = "b" if leader == "a" else "a"
        killed_at = boottime()
        old = await pair.kill(leader)
        await until(lambda: kinds(pair, leader)[-1] == "ready")
        order = ["started", "ready", "ended", "released", "restarted", "ready"]
        assert kinds(pair, leader) == order
        asked = float((pair.directory / "run" / leader / "asked").read_text())
        restarted_at = next(e.at for e in pair.events if e.part == leader and e.kind == "restarted")  # type: ignore[attr-defined]
        assert 0 <= asked - killed_at < 0.5
        assert restarted_at - asked > 0.25, "a restart at once would take the processor from the takeover"
        assert await answers(getattr(pair.ports, other), "/leader")
        pids = {replica.name: replica.pid for replica in pair.replicas}
        assert pids[leader] not in (None, old)
        assert json.loads((pair.directory / "pair.json").read_text())["replicas"] == pair.info()["replicas"]


@pytest.mark.rule(34)
async def test_a_release_that_hangs_is_ended_before_the_replica_is_restarted(
    make_pair: Callable[..., LocalPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later it would give back the lease that the restarted replica has just been granted."""
    monkeypatch.setattr(releaser, "ANSWER_WITHIN", 1.5)  # longer than the pause before a restart
    pair = make_pair(part_env={"release": {"HANG": "1"}})
    async with pair:
        await pair.kill("a")
        await until(lambda: kinds(pair, "a")[-1] == "ready")
        pair.part_env.clear()  # the end of the test need not wait for it
        assert kinds(pair, "a") == ["started", "ready", "ended", "released", "restarted", "ready"]
        at = {(e.part, e.kind): e for e in pair.events}  # type: ignore[attr-defined]
        assert at["a", "released"].detail.startswith("not known to be given back")
        assert at["release", "ended"].at < at["a", "restarted"].at
        await until(lambda: kinds(pair, "release")[-2:] == ["restarted", "ready"])


async def test_without_restart_a_dead_replica_stays_dead_and_the_other_parts_come_back(
    make_pair: Callable[..., LocalPair],
) -> None:
    pair = make_pair(restart=False)
    pair.supervisor.restart_after = 0.1
    async with pair:
        await pair.kill("a")
        assert pair.replicas[0].pid is None
        for part in ("etcd", "postgres", "gateway", "release"):
            await pair.kill(part)
            await until(lambda part=part: kinds(pair, part)[-2:] == ["restarted", "ready"])
        assert kinds(pair, "a")[-1] == "released"
        with pytest.raises(LookupError, match="a is not running"):
            await pair.kill("a")
        await pair.supervisor.respawn("a")  # by hand
        assert pair.replicas[0].pid is not None


async def test_a_part_that_cannot_start_is_named_with_its_last_words_and_nothing_stays(
    make_pair: Callable[..., LocalPair], place: Path
) -> None:
    pair = make_pair(part_env={"b": {"CRASH": "1"}})
    with pytest.raises(StartFailed, match=r"(?s)^b ended: exit code 1.*this replica was told to crash"):
        await pair.start()
    assert not processes_of(place)
    assert not (pair.directory / "pair.json").exists()


async def test_settings_for_one_replica_reach_it_alone(make_pair: Callable[..., LocalPair]) -> None:
    pair = make_pair(env=os.environ | {"FAILPOINTS_b": "takeover.won=sleep:0"})
    async with pair:
        logs = {name: (pair.directory / "log" / f"{name}.out").read_text().strip() for name in "ab"}
    assert logs == {"a": "told: None", "b": "told: takeover.won=sleep:0"}


def test_a_launcher_killed_with_9_leaves_no_process_and_the_next_one_goes_on(
    launch: Callable[..., Launched], place: Path
) -> None:
    first = launch(FORK="1")
    info = first.ready()
    os.kill(info["replicas"][0]["pid"], signal.SIGSTOP)  # a stopped process obeys SIGKILL only
    assert any("sleep 1000" in line for line in processes_of(place))
    first.process.kill()
    first.process.wait()
    second = launch()  # at once: it waits for what is still being cleared up
    again = second.ready()
    assert not {*info["pids"].values()} & {*again["pids"].values()}
    assert not any("sleep 1000" in line for line in processes_of(place))
    second.process.kill()
    second.process.wait()
    eventually(lambda: not processes_of(place))
    assert not (place / "pair" / "pair.json").exists()


def test_without_its_guardian_too_a_killed_launcher_leaves_no_part(
    launch: Callable[..., Launched], place: Path
) -> None:
    launched = launch()
    info = launched.ready()
    launched.process.send_signal(signal.SIGSTOP)  # so that it cannot replace the guardian
    os.kill(info["pids"]["guardian"], signal.SIGKILL)
    launched.process.kill()
    launched.process.wait()
    eventually(lambda: not processes_of(place))


async def test_a_guardian_that_dies_is_replaced(make_pair: Callable[..., LocalPair]) -> None:
    pair = make_pair()
    async with pair:
        old = pair.info()["pids"]["guardian"]
        os.kill(old, signal.SIGKILL)
        await until(lambda: pair.info()["pids"].get("guardian") not in (None, old))


def test_a_directory_in_use_is_refused_with_the_launcher_that_has_it(launch: Callable[..., Launched]) -> None:
    first = launch()
    first.ready()
    second = launch()
    out, err = second.process.communicate(timeout=20)
    assert (second.process.returncode, out) == (1, "")
    assert f"is in use by another launcher (pid {first.process.pid})" in err
    assert first.process.poll() is None


def test_up_ends_in_order_on_sigterm_and_at_once_on_the_second_signal(launch: Callable[..., Launched]) -> None:
    calm = launch()
    calm.ready()
    calm.process.send_signal(signal.SIGTERM)
    out, _ = calm.process.communicate(timeout=20)
    assert (calm.process.returncode, out) == (0, "")

    hurried = launch(DEAF="1")  # its replicas do not obey SIGTERM
    hurried.ready()
    began = time.monotonic()
    hurried.process.send_signal(signal.SIGINT)
    assert hurried.process.stderr is not None
    while "stopping" not in hurried.process.stderr.readline():  # two at once would be one
        assert hurried.process.poll() is None
    hurried.process.send_signal(signal.SIGINT)
    hurried.process.communicate(timeout=20)
    assert hurried.process.returncode == 0
    assert time.monotonic() - began < 4, "it waited for replicas that it was told to kill"


def test_a_reader_that_goes_away_does_not_end_the_pair(launch: Callable[..., Launched], place: Path) -> None:
    launched = launch()
    info = launched.ready()
    for stream in (launched.process.stdout, launched.process.stderr):
        assert stream is not None
        stream.close()
    os.kill(info["replicas"][0]["pid"], signal.SIGKILL)  # which it would tell
    pair_file = place / "pair" / "pair.json"
    eventually(
        lambda: json.loads(pair_file.read_text())["replicas"][0]["pid"] not in (None, info["replicas"][0]["pid"])
    )
    launched.process.send_signal(signal.SIGTERM)
    assert launched.process.wait(timeout=20) == 0
    assert not processes_of(place)


async def test_a_start_that_takes_too_long_ends_with_a_sentence_and_nothing_stays(
    make_pair: Callable[..., LocalPair], place: Path
) -> None:
    pair = make_pair(place / "slow", ready_within=0.3)  # shorter than initdb
    with pytest.raises(StartFailed, match=r"not ready after 0\.3 s"):
        await pair.start()
    assert not processes_of(place)


async def test_the_callers_own_database_is_used_and_none_is_started(
    make_pair: Callable[..., LocalPair], place: Path
) -> None:
    host = make_pair()
    async with host:
        urls = host.info()["database_url"], host.info()["migrate_database_url"]
        guest = make_pair(place / "guest", env=os.environ | {"DATABASE_URL": urls[0], "MIGRATE_DATABASE_URL": urls[1]})
        async with guest:
            assert (guest.info()["database_url"], guest.info()["migrate_database_url"]) == urls
            assert "postgres" not in guest.info()["pids"]
            said = await lacking(guest.supervisor.parts.values(), guest.ports)
            assert said.startswith("\n  a: /readyz 200"), "what a start that takes too long would show"
        assert not (place / "guest" / "postgres").exists()


def test_a_busy_port_is_named_with_its_holder_and_nothing_is_started(place: Path, tmp_path: Path) -> None:
    base = free_base()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + 3))
        taken.listen()
        done = subprocess.run(
            [sys.executable, str(place / "launcher.py"), str(tmp_path / "pair"), str(base), str(place)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"port {base + 3} (gateway) is in use by pid {os.getpid()} (" in done.stderr
    assert not (tmp_path / "pair" / "etcd").exists()
    assert not (tmp_path / "pair" / "postgres").exists()
