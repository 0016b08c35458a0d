"""etcd that asks who we are: client certificates, and user and password with tokens that end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.clock import boottime
from ha import etcd_runfile
from ha.etcd_access import EtcdAccess
from ha.etcd_port import EtcdLease
from ha.lease import Held, Unknown
from ha.release import release
from tests.integration.etcd_fixture import Cluster, etcd_cluster
from tests.integration.etcd_proxy import proxy
from tests.integration.lease_contract import TIMING, Heard, record, seen, until, won


class Certificates:
    """An authority and what it signed, made with the openssl command."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._run("req", "-x509", *self._new("ca"), "-subj", "/CN=test-ca", "-out", "ca.crt", "-days", "2")
        self.ca = directory / "ca.crt"

    def sign(self, name: str, address: str = "127.0.0.1", days: str = "2") -> tuple[Path, Path]:
        """A certificate for an address, and its key."""
        self._run("req", *self._new(name), "-subj", f"/CN={name}", "-out", f"{name}.csr")
        (self.directory / f"{name}.ext").write_text(f"subjectAltName=IP:{address}\n")
        signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext"]
        self._run("x509", "-req", "-in", f"{name}.csr", *signing, "-days", days, "-out", f"{name}.crt")
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    @staticmethod
    def _new(name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]

    def _run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def etcd_with_tls(certificates: Certificates) -> Iterator[Cluster]:
    with tls_etcd(certificates, "server") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def etcd_with_users() -> Iterator[Cluster]:
    with etcd_cluster(1, options=["--bcrypt-cost", "4"]) as cluster:
        cluster.ctl("user", "add", "root:rootpw")
        cluster.ctl("user", "grant-role", "root", "root")
        cluster.ctl("user", "add", "adapter:secret")
        cluster.ctl("role", "add", "adapter")
        cluster.ctl("role", "grant-permission", "--prefix", "adapter", "readwrite", "/adapter/")
        cluster.ctl("user", "grant-role", "adapter", "adapter")
        cluster.ctl("auth", "enable")
        yield cluster


@contextlib.contextmanager
def tls_etcd(certificates: Certificates, server: str, **signing: str) -> Iterator[Cluster]:
    cert, key = certificates.sign(server, **signing)
    ctl_cert, ctl_key = certificates.sign("ctl")
    options = ["--cert-file", str(cert), "--key-file", str(key)]
    options += ["--client-cert-auth", "--trusted-ca-file", str(certificates.ca)]
    tls = ["--cacert", str(certificates.ca), "--cert", str(ctl_cert), "--key", str(ctl_key)]
    with etcd_cluster(1, client_scheme="https", options=options, tls=tls) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def replica(access: EtcdAccess, run_dir: Path, token_life: float = 240) -> AsyncIterator[EtcdLease]:
    os.makedirs(run_dir, exist_ok=True)
    port = EtcdLease(access, cluster=f"t{uuid.uuid4().hex[:8]}", run_dir=run_dir, token_life=token_life)
    await port.start()
    try:
        yield port
    finally:
        await port.stop()


def as_if_ended(run_dir: Path) -> None:
    """Let the lease file be that of a process that has ended."""
    file = etcd_runfile.read(run_dir)
    assert file is not None
    etcd_runfile.write(run_dir, replace(file, started=file.started + 1))


class TestClientCertificates:
    async def test_the_lease_is_won_renewed_watched_and_released(
        self, etcd_with_tls: Cluster, certificates: Certificates, tmp_path: Path
    ) -> None:
        access = EtcdAccess(etcd_with_tls.endpoints, certificates.ca, *certificates.sign("client"))
        async with replica(access, tmp_path) as port:
            heard = Heard(port)
            await won(port, "a")
            await until(lambda: heard.last(Held) and heard.leader == "a", 3, "renewed and seen")
            assert isinstance(await port.verify(), Held)
            await port.release()
            await until(lambda: heard.leader is None, 1, "the watch tells")

    async def test_without_a_client_certificate_nothing_is_won_and_the_reason_is_said(
        self, etcd_with_tls: Cluster, certificates: Certificates, tmp_path: Path
    ) -> None:
        async with replica(EtcdAccess(etcd_with_tls.endpoints, certificates.ca), tmp_path) as port:
            answer = await port.campaign(record("a"))
            assert isinstance(answer, Unknown)
            assert "UNAVAILABLE" in answer.reason

    async def test_a_stranger_that_etcd_must_not_be_taken_for_is_not(
        self, certificates: Certificates, tmp_path: Path
    ) -> None:
        with tls_etcd(certificates, "elsewhere", address="10.9.8.7") as etcd:
            access = EtcdAccess(etcd.endpoints, certificates.ca, *certificates.sign("client"))
            async with replica(access, tmp_path) as port:
                answer = await port.campaign(record("a"))
                assert isinstance(answer, Unknown)
                assert "Hostname Verification" in answer.reason

    async def test_an_expired_certificate_is_unknown_and_said_to_be_expired(
        self, certificates: Certificates, tmp_path: Path
    ) -> None:
        with tls_etcd(certificates, "expired", days="-1") as etcd:
            access = EtcdAccess(etcd.endpoints, certificates.ca, *certificates.sign("client"))
            async with replica(access, tmp_path) as port:
                answer = await port.campaign(record("a"))
                assert isinstance(answer, Unknown)
                assert "expired" in answer.reason

    async def test_files_that_cannot_be_read_refuse_the_start_with_a_sentence(self, tmp_path: Path) -> None:
        port = EtcdLease(EtcdAccess(("127.0.0.1:1",), tmp_path / "none.crt"), cluster="c", run_dir=tmp_path)
        with pytest.raises(RuntimeError, match=r"TLS files cannot be read.*none\.crt"):
            await port.start()

    async def test_certificates_replaced_on_disk_are_used_at_the_next_connection(
        self, etcd_with_tls: Cluster, certificates: Certificates, tmp_path: Path
    ) -> None:
        cert, key = certificates.sign("renewed")
        good = cert.read_bytes(), key.read_bytes()
        bad_cert, bad_key = Certificates(tmp_path).sign("bad")
        cert.write_bytes(bad_cert.read_bytes())
        key.write_bytes(bad_key.read_bytes())
        async with replica(EtcdAccess(etcd_with_tls.endpoints, certificates.ca, cert, key), tmp_path / "run") as port:
            assert isinstance(await port.read(), Unknown)
            cert.write_bytes(good[0])
            key.write_bytes(good[1])
            await until(lambda: port.contact().answered_at > 0, 3, "connected with the new certificate")

    async def test_release_uses_the_same_certificates(
        self, etcd_with_tls: Cluster, certificates: Certificates, tmp_path: Path
    ) -> None:
        access = EtcdAccess(etcd_with_tls.endpoints, certificates.ca, *certificates.sign("client"))
        async with replica(access, tmp_path) as port:
            await won(port, "a")
            as_if_ended(tmp_path)
            assert (await asyncio.to_thread(release, tmp_path)).outcome == "released"


class TestUserAndPassword:
    @staticmethod
    def access(etcd: Cluster, password: str = "secret") -> EtcdAccess:
        return EtcdAccess(etcd.endpoints, user="adapter", password=password)

    async def test_the_lease_is_won_renewed_watched_and_released(
        self, etcd_with_users: Cluster, tmp_path: Path
    ) -> None:
        async with replica(self.access(etcd_with_users), tmp_path) as port:
            heard = Heard(port)
            await won(port, "a")
            await until(lambda: heard.last(Held) and heard.leader == "a", 3, "renewed and seen")
            assert isinstance(await port.verify(), Held)
            await port.release()
            await until(lambda: heard.leader is None, 1, "the watch tells")

    async def test_a_wrong_password_is_unknown_with_etcds_reason(
        self, etcd_with_users: Cluster, tmp_path: Path
    ) -> None:
        async with replica(self.access(etcd_with_users, "n0t-this"), tmp_path) as port:
            answer = await port.campaign(record("a"))
            assert isinstance(answer, Unknown)
            assert "invalid user ID or password" in answer.reason
            assert "n0t-this" not in answer.reason

    async def test_tokens_that_etcd_forgot_are_renewed_and_the_lease_is_kept(
        self, etcd_with_users: Cluster, tmp_path: Path
    ) -> None:
        async with replica(self.access(etcd_with_users), tmp_path) as port:
            heard = Heard(port)
            grant = await won(port, "a")
            await until(lambda: heard.last(Held), 3, "renewed")
            await asyncio.to_thread(etcd_with_users.members[0].kill)  # its tokens are in its memory
            await until(lambda: heard.last(Unknown), 3, "etcd is away")
            await asyncio.to_thread(etcd_with_users.restore)
            await until(lambda: heard.last(Held), 5, "held again")
            assert (await seen(port)).lease_id == grant.lease_id
            await port.release()
            await until(lambda: heard.leader is None, 2, "the watch has a new token too")

    async def test_the_connection_is_rebuilt_before_its_token_ends(
        self, etcd_with_users: Cluster, tmp_path: Path
    ) -> None:
        async with proxy(etcd_with_users.endpoints[0]) as relay:
            access = EtcdAccess((relay.endpoint,), user="adapter", password="secret")
            async with replica(access, tmp_path, token_life=0.6) as port:
                heard = Heard(port)
                await won(port, "a")
                end = boottime() + 3
                while boottime() < end:
                    assert port.trust_left(boottime()) > TIMING.trust - TIMING.renew_every - 0.4
                    await asyncio.sleep(0.02)
                assert all(isinstance(outcome, Held) for outcome in heard.outcomes)
                assert relay.accepted >= 4, "one connection for the whole time: its token would have ended"

    async def test_release_needs_the_password_and_uses_it(self, etcd_with_users: Cluster, tmp_path: Path) -> None:
        async with replica(self.access(etcd_with_users), tmp_path) as port:
            await won(port, "a")
            as_if_ended(tmp_path)
            refused = await asyncio.to_thread(release, tmp_path)
            assert refused.outcome == "refused"
            assert "ETCD_PASSWORD" in refused.reason
            assert (await asyncio.to_thread(release, tmp_path, "secret")).outcome == "released"
            assert "secret" not in (tmp_path / "lease.json").read_text()
