//! The whole cloud in one process, on a paused clock, under seeded faults.
//!
//! | module | holds |
//! |---|---|
//! | `cloud` | four zones: real Cluster Controllers, fake nodes, links that misbehave |
//! | `front` | a Cloud Controller as clients see it |
//! | `model_clc` | its side of the laws, small enough to read |
//! | `real_clc` | the real one, with its database, over the same links |
//! | `campaign` | random things happen, one after another |
//! | `invariants` | what must hold after each, and once all is quiet |
//! | `partition` | one story told by hand: the model for more |
//! | `mutants` | broken parts that the campaign must find |
//!
//! `MALLEE_SIM_SEED` fixes the seed, `MALLEE_SIM_STEPS` the length; a failure prints both. The
//! faults of a seed are always the same; with the real Cloud Controller what happens between them also
//! hangs on the disk.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, and says where"
)]

mod campaign;
mod cloud;
mod front;
mod invariants;
mod model_clc;
mod mutants;
mod partition;
mod real_clc;
