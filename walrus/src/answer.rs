//! Answers: documents, streams of objects, errors, and the headers that all of them have.

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use s3::{Code, Error, VersionId, documents::error::write_error};

/// An error in the middle of a stream: the connection is cut, which tells the client.
pub type StreamError = Box<dyn std::error::Error + Send + Sync>;
/// A body of an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, StreamError>;
/// An answer.
pub type Answer = Response<AnswerBody>;

/// Who answers, in errors and in `x-amz-id-2`.
pub const HOST_ID: &str = "mallee-walrus";

/// Nothing.
pub fn empty() -> AnswerBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Bytes that are there.
pub fn full(bytes: impl Into<Bytes>) -> AnswerBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Bytes as they come.
pub fn streamed(
    stream: impl Stream<Item = Result<Bytes, StreamError>> + Send + 'static,
) -> AnswerBody {
    StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync()
}

/// A status and no body.
pub fn status(status: StatusCode) -> Answer {
    with_status(status, empty())
}

fn with_status(status: StatusCode, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

/// A document.
pub fn xml(text: String) -> Answer {
    let mut answer = with_status(StatusCode::OK, full(text));
    let xml = HeaderValue::from_static("application/xml");
    answer.headers_mut().insert(header::CONTENT_TYPE, xml);
    answer
}

/// Sets a header whose value cannot be known to be one; what cannot stand in a header is left out.
pub fn set(headers: &mut HeaderMap, name: impl TryInto<HeaderName>, value: impl AsRef<[u8]>) {
    if let (Ok(name), Ok(value)) = (name.try_into(), HeaderValue::from_bytes(value.as_ref())) {
        headers.insert(name, value);
    }
}

/// Names the version that was read, written or deleted, in a bucket that has versions.
pub fn set_version(headers: &mut HeaderMap, version: Option<&VersionId>) {
    if let Some(version) = version {
        set(headers, "x-amz-version-id", version.as_str());
    }
}

/// An error; HEAD and 304 have no body.
pub fn error(error: &Error, resource: &str, request_id: &str, is_head: bool) -> Answer {
    let code = error.code.status();
    let mut answer = if is_head || error.code == Code::NotModified {
        status(code)
    } else {
        let mut answer = xml(write_error(error, resource, request_id, HOST_ID));
        *answer.status_mut() = code;
        answer
    };
    for (name, value) in &error.headers {
        set(answer.headers_mut(), *name, value);
    }
    // What a HEAD cannot say in a document.
    if error.code == Code::InvalidRange
        && let Some((_, size)) = error
            .details
            .iter()
            .find(|(name, _)| *name == "ActualObjectSize")
    {
        set(
            answer.headers_mut(),
            header::CONTENT_RANGE,
            format!("bytes */{size}"),
        );
    }
    answer
}

/// The headers of every answer.
pub fn finish(mut answer: Answer, request_id: &str) -> Answer {
    let headers = answer.headers_mut();
    set(headers, "x-amz-request-id", request_id);
    set(headers, "x-amz-id-2", HOST_ID);
    headers.insert(header::SERVER, HeaderValue::from_static("mallee-walrus"));
    answer
}
