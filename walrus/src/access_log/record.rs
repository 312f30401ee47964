//! A line of a server access log: 26 fields with blanks between, as "Amazon S3 server access log
//! format" of the S3 user guide has them. What a client wrote cannot end a field or a line.

use std::{fmt::Write as _, net::IpAddr};

use types::Timestamp;

/// What a line says. Of the default nothing is known: a line of dashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The canonical id of the bucket's owner.
    pub owner: String,
    /// The bucket.
    pub bucket: String,
    /// When the request came.
    pub at: Timestamp,
    /// From where, if it was a request.
    pub remote: Option<IpAddr>,
    /// A canonical id, or a user's ARN; none is nobody in particular.
    pub requester: Option<String>,
    /// The id that the answer has, too.
    pub request_id: String,
    /// `REST.GET.OBJECT`
    pub operation: String,
    /// The key, as it is.
    pub key: Option<String>,
    /// `GET /bucket/key HTTP/1.1`
    pub request_line: String,
    /// The status of the answer.
    pub status: Option<u16>,
    /// The code of the error.
    pub error: Option<String>,
    /// Bytes of the answer's body.
    pub sent_bytes: u64,
    /// The object's size.
    pub object_bytes: Option<u64>,
    /// Milliseconds from the request to the last byte of the answer.
    pub total_ms: Option<u64>,
    /// Milliseconds from the last byte of the request to the first of the answer.
    pub turn_around_ms: Option<u64>,
    /// `Referer`
    pub referer: Option<String>,
    /// `User-Agent`
    pub user_agent: Option<String>,
    /// The version that was asked for.
    pub version_id: Option<String>,
    /// `SigV4`, `SigV2`
    pub signature: Option<&'static str>,
    /// Of the connection.
    pub cipher_suite: Option<&'static str>,
    /// `AuthHeader`, `QueryString`
    pub auth: Option<&'static str>,
    /// `Host`
    pub host: Option<String>,
    /// Of the connection.
    pub tls_version: Option<&'static str>,
    /// Whether nothing but an access list allowed it.
    pub acl_required: bool,
}

impl Record {
    /// The line, without its end.
    pub fn line(&self) -> String {
        let date = self.at.log_date();
        let mut line = String::with_capacity(512);
        let _ = write!(
            line,
            "{} {} [{date}] {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} - {}",
            word(Some(&self.owner)),
            word(Some(&self.bucket)),
            shown(self.remote),
            word(self.requester.as_deref()),
            word(Some(&self.request_id)),
            word(Some(&self.operation)),
            self.key
                .as_deref()
                .map_or_else(|| "-".to_owned(), s3::query::encode_key),
            quoted(Some(&self.request_line)),
            shown(self.status),
            word(self.error.as_deref()),
            shown(Some(self.sent_bytes).filter(|bytes| *bytes > 0)),
            shown(self.object_bytes),
            shown(self.total_ms),
            shown(self.turn_around_ms),
            quoted(self.referer.as_deref()),
            quoted(self.user_agent.as_deref()),
            word(self.version_id.as_deref()),
            crate::answer::HOST_ID,
            word(self.signature),
            word(self.cipher_suite),
            word(self.auth),
            word(self.host.as_deref()),
            word(self.tls_version),
            if self.acl_required { "Yes" } else { "-" },
        );
        line
    }
}

fn shown<T: ToString>(known: Option<T>) -> String {
    known.map_or_else(|| "-".to_owned(), |known| known.to_string())
}

/// What could end a field is percent-encoded.
fn escaped(text: &str, in_word: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        let ends = matches!(letter, '"' | '\\') || (in_word && matches!(letter, ' ' | '[' | ']'));
        if ends || letter.is_control() {
            for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "%{byte:02X}");
            }
        } else {
            out.push(letter);
        }
    }
    out
}

fn word(text: Option<&str>) -> String {
    match text.filter(|text| !text.is_empty()) {
        None => "-".to_owned(),
        Some(text) => escaped(text, true),
    }
}

fn quoted(text: Option<&str>) -> String {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("-");
    format!("\"{}\"", escaped(text, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            owner: "c0ffee".into(),
            bucket: "photos".into(),
            at: "2019-02-06T00:00:38Z".parse().unwrap(),
            remote: Some([192, 0, 2, 3].into()),
            requester: Some("arn:aws:iam::111111111111:user/ann".into()),
            request_id: "3E57427F3".into(),
            operation: "REST.GET.OBJECT".into(),
            key: Some("a b/é".into()),
            request_line: "GET /photos/a%20b/%C3%A9?versionId=v1 HTTP/1.1".into(),
            status: Some(206),
            error: None,
            sent_bytes: 10,
            object_bytes: Some(100),
            total_ms: Some(7),
            turn_around_ms: Some(5),
            referer: None,
            user_agent: Some("aws-cli/2 (x)".into()),
            version_id: Some("v1".into()),
            signature: Some("SigV4"),
            cipher_suite: Some("TLS13_AES_256_GCM_SHA384"),
            auth: Some("AuthHeader"),
            host: Some("s3.localhost".into()),
            tls_version: Some("TLSv1_3"),
            acl_required: true,
        }
    }

    /// As a reader of logs counts them: blanks inside quotes and brackets end no field.
    fn fields(line: &str) -> usize {
        let (mut fields, mut quoted, mut bracketed) = (1, false, false);
        for letter in line.chars() {
            match letter {
                '"' => quoted = !quoted,
                '[' if !quoted => bracketed = true,
                ']' if !quoted => bracketed = false,
                ' ' if !quoted && !bracketed => fields += 1,
                _ => {}
            }
        }
        fields
    }

    #[test]
    fn a_line_has_its_fields_in_their_order() {
        let line = "c0ffee photos [06/Feb/2019:00:00:38 +0000] 192.0.2.3 \
            arn:aws:iam::111111111111:user/ann 3E57427F3 REST.GET.OBJECT a%20b/%C3%A9 \
            \"GET /photos/a%20b/%C3%A9?versionId=v1 HTTP/1.1\" 206 - 10 100 7 5 \"-\" \
            \"aws-cli/2 (x)\" v1 mallee-walrus SigV4 TLS13_AES_256_GCM_SHA384 AuthHeader \
            s3.localhost TLSv1_3 - Yes";
        assert_eq!(record().line(), line);
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let bare = Record {
            requester: None,
            key: None,
            status: Some(403),
            error: Some("AccessDenied".into()),
            sent_bytes: 0,
            object_bytes: None,
            user_agent: None,
            version_id: None,
            signature: None,
            cipher_suite: None,
            auth: None,
            host: None,
            tls_version: None,
            acl_required: false,
            request_line: "GET / HTTP/1.1".into(),
            ..record()
        };
        let line = bare.line();
        assert!(line.contains(" - 3E57427F3 REST.GET.OBJECT - \"GET / HTTP/1.1\" 403 AccessDenied - - 7 5 \"-\" \"-\" - mallee-walrus - - - - - - -"), "{line}");
    }

    #[test]
    fn nobody_can_write_a_second_line_or_another_field() {
        let hostile = "x\" 200 -\r\nc0ffee photos [\\";
        let line = Record {
            user_agent: Some(hostile.into()),
            referer: Some(hostile.into()),
            key: Some(hostile.into()),
            host: Some(hostile.into()),
            version_id: Some(hostile.into()),
            ..record()
        }
        .line();
        assert!(!line.contains('\n') && !line.contains('\r'));
        assert_eq!(fields(&line), fields(&record().line()), "{line}");
        assert_eq!(fields(&line), 26);
    }
}
