"""A gateway that has changed waits for an operator's word."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Let the control table hold `new_gateway`."""
    text = Path(__file__).with_name("0002_pre_new_gateway.sql").read_text()
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(text)
