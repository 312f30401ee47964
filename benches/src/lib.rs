//! One command that prints each figure beside its peer or limit.
