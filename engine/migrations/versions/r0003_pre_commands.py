"""What operators asked for is kept, for the audit."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the table of commands and the one way into it."""
    text = Path(__file__).with_name("0003_pre_commands.sql").read_text()
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(text)
