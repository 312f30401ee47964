//! The control APIs over their wire: every message against its golden file, and the mTLS way.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, and says where"
)]

mod golden;
mod mtls;
mod strangers;
