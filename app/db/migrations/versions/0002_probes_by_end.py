"""An index for the housekeeping, which looks for the probes that ended longest ago every minute."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_index("probe_by_end", "probe", ["forgotten", "finished_at", "id"])


def downgrade() -> None:
    """Back."""
    op.drop_index("probe_by_end", table_name="probe")
