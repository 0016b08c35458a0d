"""Cut the log into months; keep checkpoints."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Cut the log into months; keep checkpoints."""
    text = Path(__file__).with_name("0005_pre_partitions.sql").read_text()
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(text)
