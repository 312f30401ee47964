//! The Cluster Controller: nodes, scheduling, relaying.
fn main() {}
