//! The XML bodies. Answers are written in the order of the API reference and compactly, since
//! euca2ools reads white space as text; requests are read strictly.

pub mod access;
pub mod attributes;
pub mod bucket;
pub mod copy;
pub mod cors;
pub mod delete;
pub mod encryption;
pub mod error;
pub mod lifecycle;
pub mod list;
pub mod lock;
pub mod logging;
pub mod multipart;
pub mod notification;
pub mod ownership;
pub mod payment;
pub mod tagging;
pub mod usage;
pub mod versions;
pub mod website;
