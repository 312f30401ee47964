//! EC2 request and response shapes, a file per noun, and the error codes.
