//! The compiler against golden texts and properties; the applier against real namespaces.

mod documents;
mod frames;
mod golden;
mod lab;
mod packets;
mod properties;
