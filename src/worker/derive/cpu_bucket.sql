-- worker::derive::cpu_bucket: how busy was each group in each five minutes of the spans?
with span as materialized (
  select * from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
),
sample as materialized (
  -- a sample covers the time since the one before it: at most 15 minutes, else what the collector says its period is
  select s.host_id, s.since, s.until, c.occurred_at as at, c.pid, c.started_at, c.guid, c.image, c.share, c.cores, c.logical_cpus,
    c.cpu_seconds - lag(c.cpu_seconds) over w as used,
    date_part('epoch', c.occurred_at - lag(c.occurred_at) over w) as gap, c.interval_ms / 1000::float8 as period
  from span s join cpu_sample c on c.host_id = s.host_id
    and c.occurred_at >= s.since - interval '15 minutes' and c.occurred_at < s.until + interval '15 minutes'
  where c.occurred_at between $4::timestamptz - interval '15 minutes' and $5::timestamptz + interval '15 minutes' and c.pid is not null and c.gpu_share is null
  window w as (partition by s.host_id, s.since, c.pid, c.started_at order by c.occurred_at)
),
instance as materialized (
  -- which process is it? by start time (a sampler may date it up to 10 minutes otherwise, where the image is the same), else the
  -- latest start of that pid before the sample
  select k.host_id, k.pid, k.started_at, k.guid, k.day, p.process_id, p.group_key
  from (
    select host_id, pid, started_at, guid, case when started_at is null and guid is null then at end as day,
      lower(regexp_replace(min(image), '^.*[\\/]', '')) as name
    from sample group by 1, 2, 3, 4, 5
  ) k
  cross join lateral (
    select process_id, group_key from process p
    where p.host_id = k.host_id and (
      p.guid = k.guid
      or p.pid = k.pid and (p.started_at between k.started_at - interval '2 seconds' and k.started_at + interval '2 seconds'
        or p.image_name = k.name and p.started_at between k.started_at - interval '10 minutes' and k.started_at + interval '10 minutes'
        or k.started_at is null and k.guid is null and p.started_at <= k.day + interval '2 seconds'
          and (p.ended_at is null or p.ended_at > k.day - interval '2 seconds')))
    order by abs(extract(epoch from p.started_at - k.started_at)), p.started_at desc, p.process_id limit 1
  ) p
),
valued as (
  select s.host_id, s.since, s.until, s.at, i.process_id, i.group_key,
    case when gap <= 900 then gap when gap is null then least(period, 900) end as seconds,
    -- counters beat percentages in one record (wire formats, section 12): they say what happened since the sample before
    coalesce(case when gap <= 900 and used >= 0 then 100 * used / gap / coalesce(s.logical_cpus, h.logical_cpus) end, s.share,
      100 * s.cores / coalesce(s.logical_cpus, h.logical_cpus)) as share,
    coalesce(s.logical_cpus, h.logical_cpus) as cpus
  from sample s join host h using (host_id)
  join instance i on i.host_id = s.host_id and i.pid = s.pid and i.started_at is not distinct from s.started_at
    and i.guid is not distinct from s.guid and (i.day is null or i.day = s.at)
),
spread as (
  select v.host_id, v.process_id, v.group_key, b.bucket, v.at, v.share, v.share * v.cpus / 100 as cores,
    date_part('epoch', least(v.at, b.bucket + interval '5 minutes') - greatest(v.at - make_interval(secs => v.seconds), b.bucket)) as overlap
  from valued v
  cross join lateral generate_series(date_bin('5 minutes', v.at - make_interval(secs => v.seconds), 'epoch'), v.at, interval '5 minutes') as b (bucket)
  where v.seconds > 0 and v.share is not null and b.bucket >= v.since and b.bucket < v.until and b.bucket between $4::timestamptz and $5::timestamptz
),
host_covered as (
  -- how much of a bucket the sampler saw at all: distinct ticks times what they cover
  select host_id, bucket, least(300, sum(overlap)) as seconds
  from (select host_id, bucket, date_trunc('second', at) as tick, max(overlap) as overlap from spread group by 1, 2, 3) t
  group by 1, 2
),
per_instance as (
  select host_id, bucket, group_key, process_id, sum(share * overlap) as share_seconds, sum(cores * overlap) as core_seconds,
    sum(overlap) as seconds
  from spread where overlap > 0 group by 1, 2, 3, 4
),
per_tick as (
  select host_id, bucket, group_key, date_trunc('second', at) as tick, sum(share) as share from spread where overlap > 0 group by 1, 2, 3, 4
),
quantiles as (
  select host_id, bucket, group_key, count(*) as n,
    percentile_cont(array[0.1, 0.5]) within group (order by share) as q, max(share) as top
  from per_tick group by 1, 2, 3
),
per_group as (
  select i.host_id, i.bucket, i.group_key, sum(i.share_seconds) as share_seconds, sum(i.core_seconds) as core_seconds,
    least(sum(i.seconds), min(h.seconds), 300) as seconds,
    (array_agg(i.process_id order by i.share_seconds desc, i.process_id))[1] as process_id
  -- full joins, here and below: both sides hold the same keys, and only these can never become a nested loop, which the
  -- planner likes since it expects one row of everything above (measured on 9 hosts of a day: 24 s, else 0.6 s)
  from per_instance i full join host_covered h using (host_id, bucket)
  group by 1, 2, 3
)
insert into cpu_bucket (host_id, bucket, group_key, share, cores, share_p10, share_p50, share_max, covered_seconds, process_id)
select g.host_id, g.bucket, g.group_key, g.share_seconds / g.seconds, g.core_seconds / g.seconds,
  case when q.n >= 5 then q.q[1] end, case when q.n >= 5 then q.q[2] end, q.top, g.seconds, g.process_id
from per_group g full join quantiles q using (host_id, bucket, group_key)
-- not strict, or the planner makes a plain join of it
where case when coalesce(g.seconds, 0) > 0 then g.share_seconds / g.seconds >= 3 or g.core_seconds / g.seconds >= 0.5 else false end
