//! What went wrong, in S3's words.

use s3::{Code, Error};

use crate::engine::Failure;

/// A failure in S3's words; what is ours to mend is logged with its whole chain, once.
pub(super) fn told(failure: Failure, request_id: &str) -> Error {
    match failure {
        Failure::Refused(error) => error,
        Failure::Stopped(why) => {
            tracing::error!(request_id, why, "a request was refused");
            Code::ServiceUnavailable.into()
        }
        Failure::Away(why) => {
            tracing::warn!(request_id, why, "a request was refused");
            away()
        }
        // A restart makes the index anew: worth another try.
        failure if failure.is_of_index() => {
            let error = daemon::chain(&failure);
            tracing::error!(request_id, error, "a request was refused");
            Code::ServiceUnavailable.into()
        }
        failure if failure.is_full() => {
            tracing::error!(request_id, "the disk is full");
            Code::InsufficientStorage.into()
        }
        failure => {
            tracing::error!(
                request_id,
                error = daemon::chain(&failure),
                "a request failed"
            );
            Code::InternalError.into()
        }
    }
}

/// What is told while the store of large objects is away: SDKs come again by themselves.
pub(crate) fn away() -> Error {
    let why = "The store that keeps large objects does not answer. Try again.";
    Error::new(Code::ServiceUnavailable, why)
}
