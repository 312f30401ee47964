//! The vocabulary of the cloud: typed ids, states, sizes, zones, VM types, addresses, and the
//! network document. Plain values that parse, print and serialise; nothing here does I/O or reads
//! a clock.
//!
//! | module | holds |
//! |---|---|
//! | [`id`] | one registry of every id prefix, with its NotFound and Malformed codes |
//! | [`account`] | account numbers, access keys, principals |
//! | [`instance`] | instance states and their wire codes, state reasons |
//! | [`volume`] | volume states |
//! | [`image`] | image states and kinds |
//! | [`vm_type`] | instance types and their shapes |
//! | [`size`] | MiB, GiB |
//! | [`zone`] | region and zone names |
//! | [`arn`] | Amazon resource names |
//! | [`mac`] | Ethernet addresses |
//! | [`network`] | the versioned network document that the CLC compiles and nodes apply |
//! | [`quota`] | how much an account or a bucket of the object store may hold |
//! | [`secret`] | text that never prints itself |
//! | [`time`] | UTC milliseconds |

pub mod account;
pub mod arn;
pub mod id;
pub mod image;
pub mod instance;
pub mod mac;
pub mod network;
pub mod quota;
pub mod secret;
pub mod size;
mod text;
pub mod time;
pub mod vm_type;
pub mod volume;
pub mod zone;

pub use account::{AccessKeyId, AccountId};
pub use arn::Arn;
pub use id::*;
pub use image::{ImageKind, ImageState};
pub use instance::{InstanceState, StateReason};
pub use mac::MacAddr;
pub use secret::Secret;
pub use size::{Gib, Mib};
pub use time::Timestamp;
pub use vm_type::VmType;
pub use volume::VolumeState;
pub use zone::{Region, Zone};
