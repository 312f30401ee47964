//! The Node Controller: makes instances on its host as the cluster wishes, and says what it sees.
//!
//! | module | owns |
//! |---|---|
//! | [`instance`] | the life of one instance: a pure machine, all decisions |
//! | [`keeper`], [`keepers`] | one task per instance that does what the machine says; all of them |
//! | [`record`] | what is kept of an instance beside its disks |
//! | [`adopt`] | makes keepers, records and domains agree, at start and ever after |
//! | [`domain`] | an instance as a libvirt domain: a model, and its XML |
//! | [`hypervisor`] | the hypervisor as a role; libvirt, and a fake that behaves |
//! | [`needs`] | what a keeper needs of disks and network, as traits |
//! | [`cache`] | images as read-only raw files: fetched, checked, shared, evicted |
//! | [`disk`] | an instance's disks: overlay on the cache, ephemeral, swap; plays [`needs::Disks`] |
//! | [`bundle`] | an instance's root disk as a bundle in S3; plays [`needs::Bundles`] |
//! | [`bandwidth`] | how much of the network images may take |
//! | [`network`] | the network document: held, applied, acknowledged |
//! | [`metadata`] | what a guest is told of itself, at 169.254.169.254 |
//! | [`console`] | the serial console's log, bounded |
//! | [`in_use`] | whether a QEMU process has a disk open |
//! | [`residents`] | who lives here, for those who serve guests |
//! | [`signs`], [`timeline`] | signs of life of a guest; what happened to an instance, for people |
//! | [`resources`] | what the host has |
//! | [`api`] | what the Cluster Controller may ask |
//! | [`tasks`] | reports, events, bounds |
//! | [`site`] | what all keepers share |
//! | [`config`], [`run`] | the configuration; from there to a running node, and joining a cloud |
//! | [`fakes`] | disks and network that exist in memory only |
//!
//! Guests are libvirt's and QEMU's, never ours: this process may die at any instant and no guest
//! notices. The truth is in libvirt and on the disks; start-up looks there.

pub mod adopt;
pub mod api;
pub mod bandwidth;
pub mod bundle;
pub mod cache;
pub mod config;
pub mod console;
pub mod disk;
pub mod domain;
pub mod fakes;
pub mod hypervisor;
pub mod in_use;
pub mod instance;
pub mod keeper;
pub mod keepers;
pub mod metadata;
pub mod needs;
pub mod network;
pub mod record;
pub mod residents;
pub mod resources;
#[cfg(test)]
mod rig;
pub mod run;
pub mod signs;
pub mod site;
pub mod tasks;
pub mod timeline;
