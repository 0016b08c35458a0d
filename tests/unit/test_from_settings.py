"""What the parts of a replica are given of the settings."""

from __future__ import annotations

import pytest

from ha import from_settings
from ha.config import Settings


@pytest.mark.parametrize(("orders", "messages"), [(0.0, 0.0), (10.0, 45.0), (40.0, 45.0), (300.0, 305.0)])
def test_the_door_lets_as_many_orders_through_as_the_setting_says(orders: float, messages: float) -> None:
    """Otherwise ORDER_RATE=0, which is no limit, would still be 40 a second."""
    assert from_settings.door_rate(Settings.model_construct(order_rate=orders)) == messages
