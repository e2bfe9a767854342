-- Tuning: windows that repeat, settings with their history, learned baselines, campaigns, snoozed detections, ticked runbooks.
set lock_timeout = '5s';

-- a window opens once or by its rule; the openings are kept, so that a pass does not follow rules
alter table maintenance_window add column starts timestamptz[] not null default '{}';
update maintenance_window set starts = array[starts_at];

-- every change of a setting; the newest of a name and class is in force, value null = what is above it again
create table tunable_change (
  version bigint generated always as identity primary key,
  host_class text,                                   -- null = everywhere
  name text not null,
  value jsonb,
  reason text not null,
  changed_by text not null,
  changed_at timestamptz not null
);
create index on tunable_change (name, host_class, version desc);

-- load that hosts of a class usually have from a group, for an event week, from the four weeks before it
create table load_profile (
  host_class text not null,                          -- '' = hosts without a class
  group_key bigint not null,
  week date not null,                                -- Monday (UTC) of the week it is for
  hour smallint not null check (hour between -1 and 167), -- hour of the week; -1 = all hours
  image text not null,                               -- for people: the path most hosts had
  median real not null,                              -- percent of the host
  mad real not null,
  p95 real not null,
  hosts integer not null,
  host_days integer not null,
  class_hosts integer not null,                      -- hosts of the class with load data in those weeks
  days integer not null,                             -- between the first day of the group and the week
  primary key (host_class, group_key, week, hour)
);
-- weeks that were learned, and those that have to be again
create table load_week (
  week date primary key,
  stale boolean not null
);

-- what a detection shares with others: destination, hash, wallet, task
create table fingerprint (
  host_id bigint not null,
  detection_id bigint not null,
  kind text not null check (kind in ('destination', 'sha256', 'wallet', 'task')),
  value text not null,
  linked boolean not null default false,             -- false: campaigns have to be looked at
  primary key (host_id, detection_id, kind, value)
);
create index on fingerprint (kind, value);
create index on fingerprint (linked) where not linked;
create index on detection (campaign) where campaign is not null;

alter table detection add column snoozed_until timestamptz; -- wall clock; ends early when it gets worse

create table runbook_tick (
  host_id bigint not null,
  detection_id bigint not null,
  step text not null,
  ticked_by text not null,
  ticked_at timestamptz not null,
  note text,
  primary key (host_id, detection_id, step)
);
