//! The compiler against golden texts and properties; the applier against real namespaces.
#![allow(clippy::unwrap_used)] // helpers of tests fail as tests do

mod amend;
mod documents;
mod frames;
mod golden;
#[allow(clippy::disallowed_methods)] // a laboratory is made by hand, with host tools
mod lab;
mod packets;
mod properties;
