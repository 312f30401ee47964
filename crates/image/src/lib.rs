//! Bundles, manifests, the streaming pipeline, raw, qcow2 and MBR formats.
