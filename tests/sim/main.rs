//! The whole cloud in one process, on a paused clock, under seeded faults.
//!
//! | module | holds |
//! |---|---|
//! | `cloud` | four zones: real Cluster Controllers, fake nodes, links that misbehave |
//! | `model_clc` | the Cloud Controller's side of the laws, small enough to read |
//! | `campaign` | random things happen, one after another |
//! | `invariants` | what must hold after each, and once all is quiet |
//! | `partition` | one story told by hand: the model for more |
//! | `mutants` | broken parts that the campaign must find |
//!
//! `MALLEE_SIM_SEED` fixes the seed, `MALLEE_SIM_STEPS` the length; a failure prints both. The
//! faults of a seed are always the same; what tokio interleaves at the same instant is too, as far
//! as it is ours to say.

mod campaign;
mod cloud;
mod invariants;
mod model_clc;
mod mutants;
mod partition;
