//! Evidence codes from raw telemetry through the front door: for each a tale in which it is found and one in which it is not.

mod load;
mod tale;
