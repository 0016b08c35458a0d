"""Let old months leave the database."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0009"
down_revision = "0006"


def upgrade() -> None:
    """Let old months leave the database."""
    text = Path(__file__).with_name("0009_post_archive.sql").read_text()
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(text)
