//! The control APIs over their wire: every message against its golden file, and the mTLS way.

mod golden;
mod mtls;
