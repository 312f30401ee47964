//! The network model turned into rules, links and routes, and a thin applier.
