-- People, their sessions, tokens of programs, and the audit log. Nothing here belongs to a host.
create table account (
  account_id bigint generated always as identity primary key,
  name text not null unique check (name = lower(name) and length(name) between 1 and 64),
  role text not null check (role in ('viewer', 'analyst', 'lead', 'admin', 'auditor')),
  password_hash text not null,
  -- the one-time password of a fresh account opens the set-password page only
  must_set_password boolean not null default false,
  password_expires_at timestamptz,
  disabled_at timestamptz,
  created_by text not null,
  created_at timestamptz not null,
  last_sign_in timestamptz
);

create table session (
  token_hash bytea primary key,                      -- SHA-256 of the cookie
  account_id bigint not null references account,
  csrf text not null,                                -- hidden field of every form
  created_at timestamptz not null,
  last_seen timestamptz not null,
  reauthenticated_at timestamptz not null,
  address text
);
create index on session (account_id);

-- failed sign-ins, counted before the password is looked at
create table login_attempt (
  subject text primary key,                          -- account:NAME or address:ADDRESS
  failures integer not null,
  blocked_until timestamptz not null,
  last_at timestamptz not null
) with (fillfactor = 70);

create table api_token (
  token_id bigint generated always as identity primary key,
  token_hash bytea not null unique,
  prefix text not null,                              -- first 8 characters, for people
  name text not null unique,
  scopes text[] not null,
  owner text not null,                               -- account name, or console:NAME for tokens made on the console
  allowed_hosts text[] not null default '{}',
  default_host text,
  utc_offset_minutes integer,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  revoked_at timestamptz,
  last_used timestamptz
) with (fillfactor = 70);

create table audit (
  seq bigint primary key,
  at timestamptz not null,
  actor text not null,
  action text not null,
  object text not null,
  before jsonb,
  after jsonb,
  request_id text,
  address text,
  prev_mac bytea not null,
  mac bytea not null
);
-- the chain's head: locked as the last statement of every audited change
create table audit_head (
  only_row boolean primary key default true check (only_row),
  seq bigint not null,
  mac bytea not null
);
insert into audit_head (seq, mac) values (0, '\x00');
