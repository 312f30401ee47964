//! The XML bodies. Answers are written in the order of the API reference and compactly, since
//! euca2ools reads white space as text; requests are read strictly.

pub mod access;
pub mod bucket;
pub mod copy;
pub mod delete;
pub mod error;
pub mod list;
pub mod multipart;
pub mod versions;
