//! New migration files must be noticed by the macro that embeds them.
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
