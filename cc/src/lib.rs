//! The Cluster Controller: knows its nodes, finds room for launches, and relays.
//!
//! | module | owns |
//! |---|---|
//! | [`schedule`] | where a launch goes: pure |
//! | [`book`] | everything that is known, and the sums |
//! | `reserve` | holds: room kept between the question and the wish |
//! | `placements` | wishes down, reports up, strays, what is over |
//! | `intents`, `listen` | rosters and networks; what a node's answer does |
//! | [`nodes`] | the node table: who answers |
//! | [`ledger`] | what must not be forgotten: SQLite, and a fake that survives kills |
//! | `cc` | the running thing: decide, commit, apply, tell |
//! | [`relay`] | one task per node: listen and push |
//! | `api` | the calls of the Cloud Controller |
//! | [`config`], `metrics`, [`run`] | what an operator sees |
//!
//! It decides nothing about instances but where there is room: ids, addresses and wishes are the
//! CLC's. It never ends an instance because of silence.

mod api;
pub mod book;
mod cc;
pub mod config;
mod intents;
pub mod ledger;
mod listen;
mod metrics;
pub mod nodes;
mod placements;
pub mod relay;
mod reserve;
pub mod run;
pub mod schedule;
pub mod shape;

pub use cc::{Cc, Dial};
