"""What the parts of a run found, until it is ranked.

Revision 0002, follows 0001; 2026-11-24 03:00:00+00:00.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = '0002'
down_revision: str | None = '0001'
branch_labels: str | None = None
depends_on: str | None = None

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), 'postgresql')


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        'findings',
        sa.Column('run_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('attempt', sa.Integer(), nullable=False),
        sa.Column('number', sa.Integer(), nullable=False),
        sa.Column('document', DOCUMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ['run_id'], ['runs.run_id'], name=op.f('fk_findings_run_id_runs'), ondelete='CASCADE'
        ),
        sa.PrimaryKeyConstraint('run_id', 'attempt', 'number', name=op.f('pk_findings')),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table('findings')
