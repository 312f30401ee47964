//! Errors as each service writes them. A handler's own answers come with their envelope.

use http::{HeaderValue, Response, StatusCode, header};
use wire::{
    RequestId,
    envelope::{Party, ec2_error, query_error},
};

use super::{Body, Service, whole};

const XML: HeaderValue = HeaderValue::from_static("text/xml;charset=UTF-8");

/// An error on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status.
    pub status: StatusCode,
    /// The code that clients decide by.
    pub code: &'static str,
    /// A sentence for the user.
    pub message: String,
}

impl Failure {
    /// An error of the edge itself.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }
}

impl From<&ec2::Error> for Failure {
    fn from(error: &ec2::Error) -> Self {
        let status = StatusCode::from_u16(error.code.status());
        let status = status.expect("the table of codes holds three-digit statuses");
        Self::new(status, error.code.as_str(), error.message.clone())
    }
}

/// Writes an error in the form of its service.
pub fn failure(service: Service, failure: &Failure, request_id: &RequestId) -> Response<Body> {
    let Failure {
        status,
        code,
        message,
    } = failure;
    let text = match service {
        Service::Ec2 | Service::Bootstrap => ec2_error(code, message, request_id),
        Service::Iam => member_error(
            "https://iam.amazonaws.com/doc/2010-05-08/",
            failure,
            request_id,
        ),
        Service::Sts => member_error(ec2::sts::NAMESPACE, failure, request_id),
    };
    answer(*status, text, request_id)
}

/// Writes the refusal of a service that this cloud does not have: the form of all services after EC2.
pub fn not_served(name: &str, request_id: &RequestId) -> Response<Body> {
    let message = format!("This cloud has no service {name}.");
    let failure = Failure::new(StatusCode::BAD_REQUEST, "InvalidAction", message);
    let text = member_error("https://mallee.example/doc/", &failure, request_id);
    answer(failure.status, text, request_id)
}

fn member_error(namespace: &str, failure: &Failure, request_id: &RequestId) -> String {
    let party = if failure.status.is_server_error() {
        Party::Receiver
    } else {
        Party::Sender
    };
    query_error(namespace, party, failure.code, &failure.message, request_id)
}

/// XML with its headers. The id is also a header, under the name that AWS's SDKs read.
pub fn answer(status: StatusCode, text: String, request_id: &RequestId) -> Response<Body> {
    let mut response = Response::new(whole(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, XML);
    let id = HeaderValue::from_str(request_id.as_str()).expect("a request id is hex and dashes");
    headers.insert("x-amzn-requestid", id);
    response
}

/// An error of S3, for when Walrus cannot give one itself.
pub fn s3_failure(
    status: StatusCode,
    code: &str,
    message: &str,
    resource: &str,
    request_id: &RequestId,
) -> Response<Body> {
    let mut text =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>");
    wire::xml::escape(&mut text, message);
    text.push_str("</Message><Resource>");
    wire::xml::escape(&mut text, resource);
    text.push_str(&format!(
        "</Resource><RequestId>{request_id}</RequestId></Error>"
    ));

    let mut response = Response::new(whole(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml"),
    );
    let id = HeaderValue::from_str(request_id.as_str()).expect("a request id is hex and dashes");
    headers.insert("x-amz-request-id", id);
    response
}
