//! The network model turned into rules, links and routes, and a thin applier.
//!
//! [`compile`] is a pure function from the network document and this node's own settings to a
//! [`Desired`] state: plain data, texts of rulesets and configuration files included. An
//! [`Applier`] makes it so; [`LinuxApplier`] with `ip`, `bridge`, `nft` and `dnsmasq`, in the
//! network namespace of the calling process, which is the node's.
//!
//! ```text
//! node's namespace                                     a VPC's namespace
//!
//! guest ── mt… ─┐
//! guest ── mt… ─┴─ mb… (bridge, no address) ── mv… ════ s…      gateway address, DHCP, DNS
//!                   └─ mx… (vxlan, to peers)            lo       metadata, resolver
//!               public bridge ─────────────── mu… ════ uplink   public addresses, NAT
//! ```
//!
//! Security groups and anti-spoofing act in the node's namespace on the bridged path, at the
//! guest's own node only. A VPC's namespace translates addresses and never judges a connection
//! between guests: with a gateway on every node it sees one direction only.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | what only this node knows: its address, its public bridge |
//! | [`names`] | the names of host objects |
//! | [`check`] | what is unsound in a document, found before it can break a ruleset |
//! | [`desired`] | the desired state as data |
//! | [`compile`] | document → desired state |
//! | [`rules`] | rulesets as text: the node's and a VPC's |
//! | [`dhcp`] | dnsmasq's files as text |
//! | [`actual`] | what `ip -j` says there is |
//! | [`plan`] | the difference, as batches for `ip` and `bridge`; pure |
//! | [`amend`] | the difference to what was applied before, without a look; pure |
//! | [`apply`] | the trait, and the applier for Linux |
//! | [`error`] | why something could not be applied |
//! | [`dnsmasq`] | starts, adopts, reloads and stops the daemon of a VPC |
//! | [`namespace`] | named network namespaces: make, enter, list, remove |
//! | [`run`] | how a host tool is run |
//! | [`fake`] | an applier without a host |

pub mod actual;
pub mod amend;
pub mod apply;
pub mod check;
pub mod compile;
pub mod config;
pub mod desired;
pub mod dhcp;
pub mod dnsmasq;
pub mod error;
pub mod fake;
pub mod names;
pub mod namespace;
pub mod plan;
pub mod rules;
pub mod run;

pub use apply::{Applied, Applier, LinuxApplier};
pub use compile::compile;
pub use config::NodeNetwork;
pub use desired::Desired;
pub use fake::FakeApplier;
pub use run::Run;
