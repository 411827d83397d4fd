"""Runs, plans, node groups and the outbox.

Revision 0001, the first; 2026-11-23 11:31:10.493132+00:00.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = '0001'
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), 'postgresql')


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        'runs',
        sa.Column('run_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('status', sa.String(length=16), nullable=False),
        sa.Column('step', sa.String(length=32), nullable=False),
        sa.Column('attempt', sa.Integer(), nullable=False),
        sa.Column('failures', sa.Integer(), nullable=False),
        sa.Column('message', sa.Text(), nullable=False),
        sa.Column('reasons', DOCUMENT, nullable=False),
        sa.Column('request', DOCUMENT, nullable=False),
        sa.Column('request_key', sa.String(length=512), nullable=True),
        sa.Column('fingerprint', sa.String(length=64), nullable=False),
        sa.Column('eta_minutes', sa.Integer(), nullable=True),
        sa.Column('lease_owner', sa.String(length=64), nullable=True),
        sa.Column('due_s', sa.Double(), nullable=False),
        sa.Column('relay_due_s', sa.Double(), nullable=False),
        sa.Column('created_s', sa.Double(), nullable=False),
        sa.Column('updated_s', sa.Double(), nullable=False),
        sa.CheckConstraint(
            "status IN ('UNKNOWN','STARTED','RUNNING','COMPLETED','FAILED','TERMINATED','PENDING',"
            "'SUSPENDED')",
            name=op.f('ck_runs_status'),
        ),
        sa.CheckConstraint(
            "step IN ('validation','performance_estimation','ranking','done')",
            name=op.f('ck_runs_step'),
        ),
        sa.PrimaryKeyConstraint('run_id', name=op.f('pk_runs')),
        sa.UniqueConstraint('request_key', name=op.f('uq_runs_request_key')),
    )
    op.create_index(
        'ix_runs_claimable',
        'runs',
        ['due_s'],
        unique=False,
        postgresql_where=sa.text("step <> 'done'"),
        sqlite_where=sa.text("step <> 'done'"),
    )
    op.create_index('ix_runs_updated_s', 'runs', ['updated_s'], unique=False)

    op.create_table(
        'node_groups',
        sa.Column('run_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('rank', sa.Integer(), nullable=False),
        sa.Column('position', sa.Integer(), nullable=False),
        sa.Column('config_id', sa.String(length=255), nullable=False),
        sa.Column('document', DOCUMENT, nullable=False),
        sa.Column('blacklisted', sa.Boolean(), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ['run_id'], ['runs.run_id'], name=op.f('fk_node_groups_run_id_runs'), ondelete='CASCADE'
        ),
        sa.PrimaryKeyConstraint('run_id', 'rank', 'position', name=op.f('pk_node_groups')),
    )
    op.create_index(
        'ix_node_groups_run_id_config_id', 'node_groups', ['run_id', 'config_id'], unique=False
    )

    op.create_table(
        'outbox',
        sa.Column('event_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('run_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('sequence', sa.Integer(), nullable=False),
        sa.Column('topic', sa.String(length=255), nullable=True),
        sa.Column('event', sa.String(length=64), nullable=False),
        sa.Column('status', sa.String(length=16), nullable=False),
        sa.Column('body', DOCUMENT, nullable=False),
        sa.Column('created_s', sa.Double(), nullable=False),
        sa.Column('sent_s', sa.Double(), nullable=True),
        sa.Column('failures', sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ['run_id'], ['runs.run_id'], name=op.f('fk_outbox_run_id_runs'), ondelete='CASCADE'
        ),
        sa.PrimaryKeyConstraint('event_id', name=op.f('pk_outbox')),
    )
    op.create_index('ix_outbox_run_id_sequence', 'outbox', ['run_id', 'sequence'], unique=False)
    op.create_index(
        'ix_outbox_unsent',
        'outbox',
        ['run_id'],
        unique=False,
        postgresql_where=sa.text('sent_s IS NULL'),
        sqlite_where=sa.text('sent_s IS NULL'),
    )

    op.create_table(
        'plans',
        sa.Column('run_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('rank', sa.Integer(), nullable=False),
        sa.Column('cluster_id', sa.String(length=255), nullable=False),
        sa.Column('replicas', sa.Integer(), nullable=False),
        sa.Column('concurrency', sa.Integer(), nullable=False),
        sa.Column('ttft_s', sa.Double(), nullable=True),
        sa.Column('tokens_per_s_per_user', sa.Double(), nullable=True),
        sa.Column('e2e_s', sa.Double(), nullable=True),
        sa.Column('error_rate', sa.Double(), nullable=False),
        sa.Column('cost_per_million_tokens_usd', sa.Double(), nullable=False),
        sa.Column('cost_usd_per_h', sa.Double(), nullable=False),
        sa.Column('quantized', sa.Boolean(), nullable=False),
        sa.Column('blacklisted', sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ['run_id'], ['runs.run_id'], name=op.f('fk_plans_run_id_runs'), ondelete='CASCADE'
        ),
        sa.PrimaryKeyConstraint('run_id', 'rank', name=op.f('pk_plans')),
    )
    op.create_index('ix_plans_run_id_cluster_id', 'plans', ['run_id', 'cluster_id'], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table('plans')
    op.drop_table('outbox')
    op.drop_table('node_groups')
    op.drop_table('runs')
