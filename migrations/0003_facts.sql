-- Facts: one table per kind, typed columns, no raw text. Added, completed, never changed.
-- Key: the host, the event's stamp, its identity by content. (segment_id, ordinal) points at the raw record.
-- Partitioned by day of event time; the default partition is always there: slower, never wrong.
-- Text is compared byte by byte where the smaller value decides (collate "C").

-- A process began: Sysmon 1, Security 4688, ECS process start.
create table process_start (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  guid uuid,
  pid bigint,
  started_at timestamptz,
  image text collate "C",
  command_line text collate "C",
  original_file_name text collate "C",
  company text collate "C",
  product text collate "C",
  description text collate "C",
  sha256 text collate "C",
  signer text collate "C",
  signature text collate "C",
  user_name text collate "C",
  integrity text collate "C",
  session bigint,
  parent_guid uuid,
  parent_pid bigint,
  parent_image text collate "C",
  parent_command_line text collate "C",
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table process_start_default partition of process_start default;
create index on process_start using brin (occurred_at) with (pages_per_range = 32);

-- A process ended: Sysmon 5, Security 4689.
create table process_stop (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  guid uuid,
  pid bigint,
  image text collate "C",
  ended_at timestamptz,
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table process_stop_default partition of process_stop default;
create index on process_stop using brin (occurred_at) with (pages_per_range = 32);

-- One process reached into another: Sysmon 8, 10, 25.
create table process_tamper (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  kind text collate "C",
  guid uuid,
  pid bigint,
  image text collate "C",
  source_guid uuid,
  source_pid bigint,
  source_image text collate "C",
  detail text collate "C",
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table process_tamper_default partition of process_tamper default;
create index on process_tamper using brin (occurred_at) with (pages_per_range = 32);

-- A module or driver was loaded: Sysmon 7, 6.
create table module_load (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  kind text collate "C",
  guid uuid,
  pid bigint,
  image text collate "C",
  path text collate "C",
  sha256 text collate "C",
  original_file_name text collate "C",
  company text collate "C",
  product text collate "C",
  description text collate "C",
  signer text collate "C",
  signature text collate "C",
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table module_load_default partition of module_load default;
create index on module_load using brin (occurred_at) with (pages_per_range = 32);

-- A file was written or deleted: Sysmon 11, 15, 23, 26, 27.
create table file_write (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  kind text collate "C",
  guid uuid,
  pid bigint,
  image text collate "C",
  path text collate "C",
  sha256 text collate "C",
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table file_write_default partition of file_write default;
create index on file_write using brin (occurred_at) with (pages_per_range = 32);

-- A connection that a host event shows, or a flow that a sensor, proxy or firewall saw.
create table connection (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  kind text collate "C",
  guid uuid,
  pid bigint,
  image text collate "C",
  protocol text collate "C",
  direction text collate "C",
  local_ip inet,
  local_port integer,
  remote_ip inet,
  remote_port integer,
  remote_host text collate "C",
  started_at timestamptz,
  ended_at timestamptz,
  bytes_out bigint,
  bytes_in bigint,
  application text collate "C",
  allowed boolean,
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table connection_default partition of connection default;
create index on connection using brin (occurred_at) with (pages_per_range = 32);

-- A name was looked up: Sysmon 22, Zeek, Suricata.
create table dns_query (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  guid uuid,
  pid bigint,
  image text collate "C",
  query text collate "C",
  status text collate "C",
  addresses inet[],
  aliases text[],
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table dns_query_default partition of dns_query default;
create index on dns_query using brin (occurred_at) with (pages_per_range = 32);

-- CPU, memory or GPU of one process.
create table cpu_sample (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  guid uuid,
  pid bigint,
  started_at timestamptz,
  image text collate "C",
  name text collate "C",
  share real,
  cpu_seconds double precision,
  raw_value double precision,
  raw_unit text collate "C",
  logical_cpus integer,
  interval_ms integer,
  rss_bytes bigint,
  gpu_share real,
  gpu_engine text collate "C",
  command_line text collate "C",
  parent_pid bigint,
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table cpu_sample_default partition of cpu_sample default;
create index on cpu_sample using brin (occurred_at) with (pages_per_range = 32);

-- CPU of the whole host.
create table host_sample (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  share real,
  logical_cpus integer,
  uptime_seconds bigint,
  source text collate "C",
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table host_sample_default partition of host_sample default;
create index on host_sample using brin (occurred_at) with (pages_per_range = 32);

-- Something that starts programs was made, changed, removed or ran: tasks, WMI subscriptions, services, Run values.
create table persistence (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  kind text collate "C",
  action text collate "C",
  name text collate "C",
  command text collate "C",
  arguments text collate "C",
  com_class text collate "C",
  run_as text collate "C",
  run_level text collate "C",
  hidden boolean,
  author text collate "C",
  triggers text collate "C",
  detail text collate "C",
  by_user text collate "C",
  guid uuid,
  pid bigint,
  image text collate "C",
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table persistence_default partition of persistence default;
create index on persistence using brin (occurred_at) with (pages_per_range = 32);

-- Script text or a PowerShell host line: 4104, 4103, 400, 800.
create table script (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  kind text collate "C",
  pid bigint,
  script_id text collate "C",
  part integer,
  parts integer,
  text text collate "C",
  path text collate "C",
  command_line text collate "C",
  user_name text collate "C",
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table script_default partition of script default;
create index on script using brin (occurred_at) with (pages_per_range = 32);

-- A security product found something: Defender 1116, 1117.
create table security_alert (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  detection_id text collate "C",
  threat text collate "C",
  severity text collate "C",
  category text collate "C",
  path text collate "C",
  process text collate "C",
  user_name text collate "C",
  action text collate "C",
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table security_alert_default partition of security_alert default;
create index on security_alert using brin (occurred_at) with (pages_per_range = 32);

-- A setting that matters changed: Defender, firewall, privileges, logging, other registry.
create table setting_change (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  kind text collate "C",
  name text collate "C",
  old_value text collate "C",
  new_value text collate "C",
  guid uuid,
  pid bigint,
  image text collate "C",
  user_name text collate "C",
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table setting_change_default partition of setting_change default;
create index on setting_change using brin (occurred_at) with (pages_per_range = 32);

-- Well formed, but not ours to judge: kept raw and counted.
create table other_event (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  segment_id bigint not null,
  ordinal integer not null,
  time_quality smallint not null,
  field_errors text[],
  provider text collate "C",
  channel text collate "C",
  code text collate "C",
  primary key (host_id, occurred_at, event_id)
) partition by range (occurred_at);
create table other_event_default partition of other_event default;
create index on other_event using brin (occurred_at) with (pages_per_range = 32);

-- what a rule said of one event when it came in
create table rule_hit (
  host_id bigint not null,
  occurred_at timestamptz not null,
  event_id uuid not null,
  rule_id text not null,
  rule_hash bytea not null,                          -- only hits of the current text of a rule count
  code text not null,
  points real not null,
  force text not null check (force in ('plain', 'weak', 'discriminator', 'hard')),
  fact text not null,                                -- table of the event
  excerpt text not null,
  guid uuid,
  pid bigint,
  image text,
  primary key (host_id, occurred_at, event_id, rule_id)
) partition by range (occurred_at);
create table rule_hit_default partition of rule_hit default;

-- an event without a time of its own keeps the arrival of its first copy
create table undated (
  event_id uuid primary key,
  occurred_at timestamptz not null
);

-- ends are looked up by pid: a start without GUID finds its end, whichever came first
create index on process_stop (host_id, pid, occurred_at);
