//! The Storage Controller: volumes as sparse files.
