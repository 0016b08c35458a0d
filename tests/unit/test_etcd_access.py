"""How etcd is reached: what cannot work is refused, what should not stay so is warned of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ha.etcd_access import EtcdAccess, leader_key, parse_endpoints, state_key

CA, CERT, KEY = Path("ca.crt"), Path("a.crt"), Path("a.key")
THREE = ("a:2379", "b:2379", "[::1]:2379")


def test_a_list_is_split_and_schemes_are_taken_off() -> None:
    assert parse_endpoints(" a:1, b:2,,") == ("a:1", "b:2")
    assert EtcdAccess(("http://a:1", "b:2/")).endpoints == ("a:1", "b:2")
    assert EtcdAccess(("https://a:1",), CA).endpoints == ("a:1",)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"endpoints": ()}, "names no endpoint"),
        ({"endpoints": ("a",)}, "'a' is not host:port"),
        ({"endpoints": ("a:0",)}, "is not host:port"),
        ({"endpoints": ("a:70000",)}, "is not host:port"),
        ({"endpoints": ("a:1,b:2",)}, "is not host:port"),
        ({"endpoints": ("::1:2379",)}, "is not host:port"),
        ({"endpoints": ("a:1", "http://a:1")}, "names an endpoint twice"),
        ({"endpoints": ("https://a:1",)}, "asks for TLS, but no ca is given"),
        ({"endpoints": ("http://a:1",), "ca": CA}, "asks for no TLS"),
        ({"endpoints": THREE, "ca": CA, "cert": CERT}, "belong together"),
        ({"endpoints": THREE, "cert": CERT, "key": KEY}, "needs the ca"),
        ({"endpoints": THREE, "user": "u"}, "user and password belong together"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EtcdAccess(**settings)


def test_fewer_than_three_members_and_an_open_password_are_warned_of() -> None:
    assert EtcdAccess(THREE).warnings == []
    assert EtcdAccess(THREE, CA, user="u", password="p").warnings == []
    two = EtcdAccess(("a:1", "b:1"), user="u", password="p").warnings
    assert "2 of at least 3 members" in two[0]
    assert "witness" in two[0]
    assert "unencrypted" in two[1]


def test_the_password_is_never_shown() -> None:
    assert "s3cret" not in repr(EtcdAccess(THREE, user="u", password="s3cret"))


def test_the_keys_of_a_cluster() -> None:
    assert leader_key("desk1") == "/adapter/desk1/leader"
    assert state_key("desk1", "budget") == "/adapter/desk1/state/budget"
