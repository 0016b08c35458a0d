"""The fence agents without a relay: what HAProxy's answers mean, whom to drop, commands, and when to hold (R15, R16)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from loguru import logger

from ha.fence import STRANGER_REMEMBERED, Dropped, FenceRule, Holder, NothingKnown, Wait, Who
from ha.fence_command import Command, arguments
from ha.fence_haproxy import Haproxy
from ha.haproxy import (
    Doors,
    RelayError,
    RelaySession,
    Worker,
    address_of,
    ended,
    frontends,
    has_no_worker,
    sessions,
    sort_out,
    workers,
)

# Captured from HAProxy 2.6.12 (Debian 12), trailing blanks and all.
SHOW_PROC = (
    "#<PID>          <type>          <reloads>       <uptime>        <version>      \n"
    "25182           master          1 [failed: 0]   0d00h00m52s     2.6.12-1+deb12u4\n"
    "# workers\n"
    "27176           worker          0               0d00h00m01s     2.6.12-1+deb12u4\n"
    "# old workers\n"
    "25185           worker          1               0d00h00m52s     2.6.12-1+deb12u4\n"
    "# programs\n\n"
)
AFTER_A_FAILED_RELOAD = (
    "#<PID>          <type>          <reloads>       <uptime>        <version>      \n"
    "3960            master          1 [failed: 1]   0d00h00m03s     2.6.12-1+deb12u4\n"
    "# workers\n"
    "3963            worker          1               0d00h00m03s     2.6.12-1+deb12u4\n"
    "# programs\n\n"
)
SHOW_SESS = (
    "0x557da9693f00: proto=tcpv4 src=127.0.0.1:47640 fe=gateway_a be=gateway srv=gw ts=00 epoch=0 age=1s calls=2 rate=1"
    " cpu=0 lat=0 rq[f=848202h,i=0,an=00h,rx=23d23h,wx=,ax=] rp[f=80008000h,i=0,an=00h,rx=23d23h,wx=,ax=]"
    " scf=[8,0h,fd=15] scb=[8,1h,fd=16] exp=0s rc=0 c_exp=\n"
    "0x557da97a9f70: proto=tcpv6 src=fd00::2:41184 fe=gateway_b be=gateway srv=gw ts=00 epoch=0 age=1h2m calls=2 rate=1"
    " cpu=0 lat=0 rq[f=848202h,i=0,an=00h,rx=23d23h,wx=,ax=] rp[f=80008000h,i=0,an=00h,rx=23d23h,wx=,ax=]"
    " scf=[8,0h,fd=17] scb=[8,1h,fd=18] exp=0s rc=0 c_exp=\n"
    "0x557da97aaba0: proto=tcpv4 src=127.0.0.1:42254 fe=bystanders be=gateway srv=gw ts=00 epoch=0 age=1s calls=2 rate=1"
    " cpu=0 lat=0 rq[f=848202h,i=0,an=00h,rx=23d23h,wx=,ax=] rp[f=80008000h,i=0,an=00h,rx=23d23h,wx=,ax=]"
    " scf=[8,0h,fd=19] scb=[8,1h,fd=20] exp=0s rc=0 c_exp=\n"
    "0x557da97ab5a0: proto=sockpair src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s calls=1 rate=1 cpu=0"
    " lat=0 rq[f=c08002h,i=0,an=00h,rx=10s,wx=,ax=] rp[f=80008002h,i=0,an=00h,rx=,wx=,ax=] scf=[8,0h,fd=21]"
    " scb=[8,1h,fd=-1] exp=10s rc=0 c_exp=\n\n"
)
SHOW_STAT = (
    "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,\n"
    "gateway_a,FRONTEND,,,1,1,512,1,0,0,0,0,0,,,,,OPEN,,\n"
    "gateway_b,FRONTEND,,,1,1,512,1,0,0,0,0,0,,,,,OPEN,,\n"
    "gateway,BACKEND,0,0,1,1,52,1,0,0,0,0,,0,0,0,0,UP,1,\n\n"
)
UNKNOWN_COMMAND = (
    "Unknown command, but maybe one of the following ones is a better match:\n"
    "  quit                                    : disconnect\n\n"
)
NO_SUCH_PID = "Can't find the target PID matching the prefix '@!99999'\n"

DOORS = Doors("gateway_", "gateway_b")


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What was logged, as `LEVEL sentence`."""
    lines: list[str] = []
    number = logger.add(lambda message: lines.append(message.rstrip("\n")), format="{level} {message}", level="DEBUG")
    yield lines
    logger.remove(number)


# ---- what HAProxy answers


def test_old_workers_are_workers():
    assert workers(SHOW_PROC) == [Worker(27176, old=False), Worker(25185, old=True)]


def test_a_worker_that_outlived_a_failed_reload_is_the_present_one():
    assert workers(AFTER_A_FAILED_RELOAD) == [Worker(3963, old=False)]


def test_sessions_are_read_with_their_frontend_and_far_end():
    assert sessions(SHOW_SESS)[:3] == [
        RelaySession("0x557da9693f00", "gateway_a", "127.0.0.1:47640", "1s"),
        RelaySession("0x557da97a9f70", "gateway_b", "fd00::2:41184", "1h2m"),
        RelaySession("0x557da97aaba0", "bystanders", "127.0.0.1:42254", "1s"),
    ]


def test_frontends_are_told_from_backends():
    assert frontends(SHOW_STAT) == {"gateway_a", "gateway_b"}


@pytest.mark.parametrize("answer", ["", "\n", UNKNOWN_COMMAND, NO_SUCH_PID, "Permission denied\n\n"])
def test_an_answer_that_is_none_is_never_read_as_nobody(answer: str):
    for read in (workers, sessions, frontends):
        with pytest.raises(RelayError):
            read(answer)  # type: ignore[operator]


def test_a_list_of_sessions_that_was_cut_short_is_no_list():
    whole = len(SHOW_SESS)
    for length in range(whole):
        with pytest.raises(RelayError):
            sessions(SHOW_SESS[:length])


@pytest.mark.parametrize("answer", ["", "\n", "No such session (use 'show sess').\n\n", NO_SUCH_PID])
def test_a_session_is_over_when_it_was_ended_or_could_not_be_found(answer: str):
    assert ended(answer)


def test_a_refusal_to_end_a_session_names_what_the_socket_lacks():
    with pytest.raises(RelayError, match="level admin"):
        ended("Permission denied\n\n")


def test_a_worker_that_ended_meanwhile_is_known_by_its_sentence():
    assert has_no_worker(NO_SUCH_PID)
    assert not has_no_worker(SHOW_SESS)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/haproxy-master.sock", "/run/haproxy-master.sock"),
        ("./master.sock", "./master.sock"),
        ("10.8.0.1:4100", ("10.8.0.1", 4100)),
        ("[fd00::1]:4100", ("fd00::1", 4100)),
    ],
)
def test_the_socket_is_a_path_or_a_host_and_port(text: str, address: object):
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["master.sock", "host", "host:", ":4100", "host:0", "host:70000", "host:http", ""])
def test_anything_else_is_refused_with_a_sentence(text: str):
    with pytest.raises(ValueError, match="neither a path with a slash in it nor HOST:PORT"):
        address_of(text)


# ---- whom to drop


@pytest.mark.rule(15)
def test_every_session_of_both_frontends_is_dropped_but_ours_and_bystanders_are_not():
    found = [
        RelaySession("0x1", "gateway_a", "10.0.0.1:1", "9s"),
        RelaySession("0x2", "gateway_b", "10.0.0.2:2", "9s"),
        RelaySession("0x3", "gateway_b", "10.0.0.2:3", "0s"),
        RelaySession("0x4", "people", "10.0.0.3:4", "9s"),
        RelaySession("0x5", "GLOBAL", "unix:1", "0s"),
    ]
    ending, left = sort_out(found, DOORS, open_now=["10.0.0.2:3"], dialed=["10.0.0.2:2"], strangers=True)
    assert [(session.id, holder.who) for session, holder in ending] == [("0x1", Who.OTHER), ("0x2", Who.OURSELVES)]
    assert left == []


@pytest.mark.rule(15)
def test_an_address_of_ours_is_ours_at_our_own_door_only():
    found = [RelaySession("0x1", "gateway_a", "10.0.0.2:3", "9s")]
    ending, _ = sort_out(found, DOORS, open_now=["10.0.0.2:3"], dialed=["10.0.0.2:3"], strangers=True)
    assert [holder.who for _, holder in ending] == [Who.OTHER]


@pytest.mark.rule(16)
@pytest.mark.parametrize("allowed", [True, False])
def test_a_stranger_is_ended_only_while_that_is_allowed(allowed: bool):
    found = [RelaySession("0x1", "gateway_a", "10.0.0.1:1", "9s"), RelaySession("0x2", "gateway_b", "10.0.0.9:9", "9s")]
    ending, left = sort_out(found, DOORS, open_now=(), dialed=(), strangers=allowed)
    assert [session.id for session, _ in ending] == (["0x1", "0x2"] if allowed else ["0x1"])
    assert [holder.address for holder in left] == ([] if allowed else ["10.0.0.9:9"])


# ---- when to hold

STRANGER = Holder("gateway_b", "10.0.0.9:9", "9s", Who.STRANGER)
BACK_AGAIN = Holder("gateway_b", "10.0.0.9:10", "0s", Who.STRANGER)
OTHER = Holder("gateway_a", "10.0.0.1:1", "9s", Who.OTHER)
OURS = Holder("gateway_b", "10.0.0.2:2", "0s", Who.OURSELVES)


@pytest.mark.rule(16)
def test_the_other_replica_is_fenced_as_often_as_it_takes_within_the_deadline():
    rule = FenceRule(30.0)
    for now in range(100, 130):
        assert rule.may_drop_strangers(now)
        assert rule.after(Dropped((OTHER, OURS)), now) is None
    why = rule.after(Dropped((OTHER,)), 130.0)
    assert why is not None
    assert "30 s" in why
    assert "10.0.0.1:1" in why


@pytest.mark.rule(16)
def test_a_stranger_is_fenced_at_most_once_and_then_everything_is_held_with_its_address():
    rule = FenceRule(30.0)
    assert rule.after(Dropped((OTHER, STRANGER)), 1.0) is None
    assert not rule.may_drop_strangers(1.1)
    why = rule.after(Dropped((), (BACK_AGAIN,)), 1.1)
    assert why is not None
    assert "10.0.0.9:10 through gateway_b" in why


@pytest.mark.rule(16)
def test_a_dropped_stranger_that_is_still_in_the_list_has_not_come_back():
    rule = FenceRule(30.0)
    rule.after(Dropped((STRANGER,)), 1.0)
    assert rule.after(Dropped((), (STRANGER,)), 1.1) is None
    assert rule.after(Dropped((), (STRANGER, BACK_AGAIN)), 1.2) is not None


@pytest.mark.rule(16)
def test_a_stranger_that_comes_back_in_a_later_phase_is_not_fenced_again():
    rule = FenceRule(30.0)
    rule.after(Dropped((STRANGER,)), 1.0)
    rule.begin()
    assert not rule.may_drop_strangers(1.0 + STRANGER_REMEMBERED)
    assert rule.may_drop_strangers(1.1 + STRANGER_REMEMBERED)


@pytest.mark.rule(16)
def test_an_unknown_holder_is_waited_for_until_the_deadline():
    rule = FenceRule(30.0)
    unknown = NothingKnown("the agent `wait` looks at nothing")
    assert rule.after(unknown, 100.0) is None
    assert rule.after(unknown, 129.9) is None
    why = rule.after(unknown, 130.0)
    assert why is not None
    assert "the agent `wait` looks at nothing" in why


@pytest.mark.rule(16)
def test_the_deadline_counts_from_the_first_refusal_of_its_phase():
    rule = FenceRule(30.0)
    assert rule.after(Dropped(), 100.0) is None
    rule.begin()
    assert rule.after(Dropped(), 200.0) is None
    assert rule.after(Dropped(), 229.0) is None
    why = rule.after(Dropped(), 230.0)
    assert why is not None
    assert "directly" in why, "nobody came through the relay: the sentence says where to look"


# ---- the agents where there is nothing to ask


async def test_the_agent_wait_knows_nothing():
    assert isinstance(await Wait(0.0).drop_old_session(), NothingKnown)


@contextlib.asynccontextmanager
async def master_says(path: Path, answer: bytes | None) -> AsyncIterator[None]:
    """Something that listens where HAProxy's master should, and answers that; None = nothing, for ever."""
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readline()
            if answer is None:
                await over.wait()
            else:
                writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(talk, str(path))
    try:
        yield
    finally:
        over.set()
        server.close()


@pytest.mark.rule(15)
@pytest.mark.parametrize(
    ("answer", "reason"),
    [(None, "did not answer"), (b"", "no worker"), (b"\xff\x00\xfe", "no worker"), (b"x" * (5 << 20), "longer than")],
)
async def test_a_relay_that_does_not_answer_as_it_should_is_a_logged_sentence(
    answer: bytes | None, reason: str, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # a UNIX socket's name is short
    async with master_says(Path("./m"), answer):
        outcome = await asyncio.wait_for(Haproxy("./m", "b", deadline=0.3, pause=0.0).drop_old_session(), 2)
    assert isinstance(outcome, NothingKnown)
    assert reason in outcome.reason
    assert [line for line in said if line.startswith("ERROR") and reason in line]


@pytest.mark.rule(15)
@pytest.mark.parametrize("address", ["/no/such/socket", "127.0.0.1:1", "no-such-host.invalid:4100"])
async def test_a_relay_that_is_not_there_is_a_logged_sentence(address: str, said: list[str]):
    outcome = await asyncio.wait_for(Haproxy(address, "b", pause=0.0).drop_old_session(), 3)
    assert isinstance(outcome, NothingKnown)
    assert [line for line in said if line.startswith("ERROR") and address in line]


# ---- the agent `command`


def command(script: str, **kwargs: object) -> Command:
    text = shlex.join([sys.executable, "-I", "-S", "-c", script])
    settings: dict[str, object] = {
        "cluster": "desk1", "replica": "b", "client_id": 17, "gateway_id": "gw", "deadline": 20.0, "pause": 0.0
    }  # fmt: skip
    return Command(text, **(settings | kwargs))  # type: ignore[arg-type]


async def test_a_command_learns_whom_to_fence_and_none_of_our_secrets(said: list[str]):
    agent = command(
        "import os; print(sorted(k + '=' + v for k, v in os.environ.items() if k.startswith('ADAPTER')), "
        "'DATABASE_URL' in os.environ, 'PATH' in os.environ)",
        environ={**os.environ, "DATABASE_URL": "postgresql://u:secret@h/d"},
    )
    assert isinstance(await agent.drop_old_session(), NothingKnown)
    (line,) = said
    assert line.startswith("INFO")
    assert "exit code 0" in line
    for word in ("ADAPTER_CLUSTER=desk1", "ADAPTER_REPLICA=b", "ADAPTER_CLIENT_ID=17", "ADAPTER_GATEWAY_ID=gw"):
        assert word in line
    assert line.endswith("False True")


async def test_a_failing_command_is_an_error_with_its_output(said: list[str]):
    agent = command("import sys; print('no'); print('power', file=sys.stderr); sys.exit(3)")
    assert isinstance(await agent.drop_old_session(), NothingKnown)
    (line,) = said
    assert line.startswith("ERROR")
    assert "exit code 3" in line
    assert "no" in line
    assert "power" in line


async def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path, said: list[str]):
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "print('still here', flush=True); time.sleep(60)"
    )
    agent = command(script, deadline=1.0)
    assert isinstance(await asyncio.wait_for(agent.drop_old_session(), 5), NothingKnown)
    (line,) = said
    assert line.startswith("ERROR")
    assert "killed after 1 s" in line
    assert "still here" in line
    child = int((tmp_path / "pid").read_text())
    async with asyncio.timeout(5):
        while running(child):
            await asyncio.sleep(0.01)


def running(pid: int) -> bool:
    """Whether the process exists and is no zombie that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_command_that_leaves_a_child_behind_does_not_hold_the_takeover_up(tmp_path: Path, said: list[str]):
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(3)'])\n"
        "print('done', flush=True)"
    )
    await asyncio.wait_for(command(script).drop_old_session(), 2.5)
    assert ["exit code 0" in line and "done" in line for line in said] == [True]


async def test_a_command_is_killed_when_the_takeover_is_given_up(tmp_path: Path):
    pid = tmp_path / "pid"
    agent = command(f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    running_it = asyncio.create_task(agent.drop_old_session())
    async with asyncio.timeout(5):
        while not pid.exists() or not pid.read_text():
            await asyncio.sleep(0.01)
    running_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_it
    assert not running(int(pid.read_text()))


async def test_a_command_that_is_not_there_is_a_logged_sentence(said: list[str]):
    agent = Command("/no/such/fence --now", cluster="c", replica="b", client_id=1, gateway_id="g", pause=0.0)
    assert isinstance(await agent.drop_old_session(), NothingKnown)
    (line,) = said
    assert line.startswith("ERROR")
    assert "/no/such/fence could not be started" in line


async def test_a_long_output_is_read_to_its_end_and_logged_in_part(said: list[str]):
    await command("print('x' * 3_000_000); print('last words')").drop_old_session()
    (line,) = said
    assert "last words" in line
    assert len(line) < 3000


async def test_a_command_rests_between_two_runs(said: list[str]):
    now = 100.0
    agent = command("print('ran')", rest=5.0, clock=lambda: now)
    for now in (100.0, 101.0, 104.9, 105.0):  # noqa: B007 - the clock reads it
        await agent.drop_old_session()
    assert len(said) == 2


@pytest.mark.rule(16)
async def test_a_command_is_not_run_while_strangers_must_be_left_alone(said: list[str]):
    await command("print('ran')").drop_old_session(strangers=False)
    assert said == []


def test_a_command_is_cut_into_words_and_no_shell_reads_it():
    assert arguments("fence --name 'a b' $HOME; x") == ["fence", "--name", "a b", "$HOME;", "x"]


@pytest.mark.parametrize(("text", "sentence"), [("fence 'a", "cannot be cut into words"), ("  ", "is empty")])
def test_a_command_that_is_none_is_refused_with_a_sentence(text: str, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        arguments(text)
