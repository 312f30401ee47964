//! Walrus: the object store.
pub mod engine;
