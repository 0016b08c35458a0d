"""Take from everybody what only the owner calls; let a claim end a rebuild."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Take from everybody what only the owner calls; let a claim end a rebuild."""
    text = Path(__file__).with_name("0006_pre_rights.sql").read_text()
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(text)
