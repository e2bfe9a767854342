-- Whether at least three hosts' detections share the thing within 24 hours of this one: a step of severity.
alter table fingerprint add column spread boolean not null default false;
