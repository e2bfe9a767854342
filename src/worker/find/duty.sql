-- worker::find::load: which groups are busy for two hours on three of five days, days cut at 0:00 or at 12:00 UTC? (detection design, R.DUTY)
-- $1..$3 the spans, $4 minutes a day, $5 days of five
with span as materialized (
  select * from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
),
concerned as (
  select distinct b.host_id, b.group_key
  from span s join busy_half b on b.host_id = s.host_id and b.half > s.since - interval '12 hours' and b.half < s.until
  union
  select distinct e.host_id, e.group_key from span s join evidence e on e.host_id = s.host_id and e.code = 'R.DUTY'
    and e.first_seen < s.until + interval '5 days' and e.last_seen >= s.since - interval '5 days'
),
day as (
  select host_id, group_key, grid, date_bin('1 day', half - grid, 'epoch') + grid as day, sum(minutes) as minutes,
    min(first_bucket) as first_bucket, max(last_bucket) as last_bucket
  from concerned join busy_half using (host_id, group_key) cross join (values (interval '0'), (interval '12 hours')) as g (grid)
  group by 1, 2, 3, 4 having sum(minutes) >= $4::integer
),
enough as (
  select * from (
    select host_id, group_key, grid, day, last_bucket, count(*) over w as days, avg(minutes) over w as minutes, first_value(first_bucket) over w as since
    from day window w as (partition by host_id, group_key, grid order by day range between interval '4 days' preceding and current row)
  ) d where days >= $5::integer
),
series as (
  select *, sum(case when since <= reach then 0 else 1 end) over (partition by host_id, group_key order by since, day, grid) as n
  from (
    select *, max(last_bucket) over (partition by host_id, group_key order by since, day, grid rows between unbounded preceding and 1 preceding) as reach from enough
  ) e
),
known as (
  -- the moment at which the last day needed had been busy long enough
  select s.*, (
      select b.bucket + interval '5 minutes' from cpu_bucket b
      where b.host_id = s.host_id and b.group_key = s.group_key and b.bucket >= s.day and b.bucket < s.day + interval '1 day'
        and b.share >= 20 and b.covered_seconds >= 180 order by b.bucket offset $4::integer / 5 - 1 limit 1
    ) as known_at
  from (select distinct on (host_id, group_key, n, grid) * from series order by host_id, group_key, n, grid, day) s
),
found as (
  select s.host_id, s.group_key, s.n, min(s.since) as since, max(s.last_bucket) as last_bucket, max(s.days) as days, max(s.minutes) as minutes
  from series s group by 1, 2, 3
)
select f.host_id as "host_id!", f.group_key as "group_key!", f.since as "since!", f.last_bucket + interval '5 minutes' as "until!", k.known_at as "known_at!",
  f.days as "days!", f.minutes::float8 as "minutes!", (
    select b.process_id from cpu_bucket b where b.host_id = f.host_id and b.group_key = f.group_key and b.bucket = f.last_bucket
  ) as process_id
from found f
join lateral (select min(known_at) as known_at from known k where k.host_id = f.host_id and k.group_key = f.group_key and k.n = f.n) k on k.known_at is not null
order by 1, 2, 3
