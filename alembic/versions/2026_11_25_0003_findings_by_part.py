"""What was found, by the name of the part; what unfinished runs had found is searched again.

Revision 0003, follows 0002; 2026-11-25 16:00:00+00:00.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = '0003'
down_revision: str | None = '0002'
branch_labels: str | None = None
depends_on: str | None = None

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), 'postgresql')


def upgrade() -> None:
    """Replace numbers by names, and documents by bytes."""
    op.drop_table('findings')
    _create(
        sa.Column('part', sa.String(512), nullable=False),
        sa.Column('content', sa.LargeBinary(), nullable=False),
    )


def downgrade() -> None:
    """Put numbers and documents back."""
    op.drop_table('findings')
    _create(
        sa.Column('number', sa.Integer(), nullable=False),
        sa.Column('document', DOCUMENT, nullable=False),
    )


def _create(named: sa.Column[object], found: sa.Column[object]) -> None:
    op.create_table(
        'findings',
        sa.Column('run_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('attempt', sa.Integer(), nullable=False),
        named,
        found,
        sa.ForeignKeyConstraint(
            ['run_id'], ['runs.run_id'], name=op.f('fk_findings_run_id_runs'), ondelete='CASCADE'
        ),
        sa.PrimaryKeyConstraint('run_id', 'attempt', named.name, name=op.f('pk_findings')),
    )
