-- worker::find::resource: which groups kept processors busy, how long and how evenly? (detection design, section 13.1 and 13.2)
-- $1..$3 the spans, $4..$5 their bounds, $6 enter, $7 exit (percent of the host), $8 TimeWindow (minutes)
with span as materialized (
  select * from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
),
touched as materialized (
  -- groups with load in the spans or next to them, and how far back they have to be read: to the last bucket that decided "cold"
  -- before an hour ahead of the span, and to an hour ahead of any run or flat series that was found there before
  select t.host_id, t.group_key, least(
      coalesce((
        select max(b.bucket) from cpu_bucket b
        where b.host_id = t.host_id and b.group_key = t.group_key and b.bucket < t.since - interval '65 minutes' and b.share < $7::real
          and b.bucket >= t.since - interval '35 days'
      ), t.since - interval '35 days'),
      (
        select min(e.first_seen) - interval '65 minutes' from evidence e
        where e.host_id = t.host_id and e.group_key = t.group_key and e.code like 'R.%'
          and e.first_seen < t.until + interval '65 minutes' and e.last_seen >= t.since - interval '65 minutes'
      )) as since,
    t.until + interval '65 minutes' as until
  from (
    select b.host_id, b.group_key, min(s.since) as since, max(s.until) as until
    from span s join cpu_bucket b on b.host_id = s.host_id and b.bucket >= s.since - interval '65 minutes'
      and b.bucket < s.until + interval '65 minutes'
    where b.bucket between $4::timestamptz - interval '65 minutes' and $5::timestamptz + interval '65 minutes'
    group by 1, 2
  ) t
),
bucket as materialized (
  select b.host_id, b.group_key, b.bucket, b.share, b.cores, b.share_p10, b.share_p50, b.process_id,
    case when h.logical_cpus is null then b.share >= $6 or b.cores >= 1.0 else b.share >= $6 end as enters,
    b.share < $7::real as leaves
  from touched t join cpu_bucket b on b.host_id = t.host_id and b.group_key = t.group_key
    and b.bucket >= t.since and b.bucket < t.until + interval '35 days'
  join host h on h.host_id = b.host_id
  where b.covered_seconds >= 180 and b.bucket >= $4::timestamptz - interval '72 days'
),
decided as (
  -- hysteresis: between exit and enter the last decision holds; a missing bucket below the sampler's floor is cold
  select *, count(*) filter (where enters or leaves or cold_before) over w as decision
  from (
    select b.*, lag(bucket) over (partition by host_id, group_key order by bucket) < bucket - interval '5 minutes'
      and not enters and exists (
        select from host_bucket m
        where m.host_id = b.host_id and m.bucket < b.bucket
          and m.bucket > b.bucket - interval '20 minutes' and m.cpu_floor < $7::real
          and not exists (select from cpu_bucket c where c.host_id = b.host_id and c.group_key = b.group_key and c.bucket = m.bucket)
      ) as cold_before
    from bucket b
  ) b
  window w as (partition by host_id, group_key order by bucket)
),
state as (
  select *, first_value(enters) over (partition by host_id, group_key, decision order by bucket) and decision > 0 as hot from decided
),
island as (
  select *, sum(case when bucket - before <= interval '15 minutes' then 0 else 1 end) over (partition by host_id, group_key order by bucket) as n
  from (
    select *, lag(bucket) over (partition by host_id, group_key order by bucket) as before from state where hot
  ) h
),
run as (
  select host_id, group_key, min(bucket) as since, max(bucket) + interval '5 minutes' as until, 5 * count(*) as minutes,
    avg(share) as share, avg(cores) as cores,
    (array_agg(bucket order by bucket))[greatest(1, $8::integer / 5)] + interval '5 minutes' as sustained_at,
    (array_agg(bucket order by bucket))[12] + interval '5 minutes' as persistent_at,
    (array_agg(process_id order by share desc, bucket))[1] as process_id
  from island group by host_id, group_key, n
),
last_hour as (
  -- flat: an hour with at least ten valid buckets, cores at least 0.8, even between and within buckets
  select host_id, group_key, bucket, min(bucket) over w as first, process_id, count(*) over w as n, avg(cores) over w as cores, avg(share) over w as share,
    stddev_pop(share) over w / nullif(avg(share) over w, 0) as variation,
    avg(share_p10 / nullif(share_p50, 0)) over w as evenness
  from bucket
  window w as (partition by host_id, group_key order by bucket range between interval '55 minutes' preceding and current row)
),
flat_hour as (
  select host_id, group_key, first as since, bucket + interval '5 minutes' as until, cores, share, variation, process_id
  from last_hour where n >= 10 and coalesce(cores >= 0.8, share >= 10) and variation <= 0.15 and coalesce(evenness >= 0.8, true)
),
flat as (
  select host_id, group_key, min(since) as since, max(until) as until, min(until) as known_at, avg(cores) as cores, avg(share) as share,
    max(variation) as variation, (array_agg(process_id order by since))[1] as process_id
  from (
    select *, sum(case when since <= reach then 0 else 1 end) over (partition by host_id, group_key order by since) as n
    from (select *, max(until) over (partition by host_id, group_key order by since rows between unbounded preceding and 1 preceding) as reach from flat_hour) f
  ) f
  group by host_id, group_key, n
),
flat_hot as (
  select f.*, coalesce(sum(extract(epoch from least(f.until, r.until) - greatest(f.since, r.since))) filter (where r.since < f.until and r.until > f.since), 0)
      / extract(epoch from f.until - f.since) as hot_part,
    bool_or(r.since < f.until and r.until > f.since and r.minutes >= 60) as beside_long_run
  from flat f left join run r using (host_id, group_key)
  group by f.host_id, f.group_key, f.since, f.until, f.known_at, f.cores, f.share, f.variation, f.process_id
),
found as (
  select host_id, group_key, 'R.SUSTAINED' as code, since, until, sustained_at as known_at, process_id, share, cores, minutes::float8, null::float8 as variation
  from run where minutes >= $8::integer
  union all
  select host_id, group_key, 'R.PERSISTENT', since, until, persistent_at, process_id, share, cores, minutes, null from run where minutes >= 60
  union all
  select host_id, group_key, 'R.THROTTLED', since, until, known_at, process_id, share, cores, extract(epoch from until - since) / 60, variation
  from flat_hot where hot_part < 0.5
  union all
  select host_id, group_key, 'R.PLATEAU', since, until, known_at, process_id, share, cores, extract(epoch from until - since) / 60, variation
  from flat_hot where hot_part >= 0.5 and beside_long_run
)
select f.host_id as "host_id!", f.group_key as "group_key!", f.code as "code!", f.since as "since!", f.until as "until!", f.known_at as "known_at!",
  f.process_id, f.share::float8 as "share!", f.cores::float8 as cores, f.minutes as "minutes!", f.variation, h.logical_cpus
from found f join host h using (host_id)
order by 1, 2, 3, 4
