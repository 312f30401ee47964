//! What stands around a body: the root element, the namespace, the request id; and errors.

use serde::Serialize;

use crate::{
    RequestId,
    xml::{self, ListStyle},
};

const DECLARATION: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;

/// `<ActionResponse xmlns="http://ec2.amazonaws.com/doc/VERSION/">`, the request id first.
///
/// The namespace echoes the request's version, with a slash at its end: libcloud compares it as text
/// and silently finds nothing without the slash.
pub fn ec2_answer(
    action: &str,
    version: &str,
    request_id: &RequestId,
    body: &impl Serialize,
) -> Result<String, xml::Error> {
    let mut out = format!("{DECLARATION}<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/");
    xml::escape(&mut out, version);
    out.push_str("/\"><requestId>");
    out.push_str(request_id.as_str());
    out.push_str("</requestId>");
    xml::write_fields(&mut out, ListStyle::Item, body)?;
    out.push_str("</");
    out.push_str(action);
    out.push_str("Response>");
    Ok(out)
}

/// EC2's error: no namespace, and `RequestID` spelt otherwise than in answers.
pub fn ec2_error(code: &str, message: &str, request_id: &RequestId) -> String {
    let mut out = format!("{DECLARATION}<Response><Errors><Error><Code>{code}</Code><Message>");
    xml::escape(&mut out, message);
    out.push_str("</Message></Error></Errors><RequestID>");
    out.push_str(request_id.as_str());
    out.push_str("</RequestID></Response>");
    out
}

/// The answer of IAM, STS and the services after them: a result, then the metadata.
pub fn query_answer(
    action: &str,
    namespace: &str,
    request_id: &RequestId,
    result: &impl Serialize,
) -> Result<String, xml::Error> {
    let mut out = format!("{DECLARATION}<{action}Response xmlns=\"{namespace}\"><{action}Result>");
    xml::write_fields(&mut out, ListStyle::Member, result)?;
    out.push_str(&format!(
        "</{action}Result><ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    ));
    Ok(out)
}

/// Whose fault an error of IAM or STS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The client's: HTTP 4xx.
    Sender,
    /// Ours: HTTP 5xx.
    Receiver,
}

/// The error of IAM, STS and the services after them.
pub fn query_error(
    namespace: &str,
    party: Party,
    code: &str,
    message: &str,
    request_id: &RequestId,
) -> String {
    let party = match party {
        Party::Sender => "Sender",
        Party::Receiver => "Receiver",
    };
    let mut out = format!(
        "{DECLARATION}<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{party}</Type><Code>{code}</Code><Message>"
    );
    xml::escape(&mut out, message);
    out.push_str(&format!(
        "</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Regions {
        region_info: Vec<&'static str>,
    }

    fn id() -> RequestId {
        RequestId::mint(&mut Zeroes)
    }

    struct Zeroes;

    impl rand::TryRng for Zeroes {
        type Error = std::convert::Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Ok(0)
        }

        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(0)
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.fill(0);
            Ok(())
        }
    }

    #[test]
    fn an_ec2_answer_echoes_the_version_with_a_slash_and_opens_with_the_request_id() {
        let text = ec2_answer(
            "DescribeRegions",
            "2016-11-15",
            &id(),
            &Regions {
                region_info: vec!["a"],
            },
        )
        .unwrap();
        assert_eq!(
            text,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><DescribeRegionsResponse \
             xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>00000000-0000-4000-8000-000000000000\
             </requestId><regionInfo><item>a</item></regionInfo></DescribeRegionsResponse>"
        );
    }

    #[test]
    fn a_hostile_version_cannot_leave_its_attribute() {
        let text = ec2_answer(
            "A",
            "\"><x>",
            &id(),
            &Regions {
                region_info: vec![],
            },
        )
        .unwrap();
        assert!(text.contains("doc/&quot;&gt;&lt;x&gt;/\""));
    }

    #[test]
    fn errors_have_the_form_of_their_service() {
        assert_eq!(
            ec2_error("InvalidParameterValue", "a < b", &id()),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>InvalidParameterValue</Code>\
             <Message>a &lt; b</Message></Error></Errors><RequestID>00000000-0000-4000-8000-000000000000</RequestID>\
             </Response>"
        );
        assert!(
            query_error("urn:x", Party::Sender, "AccessDenied", "no", &id())
                .ends_with("</Message></Error><RequestId>00000000-0000-4000-8000-000000000000</RequestId></ErrorResponse>")
        );
    }
}
