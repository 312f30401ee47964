//! S3 operations as one typed request enum, documents, codes, name rules.
