//! The Cluster Controller: nodes, scheduling, relaying.
