-- worker::derive::gpu_bucket: how busy did each group keep the compute engines of a graphics adapter in each five minutes of the spans?
-- (detection design, section 4.1: the sum of the compute engines of one adapter, the highest adapter)
with span as materialized (
  select * from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
),
sample as materialized (
  select s.host_id, s.since, s.until, c.occurred_at as at, c.pid, c.gpu_engine as engine, split_part(c.gpu_engine, '_eng_', 1) as adapter, c.gpu_share as share,
    coalesce(nullif(least(extract(epoch from c.occurred_at - lag(c.occurred_at) over w), 901), 901), least(c.interval_ms / 1000.0, 900)) as seconds
  from span s join cpu_sample c on c.host_id = s.host_id
    and c.occurred_at >= s.since - interval '15 minutes' and c.occurred_at < s.until + interval '15 minutes'
  where c.occurred_at between $4::timestamptz - interval '15 minutes' and $5::timestamptz + interval '15 minutes'
    and c.gpu_share is not null and c.pid is not null and c.gpu_engine ~* 'engtype_(compute|cuda)'
  window w as (partition by s.host_id, s.since, c.pid, c.gpu_engine order by c.occurred_at)
),
owned as (
  select s.*, p.process_id, p.group_key
  from sample s
  cross join lateral (
    select process_id, group_key from process p
    where p.host_id = s.host_id and p.pid = s.pid and p.started_at <= s.at + interval '2 seconds'
      and (p.ended_at is null or p.ended_at > s.at - interval '2 seconds')
    order by p.started_at desc, p.process_id limit 1
  ) p
),
per_engine as (
  select o.host_id, b.bucket, o.group_key, o.process_id, o.adapter, o.engine, sum(o.share * v.overlap) as share_seconds, sum(v.overlap) as seconds
  from owned o
  cross join lateral generate_series(date_bin('5 minutes', o.at - make_interval(secs => o.seconds), 'epoch'), o.at, interval '5 minutes') as b (bucket)
  cross join lateral (
    select extract(epoch from least(o.at, b.bucket + interval '5 minutes') - greatest(o.at - make_interval(secs => o.seconds), b.bucket)) as overlap
  ) v
  where o.seconds > 0 and v.overlap > 0 and b.bucket >= o.since and b.bucket < o.until
  group by 1, 2, 3, 4, 5, 6
),
per_adapter as (
  select host_id, bucket, group_key, adapter, sum(share_seconds) / max(seconds) as share, least(max(seconds), 300) as seconds,
    (array_agg(process_id order by share_seconds desc, process_id))[1] as process_id
  from per_engine group by 1, 2, 3, 4
)
insert into gpu_bucket (host_id, group_key, bucket, share, covered_seconds, process_id)
select distinct on (host_id, group_key, bucket) host_id, group_key, bucket, least(share, 100), seconds, process_id
from per_adapter order by host_id, group_key, bucket, share desc, adapter
