//! The Cloud Controller from outside, in one binary so that it links once.

mod cloud;
mod api;
mod edge;
mod rig;
mod tasks;
