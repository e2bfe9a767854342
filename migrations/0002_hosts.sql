-- Machines, the names and ids they go by, and the addresses they were seen with.
create table host (
  host_id bigint generated always as identity primary key,
  name text not null,                                -- lower case; longest name known
  agent_id text,
  kind text not null default 'computer' check (kind in ('computer', 'address', 'none')),
  tier smallint check (tier between 1 and 4),
  role text,
  class text,
  tags text[] not null default '{}',
  server_edition boolean,
  first_seen timestamptz,
  last_seen timestamptz,                             -- latest event time: decides quiet and "still running"
  logical_cpus integer,
  created_at timestamptz not null default now()
) with (fillfactor = 70);
create index on host (name);
insert into host (host_id, name, kind) overriding system value values (0, '(no host)', 'none');

-- what a source may call a host: agent:ID, name:FULL NAME, address:IP
create table host_alias (
  alias text primary key,
  host_id bigint not null references host,
  label text                                         -- first label of a name, to join short and full names
);
create index on host_alias (label) where label is not null;

-- which host showed an address as its own, by hour of event time
create table address_sighting (
  address inet not null,
  hour timestamptz not null,
  host_id bigint not null,
  primary key (address, hour, host_id)
);
create index on address_sighting (host_id, hour);
