-- "This host's bucket has something not yet evaluated." Insert-only, deleted by key, so writers never wait for the worker.
create table mark (
  host_id bigint not null,
  bucket timestamptz not null,
  batch_id bigint not null,
  marked_at timestamptz not null,
  primary key (host_id, bucket, batch_id)
) with (autovacuum_vacuum_scale_factor = 0.02);
create index on mark (marked_at);

-- who works on a host; the pass checks its fence before it commits
create table lease (
  host_id bigint primary key,
  owner text not null,
  until timestamptz not null,
  fence bigint not null,
  attempts integer not null default 0,
  error text
) with (fillfactor = 50);

-- when the worker last finished a pass, and what it did
create table worker_pass (
  only_row boolean primary key default true check (only_row),
  finished_at timestamptz not null,
  marks integer not null,
  hosts integer not null,
  duration_ms integer not null
) with (fillfactor = 50);
