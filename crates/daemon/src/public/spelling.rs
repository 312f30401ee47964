//! How answers spell the names of their headers. HTTP does not care, some clients do: s3cmd's own
//! tests look for `Content-Length`, and boto3 shows metadata under the names that come after
//! `x-amz-meta-`, letter by letter. So standard names are written as their registry has them, as S3
//! and EC2 do, and all others as small as they are kept.
//!
//! Hyper spells the names of an answer as an extension of it says, and only its parser makes that
//! extension: of an answer that is read. So one is read, once, that has every name.

use http::{Extensions, Request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Names that our answers may have (IANA, "Hypertext Transfer Protocol (HTTP) Field Name Registry").
const NAMES: [&str; 24] = [
    "Accept-Ranges",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Headers",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
    "Cache-Control",
    "Connection",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Date",
    "ETag",
    "Expires",
    "Last-Modified",
    "Location",
    "Retry-After",
    "Server",
    "Transfer-Encoding",
    "Vary",
];
const BUFFER_BYTES: usize = 4 << 10;

/// What makes an answer spell its headers so.
pub(super) async fn learn() -> Extensions {
    let (ours, mut theirs) = tokio::io::duplex(BUFFER_BYTES);
    let answering = async move {
        // Hyper takes no answer before it has asked.
        theirs.read_u8().await?;
        theirs.write_all(sample().as_bytes()).await
    };
    let asking = async move {
        let mut client = http1::Builder::new();
        let client = client.preserve_header_case(true);
        let (mut sender, connection) = client.handshake(TokioIo::new(ours)).await?;
        let answer = async move { sender.send_request(Request::new(String::new())).await };
        let (answer, ended) = tokio::join!(answer, connection);
        ended.and(answer)
    };
    let (answered, asked) = tokio::join!(answering, asking);
    answered.expect("a pipe takes what fits into it");
    let answer = asked.expect("hyper reads the head that we wrote");
    answer.extensions().clone()
}

/// An answer that has every name. Two of them say something of the message itself.
fn sample() -> String {
    let lines = NAMES.map(|name| match name {
        "Transfer-Encoding" => format!("{name}: chunked\r\n"),
        "Content-Length" => format!("{name}: 0\r\n"),
        "Connection" => format!("{name}: close\r\n"),
        _ => format!("{name}: -\r\n"),
    });
    format!("HTTP/1.1 200 OK\r\n{}\r\n0\r\n\r\n", lines.concat())
}
