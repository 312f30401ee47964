//! Accounts and policies: parse and evaluate, pure.
