//! Tests that span crates: layers, wire, sim, e2e, compat.
