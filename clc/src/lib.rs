//! The Cloud Controller: EC2, IAM and STS at the edge, the record of intent, the choice of cluster.
