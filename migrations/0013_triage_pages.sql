-- The triage pages: what is new since a page was made, snoozed detections, decisions that can be taken back, saved views.
set lock_timeout = '5s';

-- the transaction that made the row: a page keeps its snapshot, so that whatever was committed later is new to it, whatever the clock said
alter table detection add column made_in xid8 not null default pg_current_xact_id();
create index on detection (detected_at desc);

-- wall clock; until then the queue does not show it
alter table detection add column if not exists snoozed_until timestamptz;

-- what one press of a button decided, as it was before, so that it can be taken back for a while
create table triage_undo (
  undo_id bigint generated always as identity primary key,
  actor text not null,
  at timestamptz not null,
  said text not null,                                -- in words, for the button
  rows jsonb not null                                -- [{id, version, before}]: version = the one the decision made
);
create index on triage_undo (actor, at desc);

create table saved_view (
  view_id bigint generated always as identity primary key,
  owner text not null,
  name text not null check (length(name) between 1 and 60),
  query text not null check (length(query) <= 2000),
  shared boolean not null default false,             -- seen by everybody
  opens boolean not null default false,              -- shown to its owner instead of the usual queue
  constraint one_view_per_name unique (owner, name)
);
create unique index saved_view_that_opens on saved_view (owner) where opens;
