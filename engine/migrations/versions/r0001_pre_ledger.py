"""The ledger: event log, epoch fence, terms, and the tables that people query."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the schema `ledger`."""
    text = Path(__file__).with_name("0001_pre_ledger.sql").read_text()
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(text)  # the driver's own: no placeholders are looked for
