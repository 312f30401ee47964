//! The wire formats of the query services, as serde formats: shapes are plain structs with plain
//! derives, and what the protocol does to every list, blob and absence is said here once.
//!
//! | module | holds |
//! |---|---|
//! | [`query`] | `A.1.B=v` parameters, read into any `Deserialize` type; errors name the full parameter |
//! | [`xml`] | EC2's XML, written from any `Serialize` type: absent is no element, a list is `<item>`s |
//! | [`envelope`] | what stands around a body: EC2's and IAM/STS's answers and errors |
//! | [`blob`], [`iso_time`], [`verbatim`] | base64, ISO 8601, and text whose emptiness means something |
//! | [`request_id`] | the id that each answer carries |
//!
//! It does not know any action, any error code but the three of parameters, or HTTP.

pub mod blob;
pub mod envelope;
pub mod iso_time;
pub mod query;
pub mod request_id;
pub mod verbatim;
pub mod xml;

pub use blob::Blob;
pub use iso_time::IsoTime;
pub use query::Parameters;
pub use request_id::RequestId;
pub use verbatim::Verbatim;
