//! The internal APIs as traits, their messages, the mTLS client and the router.
