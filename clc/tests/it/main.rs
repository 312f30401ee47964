//! The Cloud Controller from outside, in one binary so that it links once.
#![allow(clippy::unwrap_used, missing_docs)]

mod api;
mod cloud;
mod copies;
mod edge;
mod init;
mod rig;
mod schema;
mod tasks;
