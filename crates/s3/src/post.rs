//! Browser uploads: a form whose fields say what the headers of a PUT would say, with the file as its
//! last field (S3 API reference, "POST Object"). Reading the form off the wire and checking the
//! signature of its policy are Walrus's part.
//!
//! | module | holds |
//! |---|---|
//! | [`policy`] | the policy document: until when, and what the fields may say |

pub mod policy;

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

use crate::{
    BucketName, Code, Error, Key, Result,
    documents::tagging::{OBJECT_TAGS_MAX, Tags},
    headers::{Attributes, BodyClaims, Headers},
    query,
    request::{Place, PutObject},
    xml::Writer,
};

/// What may come before the file, names and values together (S3 user guide, "HTML form
/// declaration").
pub const FIELDS_BYTES_MAX: usize = 20 << 10;
/// The field that the file is in; what comes after it is not looked at.
pub const FILE: &str = "file";

const FILE_NAME: &str = "${filename}";
/// Fields that are headers of a PUT under the same name, besides all that begin with `x-amz-`.
const HEADERS: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
];
/// Fields of the signature, which say nothing of the object.
const SIGNING: [&str; 5] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-signature",
];

/// The fields of a form, as they come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    fields: Vec<(String, String)>,
    bytes: usize,
}

impl Form {
    /// Takes a field up. A name that comes twice would be judged by one value and used by the other.
    pub fn push(&mut self, name: &str, value: String) -> Result<()> {
        let name = name.to_ascii_lowercase();
        self.bytes += name.len() + value.len();
        if self.bytes > FIELDS_BYTES_MAX {
            return Err(Code::MaxPostPreDataLengthExceededError.into());
        }
        if self.get(&name).is_some() {
            let why = "The form has this field more than once.";
            return Err(Error::invalid_argument(&name, value, why));
        }
        self.fields.push((name, value));
        Ok(())
    }

    /// The value of a field, by its name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All fields, for whoever checks the signature.
    pub fn to_map(&self) -> HashMap<String, String> {
        self.fields.iter().cloned().collect()
    }

    /// Puts the file's name where fields ask for it and the bucket beside them: what policies judge.
    /// The signed text itself stays as it is.
    #[must_use]
    pub fn filled(mut self, bucket: &BucketName, file_name: Option<&str>) -> Self {
        let file_name = file_name.unwrap_or_default();
        // Some browsers send a path.
        let base = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
        for (name, value) in &mut self.fields {
            if name != "policy" && value.contains(FILE_NAME) {
                *value = value.replace(FILE_NAME, base);
            }
        }
        self.fields.retain(|(name, _)| name != "bucket");
        self.fields.push(("bucket".to_owned(), bucket.to_string()));
        self
    }

    /// What the form asks for, once it is [`Self::filled`].
    pub fn read(&self, bucket: BucketName) -> Result<PostObject> {
        let missing = "Bucket POST must contain a field named 'key'.  If it is specified, please \
                       check the order of the fields.";
        let key = self.get("key").filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| Error::invalid_argument("key", "", missing))?;
        let map = self.headers()?;
        let headers = Headers(&map);
        headers.refuse_unserved()?;
        Ok(PostObject {
            at: Place {
                bucket,
                key: Key::parse(key)?,
                version: None,
            },
            put: PutObject {
                attributes: Attributes::parse(headers)?,
                acl: headers.acl()?,
                conditions: headers.write_conditions(),
                tags: self.tags()?,
                lock: headers.lock()?,
                encryption: headers.encryption(),
            },
            claims: BodyClaims::parse(headers)?,
            success: self.success(),
            headers: map,
        })
    }

    /// The headers that a PUT would have had.
    fn headers(&self) -> Result<HeaderMap> {
        let mut map = HeaderMap::new();
        for (field, value) in &self.fields {
            let is_header = field.starts_with("x-amz-") || HEADERS.contains(&field.as_str());
            let name = match field.as_str() {
                "acl" => "x-amz-acl",
                name if is_header && !SIGNING.contains(&name) => name,
                _ => continue,
            };
            let invalid = || {
                let why = "The field cannot be a header of the object.";
                Error::invalid_argument(field, value, why)
            };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?;
            map.insert(name, value);
        }
        Ok(map)
    }

    fn tags(&self) -> Result<Tags> {
        match self.get("tagging") {
            None => Ok(Tags::default()),
            Some(document) => Tags::read(document.as_bytes(), OBJECT_TAGS_MAX),
        }
    }

    /// What cannot be an address is as if it were not there, and so is an unknown status.
    fn success(&self) -> Success {
        let redirect = self.get("success_action_redirect");
        // Its name before 2009.
        let redirect = redirect.or_else(|| self.get("redirect"));
        if let Some(to) = redirect.filter(|to| is_address(to)) {
            return Success::Redirect(to.to_owned());
        }
        Success::Status(match self.get("success_action_status") {
            Some("200") => StatusCode::OK,
            Some("201") => StatusCode::CREATED,
            _ => StatusCode::NO_CONTENT,
        })
    }
}

fn is_address(text: &str) -> bool {
    let uri = text.parse::<Uri>();
    uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
}

/// A form that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostObject {
    /// What is written.
    pub at: Place,
    /// What is said of it.
    pub put: PutObject,
    /// What is claimed about the file.
    pub claims: BodyClaims,
    /// What is answered.
    pub success: Success,
    /// What was said, as the headers of a PUT.
    pub headers: HeaderMap,
}

/// What is answered when the object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Success {
    /// 200, 204, or 201 with a document.
    Status(StatusCode),
    /// Where the browser is sent.
    Redirect(String),
}

/// Where a browser is sent with what it has written.
pub fn redirect_to(address: &str, bucket: &BucketName, key: &Key, etag: &str) -> String {
    let joint = if address.contains('?') { '&' } else { '?' };
    let key = query::encode_key(key.as_str());
    format!("{address}{joint}bucket={bucket}&key={key}&etag=%22{etag}%22")
}

/// The document of a 201.
pub fn write_post_response(location: &str, bucket: &BucketName, key: &Key, etag: &str) -> String {
    Writer::bare_document("PostResponse", |xml| {
        xml.text("Location", location);
        xml.text("Bucket", bucket.as_str());
        xml.text("Key", key.as_str());
        xml.text("ETag", format!("\"{etag}\""));
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AclWish, acl::Canned};

    fn form(fields: &[(&str, &str)]) -> Form {
        let mut form = Form::default();
        for (name, value) in fields {
            form.push(name, (*value).to_owned()).unwrap();
        }
        form
    }

    fn read(fields: &[(&str, &str)], file_name: &str) -> Result<PostObject> {
        let bucket = BucketName::parse("photos").unwrap();
        let form = form(fields).filled(&bucket, Some(file_name));
        form.read(bucket)
    }

    #[test]
    fn fields_say_what_the_headers_of_a_put_say() {
        let post = read(
            &[
                ("Key", "in/${filename}"),
                ("aCL", "public-read"),
                ("Content-Type", "text/plain"),
                ("x-amz-meta-Colour", "grün"),
                ("x-amz-meta-name", "was ${filename}"),
                (
                    "tagging",
                    "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
                ),
                ("x-amz-checksum-crc32", "AAAAAA=="),
                ("x-amz-signature", "not a header"),
                ("success_action_status", "201"),
            ],
            r"C:\pictures\cat.png",
        )
        .unwrap();
        assert_eq!(post.at.key.as_str(), "in/cat.png");
        assert_eq!(post.put.acl, Some(AclWish::Canned(Canned::PublicRead)));
        let said = &post.put.attributes;
        assert_eq!(said.content_type.as_deref(), Some("text/plain"));
        let metadata = [("colour", "grün"), ("name", "was cat.png")];
        assert_eq!(
            said.metadata,
            metadata.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(post.put.tags.count(), 1);
        assert!(post.claims.checksum.is_some());
        assert_eq!(post.success, Success::Status(StatusCode::CREATED));
        assert!(!post.headers.contains_key("x-amz-signature"));
    }

    #[test]
    fn a_form_without_a_key_with_two_or_with_a_broken_header_is_refused() {
        assert_eq!(read(&[], "f").unwrap_err().code, Code::InvalidArgument);
        let broken = read(&[("key", "k"), ("x-amz-meta-a", "b\r\nc")], "f");
        assert_eq!(broken.unwrap_err().code, Code::InvalidArgument);
        let mut twice = form(&[("key", "a")]);
        assert!(twice.push("KEY", "b".to_owned()).is_err());
        let long = twice.push("policy", "x".repeat(FIELDS_BYTES_MAX));
        assert_eq!(
            long.unwrap_err().code,
            Code::MaxPostPreDataLengthExceededError
        );
    }

    #[test]
    fn success_is_what_the_form_says_if_it_can_be() {
        let success = |name: &str, value: &str| {
            let fields = [("key", "k"), (name, value)];
            read(&fields, "f").unwrap().success
        };
        let silent = Success::Status(StatusCode::NO_CONTENT);
        assert_eq!(success("success_action_status", "404"), silent);
        assert_eq!(success("success_action_redirect", "javascript:x"), silent);
        let to = "https://example.org/done?a=b";
        let there = Success::Redirect(to.to_owned());
        assert_eq!(success("success_action_redirect", to), there);
        assert_eq!(success("redirect", to), there);

        let (bucket, key) = (
            BucketName::parse("photos").unwrap(),
            Key::parse("a b&c").unwrap(),
        );
        assert_eq!(
            redirect_to(to, &bucket, &key, "00"),
            "https://example.org/done?a=b&bucket=photos&key=a%20b%26c&etag=%2200%22"
        );
        let document = write_post_response("http://h/photos/k", &bucket, &key, "00");
        assert!(document.contains("<PostResponse><Location>http://h/photos/k</Location>"));
    }

    #[test]
    fn the_bucket_is_the_addressed_one_whatever_a_field_says() {
        let bucket = BucketName::parse("photos").unwrap();
        let form = form(&[("bucket", "other")]).filled(&bucket, None);
        assert_eq!(form.get("bucket"), Some("photos"));
    }
}
