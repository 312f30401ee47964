//! A file per command: ask, then print.

pub mod accounts;
pub mod bench;
pub mod console;
pub mod doctor;
pub mod explain;
pub mod image;
pub mod instances;
pub mod nodes;
pub mod quota;
pub mod s3;
pub mod status;
pub mod verify;
