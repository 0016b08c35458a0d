"""Orders that ended long ago are read from the tables."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Index what is read there."""
    text = Path(__file__).with_name("0004_pre_evicted.sql").read_text()
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(text)
