//! S3's wire as types: bytes become one [`Request`], answers become documents. Nothing here does
//! I/O, checks a signature or knows how objects are kept; that is Walrus.
//!
//! | module | holds |
//! |---|---|
//! | [`action`] | every S3 operation by name, its policy action, and whether we serve it |
//! | [`request`] | the typed request: address, operation, parsed headers and parameters |
//! | [`address`] | which bucket and key a host and a path name |
//! | [`names`] | bucket names and keys |
//! | [`version`] | version ids, and how lists of versions go on |
//! | [`settings`] | what a bucket's owner sets about it |
//! | [`query`] | the query string as decoded pairs |
//! | [`headers`] | what a writer says about an object: metadata, checksums, conditions |
//! | [`range`], [`conditions`], [`copy_source`] | the small languages of single headers |
//! | [`checksum`] | checksum algorithms and how they are spelled |
//! | [`post`] | browser uploads: forms and their policies |
//! | [`acl`] | canned and explicit access lists |
//! | [`documents`] | the XML bodies, read and written |
//! | [`encryption`] | how an object is to be kept |
//! | [`code`], [`error`] | what can go wrong, with its HTTP status |
//! | [`xml`] | a writer, and a strict reader with limits |

pub mod acl;
pub mod action;
pub mod address;
pub mod checksum;
pub mod code;
pub mod conditions;
pub mod copy_source;
pub mod documents;
pub mod encryption;
pub mod error;
pub mod headers;
pub mod names;
pub mod post;
pub mod query;
pub mod range;
pub mod request;
pub mod settings;
pub mod version;
pub mod xml;

pub use acl::{Acl, AclWish};
pub use action::Action;
pub use code::Code;
pub use error::{Error, Result};
pub use names::{BucketName, Key, Qualifier};
pub use request::{Operation, Request};
pub use version::VersionId;
