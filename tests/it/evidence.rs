//! Evidence codes from raw telemetry through the front door: for each a tale in which it is found and one in which it is not.

mod auxiliary;
mod load;
mod masquerade;
mod network;
mod tale;
