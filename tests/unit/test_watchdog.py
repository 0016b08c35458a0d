"""How long the supervisor waits for a sign of life, and which of its words are refused."""

from __future__ import annotations

import pytest

from ha.watchdog import interval_of

SD = {"NOTIFY_SOCKET": "/run/systemd/notify"}


def test_the_supervisors_own_word_counts_before_the_setting() -> None:
    assert interval_of(SD | {"WATCHDOG_USEC": "1200000"}, 1.5, 2, 7) == 1.2
    assert interval_of(SD | {"WATCHDOG_USEC": "1200000", "WATCHDOG_PID": "7"}, 1.5, 2, 7) == 1.2


@pytest.mark.parametrize(
    "environ",
    [
        {},
        SD,
        SD | {"WATCHDOG_USEC": ""},
        SD | {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"},  # meant for whoever started us
        {"WATCHDOG_USEC": "60000000"},  # nobody listens
    ],
)
def test_without_its_word_for_this_process_the_setting_counts(environ: dict[str, str]) -> None:
    assert interval_of(environ, 1.5, 2, 7) == 1.5


@pytest.mark.rule(12)
@pytest.mark.parametrize("usec", ["2000000", "30000000"])
def test_a_watchdog_that_is_not_shorter_than_the_lease_is_refused(usec: str) -> None:
    with pytest.raises(
        ValueError, match=rf"WATCHDOG_USEC={usec}\), and LEASE_TTL=2: a hung process must be gone before"
    ):
        interval_of(SD | {"WATCHDOG_USEC": usec}, 1.5, 2, 7)
    assert interval_of(SD | {"WATCHDOG_USEC": usec}, 1.5, 31, 7) == int(usec) / 1e6


@pytest.mark.parametrize("usec", ["soon", "0", "-1", "1.5", "١"])
def test_a_word_that_is_no_time_is_refused(usec: str) -> None:
    with pytest.raises(ValueError, match="is no number of microseconds"):
        interval_of(SD | {"WATCHDOG_USEC": usec}, 1.5, 2, 7)
