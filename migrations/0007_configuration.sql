-- What people say in advance. Everything is judged by event time; marked_at null = affected buckets still have to be marked.
create table allowlist_entry (
  entry_id bigint generated always as identity primary key,
  body jsonb not null,
  digest bytea not null unique,                      -- of the canonical body: equal entries are one
  state text not null check (state in ('proposed', 'active', 'revoked')),
  valid_from timestamptz,
  expires_at timestamptz not null,
  approvals_needed smallint not null,
  single_handed boolean not null default false,
  created_by text not null,
  created_at timestamptz not null,
  revoked_by text,
  revoked_at timestamptz,
  version integer not null default 1,
  marked_at timestamptz
);
create table approval (
  entry_id bigint not null references allowlist_entry,
  approver text not null,
  at timestamptz not null,
  primary key (entry_id, approver)
);
create table baseline (
  baseline_id bigint generated always as identity primary key,
  image text not null,
  host_class text not null,
  cpu_share real not null check (cpu_share between 0 and 100),
  note text,
  created_by text not null,
  created_at timestamptz not null,
  marked_at timestamptz
);
create unique index baseline_once on baseline (lower(image), lower(host_class));
create table maintenance_window (
  window_id bigint generated always as identity primary key,
  body jsonb not null,
  digest bytea not null unique,
  starts_at timestamptz not null,
  ends_at timestamptz not null check (ends_at > starts_at),
  created_by text not null,
  created_at timestamptz not null,
  marked_at timestamptz
);
create table indicator (
  indicator_id bigint generated always as identity primary key,
  list text not null,
  kind text not null check (kind in ('ip', 'cidr', 'domain')),
  category text not null check (category in ('pool', 'proxy', 'tor', 'doh', 'sinkhole')),
  value text not null,
  port integer,
  confidence text not null check (confidence in ('low', 'medium', 'high')),
  source text not null,
  first_seen timestamptz,
  last_seen timestamptz,
  expires_at timestamptz,
  created_by text not null,
  created_at timestamptz not null,
  marked_at timestamptz
);
create unique index indicator_once on indicator (list, kind, value, coalesce(port, 0));
create table setting (
  name text primary key,
  value jsonb not null
);
