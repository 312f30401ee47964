//! The store as a daemon uses it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

mod crash;
mod db;
mod migrations;
