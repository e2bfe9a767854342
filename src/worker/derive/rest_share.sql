-- worker::derive::rest_share: how much of a busy host's processors does no listed process explain?
-- $1..$3 the spans, $4..$5 their bounds, $6 below which a host is not busy (percent)
with busy as materialized (
  select b.host_id, b.bucket from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
  join host_bucket b on b.host_id = s.host_id and b.bucket >= s.since and b.bucket < s.until
  where b.bucket between $4 and $5 and b.host_share >= $6::real and b.cpu_samples > 0
),
listed as (
  select b.host_id, b.bucket, c.pid, c.started_at, count(*) as samples,
    coalesce(avg(c.share), 100 * (max(c.cpu_seconds) - min(c.cpu_seconds)) / nullif(extract(epoch from max(c.occurred_at) - min(c.occurred_at)), 0)
      / coalesce(max(c.logical_cpus), min(h.logical_cpus))) as share
  from busy b join host h using (host_id)
  join cpu_sample c on c.host_id = b.host_id and c.occurred_at >= b.bucket and c.occurred_at < b.bucket + interval '5 minutes'
  where c.occurred_at between $4 and $5 and c.gpu_share is null and c.pid > 0
  group by 1, 2, 3, 4
),
explained as (
  -- a process met in fewer samples than the others counts in part; what a sampler of the busiest ones leaves out is at most as busy
  -- as the least of those it lists: a hundred such processes are granted
  select host_id, bucket, sum(share * samples / most) + 100 * min(share) as share
  from (select *, max(samples) over (partition by host_id, bucket) as most from listed) l
  group by 1, 2
)
update host_bucket b set rest_share = greatest(0, b.host_share - e.share)
from explained e
where b.host_id = e.host_id and b.bucket = e.bucket and b.bucket between $4 and $5 and e.share is not null
