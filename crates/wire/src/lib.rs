//! EC2 query and EC2 XML as two small serde formats; envelopes; request ids.
