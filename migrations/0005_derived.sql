-- Functions of facts: rows of a span are recomputed whole, never incremented.
create table process (
  host_id bigint not null,
  process_id bigint not null,                        -- hash of the GUID, else of pid and start
  started_at timestamptz not null,
  ended_at timestamptz,                              -- seen to end, or the pid was given away; null = open
  last_sign timestamptz not null,                    -- latest event that names the instance
  start_observed boolean not null,
  guid uuid,
  pid bigint,
  image text collate "C",
  image_name text collate "C",                       -- lower case
  command_line text,
  original_file_name text,
  company text,
  product text,
  description text,
  sha256 text,
  signer text,
  signature text,
  user_name text,
  integrity text,
  session bigint,
  parent_guid uuid,
  parent_pid bigint,
  parent_image text,
  parent_command_line text,
  parent_process_id bigint,                          -- the parent's row, if it was seen
  group_key bigint not null,
  event_at timestamptz,                              -- key of the start event
  event_id uuid,
  primary key (host_id, process_id)
);
create index on process (host_id, started_at);
create index on process (host_id, pid, started_at) where pid is not null;
create index on process (host_id, guid) where guid is not null;
create index on process (host_id, parent_process_id, started_at) where parent_process_id is not null;
create index on process (host_id, group_key, started_at);

create table cpu_bucket (
  host_id bigint not null,
  bucket timestamptz not null,
  group_key bigint not null,
  share real,                                        -- mean percent of the host over what was covered
  cores real,                                        -- mean processors busy
  share_p10 real,
  share_p50 real,
  share_max real,
  covered_seconds real not null,                     -- valid from 180 of 300
  gpu_share real,
  process_id bigint,                                 -- instance with the most
  primary key (host_id, bucket, group_key)
) partition by range (bucket);
create table cpu_bucket_default partition of cpu_bucket default;
create index on cpu_bucket (host_id, group_key, bucket);

create table flow (
  host_id bigint not null,
  started_at timestamptz not null,
  flow_id bigint not null,                           -- hash of process, ends and start
  process_id bigint,
  group_key bigint,                                  -- null = unattributed
  remote_ip inet,
  remote_port integer,
  remote_host text,                                  -- server name, proxy target or DNS answer
  destination text not null,                         -- name if known, else address: what prevalence counts
  external boolean not null,
  protocol text,
  direction text,
  ended_at timestamptz,                              -- null = no source with durations saw it
  bytes_out bigint,
  bytes_in bigint,
  application text,
  event_at timestamptz not null,                     -- key of the fact it rests on
  event_id uuid not null,
  primary key (host_id, started_at, flow_id)
) partition by range (started_at);
create table flow_default partition of flow default;
create index on flow (host_id, group_key, started_at);
create index on flow (destination, started_at);

-- what a host's telemetry could show in five minutes: decides observable and absent
create table host_bucket (
  host_id bigint not null,
  bucket timestamptz not null,
  events integer not null,
  cpu_samples integer not null,                      -- per process, with identity
  cpu_floor real,                                    -- smallest share listed: what is not listed was below
  host_share real,
  starts integer not null,
  starts_with_command integer not null,
  starts_with_parent integer not null,
  starts_with_metadata integer not null,
  connections integer not null,                      -- with a process
  flows integer not null,                            -- with a duration
  dns integer not null,
  scripts integer not null,
  tasks integer not null,
  primary key (host_id, bucket)
) partition by range (bucket);
create table host_bucket_default partition of host_bucket default;

-- what is known of an image by its hash, whoever said it
create table image (
  sha256 text primary key,
  signer text,
  signature text,
  original_file_name text,
  product text,
  company text,
  first_seen timestamptz not null
) with (fillfactor = 70);

-- which hosts had a thing on which UTC day: the only knowledge across hosts
create table fleet_sighting (
  kind text not null check (kind in ('host', 'destination', 'image', 'signer')),
  value text not null,                               -- destination, hash or signer; '' for kind host
  day date not null,
  host_id bigint not null,
  primary key (kind, value, day, host_id)
);
create index on fleet_sighting (kind, day);

-- days of a thing whose count changed and has to be judged anew
create table fleet_mark (
  kind text not null,
  value text not null,
  day date not null,
  primary key (kind, value, day)
);

-- how common a thing is on a day, from the 30 days up to it: coarse, so that few changes reach the hosts
create table fleet_band (
  kind text not null,
  value text not null,
  day date not null,
  hosts integer not null,
  active integer not null,
  band text not null check (band in ('rare', 'common', 'prevalent')),
  primary key (kind, value, day)
);

-- which name led to an address, by host (or sensor address) and time
create table dns_answer (
  host_id bigint not null,
  address inet not null,
  answered_at timestamptz not null,
  name text not null,
  process_id bigint,
  primary key (host_id, address, answered_at, name)
);
create index on process (host_id, parent_pid, started_at) where parent_guid is null and parent_pid is not null;
