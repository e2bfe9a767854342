-- worker::derive::host_bucket: what could a host's telemetry show in each five minutes of the spans?
with span as materialized (
  select * from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
),
seen as (
  select f.host_id, f.occurred_at, 'start' as kind, f.command_line is not null as a, f.parent_image is not null or f.parent_guid is not null as b,
    f.original_file_name is not null or f.sha256 is not null or f.signature is not null as c, null::real as share
  from span s join process_start f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
  union all
  select f.host_id, f.occurred_at, 'stop', false, false, false, null
  from span s join process_stop f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
  union all
  select f.host_id, f.occurred_at, case when f.gpu_share is null then 'cpu' else 'gpu' end, f.pid is not null, false, false, f.share
  from span s join cpu_sample f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
  union all
  select f.host_id, f.occurred_at, 'host', false, false, false, f.share
  from span s join host_sample f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
  union all
  select f.host_id, f.occurred_at, f.kind, f.pid is not null or f.guid is not null, f.ended_at is not null, false, null
  from span s join connection f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
  union all
  select f.host_id, f.occurred_at, 'dns', false, false, false, null
  from span s join dns_query f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
  union all
  select f.host_id, f.occurred_at, 'script', false, false, false, null
  from span s join script f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
  union all
  select f.host_id, f.occurred_at, 'persistence', false, false, false, null
  from span s join persistence f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
  union all
  select f.host_id, f.occurred_at, 'other', false, false, false, null
  from span s join module_load f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
  union all
  select f.host_id, f.occurred_at, 'other', false, false, false, null
  from span s join setting_change f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
  union all
  select f.host_id, f.occurred_at, 'other', false, false, false, null
  from span s join other_event f on f.host_id = s.host_id and f.occurred_at >= s.since and f.occurred_at < s.until
  where f.occurred_at between $4::timestamptz and $5::timestamptz
)
insert into host_bucket (host_id, bucket, events, cpu_samples, cpu_floor, host_share, starts, starts_with_command, starts_with_parent,
  starts_with_metadata, connections, flows, dns, scripts, tasks)
select host_id, date_bin('5 minutes', occurred_at, 'epoch'), count(*),
  count(*) filter (where kind = 'cpu' and a), min(share) filter (where kind = 'cpu'), avg(share) filter (where kind = 'host'),
  count(*) filter (where kind = 'start'), count(*) filter (where kind = 'start' and a), count(*) filter (where kind = 'start' and b),
  count(*) filter (where kind = 'start' and c),
  count(*) filter (where kind = 'socket' and a), count(*) filter (where kind in ('flow', 'proxy') and b),
  count(*) filter (where kind = 'dns'), count(*) filter (where kind = 'script'), count(*) filter (where kind = 'persistence')
from seen
group by 1, 2
