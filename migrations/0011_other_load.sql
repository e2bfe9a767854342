-- Load that processor buckets do not show: graphics engines, what no listed process explains, how long a group was busy each half day.
create table gpu_bucket (
  host_id bigint not null,
  group_key bigint not null,
  bucket timestamptz not null,
  share real not null,                               -- percent of the busiest adapter's compute engines
  covered_seconds real not null,                     -- valid from 180 of 300
  process_id bigint not null,                        -- instance with the most
  primary key (host_id, group_key, bucket)
);
create index on gpu_bucket (host_id, bucket);

-- half days cut at 0:00 and 12:00 UTC: two neighbours are a day of either grid
create table busy_half (
  host_id bigint not null,
  group_key bigint not null,
  half timestamptz not null,
  minutes smallint not null,                         -- in buckets of at least 20 percent
  first_bucket timestamptz not null,
  last_bucket timestamptz not null,
  primary key (host_id, group_key, half)
) with (fillfactor = 70);
create index on busy_half (host_id, half);
create index on cpu_bucket (host_id, bucket) where share >= 20;

-- percent of the host that no listed process explains; null = not known, or the host was not busy
alter table host_bucket add column rest_share real;

-- programs that people open to look at processes
create index on process (host_id, started_at) where image_name in ('taskmgr.exe', 'procexp.exe', 'procexp64.exe', 'procmon.exe', 'procmon64.exe',
  'perfmon.exe', 'resmon.exe');
