# What people do with the project; the recipes are in scripts/. Needs a Rust toolchain, git, gcc and make.
.PHONY: demo run test test-forwarders check fuzz bench bench-quick sqlx score screenshots docker

demo: ; @scripts/demo                        # ONCE=1: end when everything is evaluated, print what was found
run: ; @scripts/install postgresql && exec cargo run --release --quiet -- serve
test: ; @scripts/test
test-forwarders: ; @scripts/test-forwarders   # real clients, kills and overload; EVENTS=100000 FAULTS=5
check: ; @scripts/check
fuzz: ; @COALFACE_FUZZ_SECONDS=$${COALFACE_FUZZ_SECONDS:-60} cargo test --test it fuzz_ -- --nocapture --test-threads=1
bench: ; @scripts/install postgresql && exec cargo run --release --quiet -- bench
bench-quick: ; @scripts/install postgresql && exec cargo run --release --quiet -- bench --quick
score: ; @scripts/score                       # known attacks and look-alikes as raw telemetry; needs the scenarios beside the repository
sqlx: ; @scripts/sqlx-prepare
screenshots: ; @scripts/browser screenshots
docker: ; docker build --tag coalface .
