-- worker::derive::busy_half: for how long was each group busy in the half days that the spans touch?
-- $1..$3 the spans, $4..$5 their bounds
with half as materialized (
  select distinct s.host_id, h.half
  from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as s (host_id, since, until)
  cross join lateral generate_series(date_bin('12 hours', s.since, 'epoch'), s.until - interval '1 microsecond', interval '12 hours') as h (half)
),
busy as materialized (
  select h.host_id, b.group_key, h.half, 5 * count(*) as minutes, min(b.bucket) as first_bucket, max(b.bucket) as last_bucket
  from half h join cpu_bucket b on b.host_id = h.host_id and b.bucket >= h.half and b.bucket < h.half + interval '12 hours'
  where b.share >= 20 and b.covered_seconds >= 180 and b.bucket between $4::timestamptz - interval '12 hours' and $5::timestamptz + interval '12 hours'
  group by 1, 2, 3
),
gone as (
  delete from busy_half d using half h
  where d.host_id = h.host_id and d.half = h.half and not exists (
    select from busy b where b.host_id = d.host_id and b.group_key = d.group_key and b.half = d.half)
)
insert into busy_half (host_id, group_key, half, minutes, first_bucket, last_bucket)
select host_id, group_key, half, minutes, first_bucket, last_bucket from busy order by 1, 2, 3
on conflict (host_id, group_key, half) do update set
  minutes = excluded.minutes, first_bucket = excluded.first_bucket, last_bucket = excluded.last_bucket
where (busy_half.minutes, busy_half.first_bucket, busy_half.last_bucket) is distinct from (excluded.minutes, excluded.first_bucket, excluded.last_bucket)
