//! Browser uploads: a form in place of a PUT. Who has signed its policy is the caller; what the
//! policy does not speak of may not be in the form.

use http::{HeaderValue, StatusCode, header};
use s3::{
    BucketName, Key,
    headers::Headers,
    post::{PostObject, Success, policy::PostPolicy, redirect_to, write_post_response},
    query::encode_key,
};

use super::{Ask, Done, context};
use crate::{
    answer::{self, Answer},
    auth,
    body::{RequestBody, open_form},
};

impl Ask<'_> {
    pub(super) async fn post_object(self, bucket: BucketName, body: &mut RequestBody) -> Done {
        let kind = Headers(&self.parts.headers).text("content-type");
        let (form, mut file) = open_form(&kind.unwrap_or_default(), body).await?;
        let (caller, signed) = auth::authenticate_form(&form, &self.directory, &self.api.rules)?;
        if caller.account().is_some() {
            self.api.check_standing()?;
        }
        if self.is_logged {
            self.trail.is_by(caller.principal.clone(), signed);
        }

        let form = form.filled(&bucket, file.name());
        let post = form.read(bucket)?;
        let mut allowed = 0..=u64::MAX;
        if let Some(policy) = form.get("policy") {
            allowed = PostPolicy::parse(policy)?.judge(&form, self.now)?;
        }
        let who = (&caller, signed);
        let said = (&post.headers, &post.put.tags);
        let context = context::of_form(self.parts, said, who, self.origin, self.now);
        let ask = Self {
            caller,
            context,
            ..self
        };

        let PostObject {
            at,
            put,
            claims,
            success,
            ..
        } = post;
        file.expect(claims, allowed);
        let (bucket, key) = (at.bucket.clone(), at.key.clone());
        let written = ask.put_object(at, put, &mut file).await?;
        if ask.is_logged {
            ask.trail.posted(key.clone(), file.size());
        }
        Ok(ask.posted(written, &success, &bucket, &key))
    }

    /// What the browser is told, with the headers of what was written.
    fn posted(&self, written: Answer, success: &Success, bucket: &BucketName, key: &Key) -> Answer {
        let (mut parts, _) = written.into_parts();
        let etag = parts.headers.get(header::ETAG);
        let etag = etag.and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let etag = etag.trim_matches('"');
        let location = self.location(key);

        let (status, to, document) = match success {
            Success::Redirect(address) => {
                let to = redirect_to(address, bucket, key, etag);
                (StatusCode::SEE_OTHER, to, None)
            }
            Success::Status(StatusCode::CREATED) => {
                let document = write_post_response(&location, bucket, key, etag);
                (StatusCode::CREATED, location, Some(document))
            }
            Success::Status(status) => (*status, location, None),
        };
        parts.status = status;
        answer::set(&mut parts.headers, header::LOCATION, to);
        let body = match document {
            None => answer::empty(),
            Some(document) => {
                let xml = HeaderValue::from_static("application/xml");
                parts.headers.insert(header::CONTENT_TYPE, xml);
                answer::full(document)
            }
        };
        Answer::from_parts(parts, body)
    }

    /// The address of an object beside the form's own.
    fn location(&self, key: &Key) -> String {
        let scheme = self.scheme();
        let place = self.path.trim_end_matches('/');
        format!(
            "{scheme}://{}{place}/{}",
            self.host,
            encode_key(key.as_str())
        )
    }
}
