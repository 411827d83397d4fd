"""An event once, and one delivery for each topic it goes to.

Revision 0004, follows 0003; 2026-11-28 16:45:00+00:00.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = '0004'
down_revision: str | None = '0003'
branch_labels: str | None = None
depends_on: str | None = None

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), 'postgresql')
UNSENT = sa.text('sent_s IS NULL')


def upgrade() -> None:
    """Split the outbox; events written before keep their ids, and are sent flat."""
    events, deliveries, outbox = _create_new(), _new_deliveries(), _old()
    connection = op.get_bind()
    for row in connection.execute(sa.select(outbox)).mappings().all():
        body = {name: value for name, value in row['body'].items() if name != 'data'}
        shared = {name: row[name] for name in ('event_id', 'run_id', 'created_s')}
        told = {name: row[name] for name in ('sequence', 'event', 'status')}
        flat = {**row['body'].get('data', {}), **body}
        flat.pop('object', None)
        connection.execute(sa.insert(events).values(**shared, **told, body=flat))
        sent = {'topic': row['topic'] or '', 'sent_s': row['sent_s'], 'failures': row['failures']}
        connection.execute(sa.insert(deliveries).values(**shared, **sent))
    op.drop_table('outbox')


def downgrade() -> None:
    """Put the outbox back; what was written after the split is not kept."""
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
        postgresql_where=UNSENT,
        sqlite_where=UNSENT,
    )
    op.drop_table('deliveries')
    op.drop_table('events')


def _create_new() -> sa.Table:
    table = op.create_table(
        'events',
        sa.Column('event_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('run_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('sequence', sa.Integer(), nullable=False),
        sa.Column('event', sa.String(length=64), nullable=False),
        sa.Column('status', sa.String(length=16), nullable=False),
        sa.Column('body', DOCUMENT, nullable=False),
        sa.Column('created_s', sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ['run_id'], ['runs.run_id'], name=op.f('fk_events_run_id_runs'), ondelete='CASCADE'
        ),
        sa.PrimaryKeyConstraint('event_id', name=op.f('pk_events')),
    )
    op.create_index('ix_events_run_id_sequence', 'events', ['run_id', 'sequence'], unique=False)
    return table


def _new_deliveries() -> sa.Table:
    table = op.create_table(
        'deliveries',
        sa.Column('event_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('topic', sa.String(length=255), nullable=False),
        sa.Column('run_id', sa.Uuid(as_uuid=False), nullable=False),
        sa.Column('created_s', sa.Double(), nullable=False),
        sa.Column('sent_s', sa.Double(), nullable=True),
        sa.Column('failures', sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ['event_id'],
            ['events.event_id'],
            name=op.f('fk_deliveries_event_id_events'),
            ondelete='CASCADE',
        ),
        sa.ForeignKeyConstraint(
            ['run_id'], ['runs.run_id'], name=op.f('fk_deliveries_run_id_runs'), ondelete='CASCADE'
        ),
        sa.PrimaryKeyConstraint('event_id', 'topic', name=op.f('pk_deliveries')),
    )
    op.create_index('ix_deliveries_run_id', 'deliveries', ['run_id'], unique=False)
    op.create_index(
        'ix_deliveries_unsent',
        'deliveries',
        ['run_id'],
        unique=False,
        postgresql_where=UNSENT,
        sqlite_where=UNSENT,
    )
    return table


def _old() -> sa.Table:
    return sa.Table(
        'outbox',
        sa.MetaData(),
        sa.Column('event_id', sa.Uuid(as_uuid=False)),
        sa.Column('run_id', sa.Uuid(as_uuid=False)),
        sa.Column('sequence', sa.Integer()),
        sa.Column('topic', sa.String(255)),
        sa.Column('event', sa.String(64)),
        sa.Column('status', sa.String(16)),
        sa.Column('body', DOCUMENT),
        sa.Column('created_s', sa.Double()),
        sa.Column('sent_s', sa.Double()),
        sa.Column('failures', sa.Integer()),
    )
