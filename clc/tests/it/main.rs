//! The Cloud Controller from outside, in one binary so that it links once.

mod edge;
