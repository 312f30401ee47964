//! The Cloud Controller from outside, in one binary so that it links once.
#![allow(clippy::unwrap_used, missing_docs)]

mod cloud;
mod api;
mod edge;
mod rig;
mod tasks;
