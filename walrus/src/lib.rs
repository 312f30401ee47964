//! Walrus: the object store.
