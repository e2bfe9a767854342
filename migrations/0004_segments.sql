-- Raw records as they came: length-prefixed, zstd, up to 1 MiB before compression. segment_id is milliseconds << 20 | random.
create table segment (
  segment_id bigint primary key,
  received_at timestamptz not null,
  token text not null,
  protocol text not null,
  records integer not null,
  raw_bytes integer not null,
  body bytea not null
);
alter table segment alter column body set storage external;
create index on segment using brin (received_at);

-- what could not be used, with the reason; the bytes are as sent (at most 1 MiB)
create table quarantine (
  digest uuid primary key,                           -- of the raw bytes and the reason: a re-send stores nothing new
  received_at timestamptz not null,
  reason text not null,
  detail text not null,
  protocol text not null,
  token text not null,
  request_id text not null,
  raw bytea not null
);
create index on quarantine (received_at desc);
