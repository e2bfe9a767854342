-- What samplers say that the first columns had no place for.

-- processors kept busy: senders that count 100 per processor do not say how many there are
alter table cpu_sample add column cores real;
-- one graphics card, whoever uses it
alter table host_sample add column gpu_share real;
