//! The Cloud Controller: EC2, IAM and STS at the edge, the record of intent, the choice of cluster.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | the file `clc.toml` |
//! | [`init`] | `mallee-clc init` and `token`: authority, image key, first account, first zone |
//! | [`clc`](Clc) | what all parts share |
//! | [`api`] | every action of EC2 and STS: its handler, or that we have not got it |
//! | [`caller`] | who asks; only the edge makes one |
//! | [`edge`] | the public port: signatures, routing to services, the way to Walrus |
//! | [`serve`](serve()) | the daemon: opens what `init` made, starts listeners and tasks |
//! | [`control`] | what daemons and the administrator may ask of us: joining, identity, tickets, status |
//! | [`peers`] | whom we may ask: Cluster and Storage Controllers, Walrus |
//! | [`seen`] | what clusters and stores last said of themselves; memory only |
//! | [`identity`] | accounts, users and keys in memory, and as a feed for Walrus |
//! | [`seal`] | secrets in the database, under a key that is not in it |
//! | [`instance`] | the state machine of an instance: wanted and reported in, state out; pure |
//! | [`volume`] | that of a volume; pure |
//! | [`releases`] | holds that may stand and that nobody wants |
//! | [`bundle_task`] | the same of a bundle that is made of one |
//! | [`accounts`] | making an account |
//! | [`default_vpc`] | the network that every account has from the start |
//! | [`addresses`] | giving an instance its interface and addresses |
//! | [`copies`] | which node reads a bundle now, and who takes it from whom |
//! | [`wish`] | rows → what a cluster or a store is told, whole |
//! | [`network`] | rows → the network document of a zone |
//! | [`tasks`] | reconcilers: wishes down, reports up, documents out, the gone forgotten |
//! | [`rows`] | SQL, a file per noun, and nothing but SQL |
//!
//! A handler checks, records intent in one transaction, wakes a task and answers. No handler waits
//! for a node; the one bounded call is the hold at a Cluster Controller.

pub mod accounts;
pub mod addresses;
pub mod api;
pub mod bundle_task;
pub mod caller;
mod clc;
pub mod config;
pub mod control;
pub mod copies;
pub mod default_vpc;
pub mod edge;
pub mod identity;
pub mod init;
pub mod instance;
pub mod network;
pub mod peers;
pub mod releases;
pub mod rows;
pub mod seal;
pub mod seen;
mod serve;
pub mod tasks;
pub mod volume;
pub mod wish;

pub use caller::Caller;
pub use clc::{Clc, Parts, Wakes};
pub use serve::serve;

/// The steps of `clc.db`, in order.
pub const MIGRATIONS: &[store::Migration] = &[
    (
        "0001_cloud.sql",
        include_str!("../migrations/0001_cloud.sql"),
    ),
    (
        "0002_compute.sql",
        include_str!("../migrations/0002_compute.sql"),
    ),
    (
        "0003_memory.sql",
        include_str!("../migrations/0003_memory.sql"),
    ),
    (
        "0004_impaired.sql",
        include_str!("../migrations/0004_impaired.sql"),
    ),
    (
        "0005_images.sql",
        include_str!("../migrations/0005_images.sql"),
    ),
    (
        "0006_bundle_tasks.sql",
        include_str!("../migrations/0006_bundle_tasks.sql"),
    ),
    (
        "0007_image_blocks.sql",
        include_str!("../migrations/0007_image_blocks.sql"),
    ),
];
