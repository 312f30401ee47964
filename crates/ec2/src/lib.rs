//! EC2's request and response shapes, a file per noun, and its error codes; beside them the one call
//! of STS and the one of Eucalyptus's bootstrap service that every client makes.
//!
//! A request derives `Deserialize` and is read by [`wire::query`]; an answer derives `Serialize` and
//! is written by [`wire::xml`]. The names are the API's: a test holds every shape against botocore's
//! model (`tests/model.rs`). Nothing here decides anything; an id that does not parse is all that is
//! refused.
//!
//! | file | actions |
//! |---|---|
//! | [`regions`], [`zones`] | DescribeRegions, DescribeAvailabilityZones |
//! | [`key_pairs`] | Create-, Import-, Describe-, DeleteKeyPair(s) |
//! | [`security_groups`] | Create-, Describe-, DeleteSecurityGroup(s), Authorize-, Revoke- |
//! | [`images`], [`image_attributes`] | Register-, Describe-, Copy-, DeregisterImage(s), deprecation, attributes |
//! | [`instances`], [`instance_types`] | Run-, Describe-, Reboot-, TerminateInstances, status, attributes, console |
//! | [`bundle_tasks`] | BundleInstance, DescribeBundleTasks, CancelBundleTask |
//! | [`volumes`] | Create-, Describe-, DeleteVolume(s) |
//! | [`tags`] | Create-, Delete-, DescribeTags |
//! | [`vpcs`], [`network_interfaces`], [`addresses`], [`account_attributes`] | what SDK users look at |
//! | [`sts`], [`bootstrap`] | GetCallerIdentity, DescribeServiceCertificates |
//! | [`nothing`] | lists of what there is none of here |
//! | [`common`] | filters, tags, groups: what many of them have |
//! | [`codes`], [`error`] | the error codes, and an error as it goes out |
#![allow(
    missing_docs,
    reason = "a field has EC2's own name and meaning; the API reference says it better than a copy"
)]

pub mod account_attributes;
pub mod addresses;
pub mod bootstrap;
pub mod bundle_tasks;
pub mod codes;
pub mod common;
pub mod error;
pub mod image_attributes;
pub mod images;
pub mod instance_types;
pub mod instances;
pub mod key_pairs;
pub mod network_interfaces;
pub mod nothing;
pub mod regions;
pub mod security_groups;
pub mod sts;
pub mod tags;
pub mod volumes;
pub mod vpcs;
pub mod zones;

pub use codes::Code;
pub use common::{Done, Filter, GroupIdentifier, Tag, TagParameter, TagSpecification};
pub use error::{Error, Result};

/// A request of the API: what it reads from parameters, and what it answers.
pub trait Action: serde::de::DeserializeOwned + Send + 'static {
    /// The name in the `Action` parameter.
    const NAME: &'static str;
    /// The body of its answer.
    type Output: serde::Serialize;
}
