-- Under which name a host ran an image that day, without what copies add: one image under three names on the fleet is disguised.
alter table fleet_sighting add column name text collate "C";
alter table fleet_band add column names integer not null default 0;
