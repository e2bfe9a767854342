-- One code true for one group over one stretch of event time. Replaced per span; equal facts give equal rows.
create table evidence (
  host_id bigint not null,
  group_key bigint not null,                         -- 0 = host:unattributed
  code text not null,
  subject text not null,                             -- destination, rule or the like; '' where the code needs none
  first_seen timestamptz not null,
  last_seen timestamptz not null,
  known_at timestamptz not null,
  points real not null,
  force text not null,
  process_id bigint,
  summary text not null,
  rule text,
  events text[] not null,
  primary key (host_id, group_key, code, subject, first_seen)
);
create index on evidence (host_id, last_seen);

create table detection (
  host_id bigint not null,
  detection_id bigint not null,
  version integer not null default 1,
  group_key bigint not null,                         -- primary group of the cluster
  groups bigint[] not null,
  verdict text not null,
  severity text not null,
  severity_rank smallint not null,
  score real not null,                               -- higher of both analytics
  analytics text[] not null,                         -- that have a verdict of candidate or more, or suppressed
  title text not null,
  first_seen timestamptz not null,
  last_seen timestamptz not null,
  content jsonb not null,
  status text not null default 'new' check (status in ('new', 'in_progress', 'closed')),
  disposition text,
  assignee text,
  note text,
  duplicate_of text,
  closed_reach timestamptz,                          -- event time the case had reached when it was closed
  recurrence_of text,
  campaign text,
  detected_at timestamptz not null,
  updated_at timestamptz not null,
  primary key (host_id, detection_id),
  constraint closing_needs_a_disposition check (status <> 'closed' or disposition is not null)
) with (fillfactor = 70);
create index on detection (severity_rank desc, score desc, last_seen desc, host_id, detection_id) where status <> 'closed';
create index on detection (last_seen desc, host_id, detection_id);

create table detection_journal (
  host_id bigint not null,
  detection_id bigint not null,
  entry_id bigint generated always as identity,
  at timestamptz not null,                           -- wall clock
  actor text not null,
  action text not null,                              -- detected, changed, disposition, note, assigned, reopened ..
  detail text not null,
  primary key (host_id, detection_id, entry_id)
);
create index on detection_journal (at desc);
