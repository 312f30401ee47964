//! Walrus: the object store.
fn main() {}
