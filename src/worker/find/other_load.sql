-- worker::find::load: which groups kept graphics engines busy, and on which hosts did load go unexplained? Runs as in section 13.1
-- of the detection design: hysteresis, islands of at most 15 minutes between hot buckets.
-- $1..$3 the spans, $4 and $5 enter and exit of graphics engines, $6 their minutes; $7, $8, $9 the same of unexplained load
with span as materialized (
  select * from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
),
touched as materialized (
  -- series with load in the spans or next to them, read back to the last bucket that decided "cold"
  select t.*, coalesce((
      select max(b.bucket) from gpu_bucket b
      where b.host_id = t.host_id and b.group_key = t.group_key and b.bucket < t.first and b.share < $5::real
    ), t.first - interval '35 days') as since
  from (
    select 'R.GPU' as code, b.host_id, b.group_key, min(s.since) - interval '65 minutes' as first, max(s.until) as until
    from span s join gpu_bucket b on b.host_id = s.host_id and b.bucket >= s.since - interval '65 minutes' and b.bucket < s.until + interval '65 minutes'
    group by 2, 3
  ) t
  union all
  select t.*, coalesce((
      select max(b.bucket) from host_bucket b
      where b.host_id = t.host_id and b.bucket < t.first and (b.host_share < $8::real or b.rest_share < $8::real)
    ), t.first - interval '35 days')
  from (
    select 'R.UNATTRIB', b.host_id, 0::bigint, min(s.since) - interval '65 minutes' as first, max(s.until) as until
    from span s join host_bucket b on b.host_id = s.host_id and b.bucket >= s.since - interval '65 minutes' and b.bucket < s.until + interval '65 minutes'
    where b.rest_share >= $8::real group by 2
  ) t
),
bucket as (
  select t.code, t.host_id, t.group_key, b.bucket, b.share, b.process_id, b.share >= $4::real as enters, b.share < $5::real as leaves
  from touched t join gpu_bucket b on b.host_id = t.host_id and b.group_key = t.group_key and b.bucket >= t.since and b.bucket < t.until + interval '35 days'
  where t.code = 'R.GPU' and b.covered_seconds >= 180
  union all
  select t.code, t.host_id, t.group_key, b.bucket, coalesce(b.rest_share, 0), null, coalesce(b.rest_share, 0) >= $7::real, coalesce(b.rest_share, 0) < $8::real
  from touched t join host_bucket b on b.host_id = t.host_id and b.bucket >= t.since and b.bucket < t.until + interval '35 days'
  -- null on a busy host: not known what the processes used
  where t.code = 'R.UNATTRIB' and b.host_share is not null and (b.rest_share is not null or b.host_share < $8::real)
),
decided as (
  select *, count(*) filter (where enters or leaves) over (partition by code, host_id, group_key order by bucket) as decision from bucket
),
state as (
  select *, first_value(enters) over (partition by code, host_id, group_key, decision order by bucket) and decision > 0 as hot from decided
),
island as (
  select *, sum(case when bucket - before <= interval '15 minutes' then 0 else 1 end) over (partition by code, host_id, group_key order by bucket) as n
  from (
    select *, lag(bucket) over (partition by code, host_id, group_key order by bucket) as before from state where hot
  ) h
),
run as (
  select i.code, i.host_id, i.group_key, min(i.bucket) as since, max(i.bucket) + interval '5 minutes' as until, 5 * count(*) as minutes, avg(i.share) as share,
    (array_agg(i.bucket order by i.bucket))[case i.code when 'R.GPU' then $6::integer else $9::integer end / 5] + interval '5 minutes' as known_at,
    (array_agg(i.process_id order by i.share desc, i.bucket))[1] as process_id
  from island i group by i.code, i.host_id, i.group_key, i.n
)
select code as "code!", host_id as "host_id!", group_key as "group_key!", since as "since!", until as "until!", known_at as "known_at!", process_id,
  share::float8 as "share!", minutes as "minutes!"
from run where known_at is not null
order by 1, 2, 3, 4
