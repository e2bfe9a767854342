-- Hunts that people keep, for themselves or for all.
create table saved_hunt (
  saved_hunt_id bigint generated always as identity primary key,
  owner text not null,
  name text not null check (length(name) between 1 and 100),
  query text not null,
  shared boolean not null,
  created_at timestamptz not null,
  constraint one_name_per_owner unique (owner, name)
);
-- Sources are told apart by the token they use; a token's page looks for its newest records only.
create index on quarantine (token, received_at desc);
