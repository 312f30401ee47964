//! The error document.

use crate::{Error, xml::Writer};

/// Writes an error with where and when it happened.
pub fn write_error(error: &Error, resource: &str, request_id: &str, host_id: &str) -> String {
    Writer::bare_document("Error", |xml| {
        xml.text("Code", error.code.as_str());
        xml.text("Message", &error.message);
        for (element, text) in &error.details {
            xml.text(element, text);
        }
        xml.text("Resource", resource);
        xml.text("RequestId", request_id);
        xml.text("HostId", host_id);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn an_error_says_where_and_what() {
        let error = Error::from(Code::NoSuchKey).with("Key", "a<b");
        let text = write_error(&error, "/bucket/a%3Cb", "R1", "H1");
        assert_eq!(
            text,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code>\
             <Message>The specified key does not exist.</Message><Key>a&lt;b</Key>\
             <Resource>/bucket/a%3Cb</Resource><RequestId>R1</RequestId><HostId>H1</HostId></Error>"
        );
    }
}
