//! Verifies and makes AWS signatures: version 4 and version 2.
