//! A bucket as a website: what a browser sees at `BUCKET.WEBSITE-DOMAIN`. Visitors are nobody in
//! particular, so that pages are what policies and lists give to everyone; errors are pages too.

use daemon::public::Client;
use http::{Method, StatusCode, header, request::Parts};
use s3::{
    Action, BucketName, Code, Error, Key, Operation, Request,
    address::Address,
    documents::website::{Pages, Redirect, Visit, write_error_page},
    headers::{BodyClaims, Headers},
    query,
    range::ByteRange,
    request::{GetObject, Place, Whose},
};
use sigv4::vouch::Origin;
use types::Timestamp;

use super::{Api, Ask, context, told};
use crate::{
    access_log::{Trail, Watch},
    answer::{self, Answer},
    directory::Caller,
    engine::Failure,
};

/// The object's own word of where its visitors go.
const REDIRECT: &str = "x-amz-website-redirect-location";

impl Api {
    /// Answers a browser; the code is for who counts.
    pub(super) async fn show(
        &self,
        parts: &Parts,
        bucket: &str,
        (client, origin): (Client, Origin),
        request_id: &str,
    ) -> (Answer, &'static str) {
        let is_head = parts.method == Method::HEAD;
        let now = Timestamp(self.clock.now_ms());
        let (trail, directory) = (Trail::default(), self.identity.directory());
        let action = if is_head {
            Action::HeadObject
        } else {
            Action::GetObject
        };
        let watch = visit_of(parts, bucket, action).and_then(|visit| {
            let from = (client, origin.address);
            let log = &self.access_log;
            Watch::begin(log, parts, &visit, request_id, from, now, &directory)
        });
        let ask = Ask {
            api: self,
            directory,
            caller: Caller::anonymous(),
            context: context::of_visit(parts, origin, now),
            action,
            trail: &trail,
            is_logged: watch.is_some(),
            whose: Whose::default(),
            now,
            origin,
            parts,
            host: Headers(&parts.headers).text("host").unwrap_or_default(),
            path: parts.uri.path().to_owned(),
            request_id,
        };
        let (answer, error) = match ask.visit(bucket).await {
            Ok(answer) => (answer, None),
            Err(failure) => {
                let error = told(failure, request_id);
                let code = error.code.as_str();
                (error_page(&error, request_id, is_head), Some(code))
            }
        };
        let answer = match watch {
            None => answer,
            Some(watch) => watch.of_website().answered(answer, error, trail, None),
        };
        (answer, error.unwrap_or("OK"))
    }
}

/// A visit as a request for an object, for who logs it.
fn visit_of(parts: &Parts, bucket: &str, action: Action) -> Option<Request> {
    let bucket = BucketName::parse(&bucket.to_ascii_lowercase()).ok()?;
    let path = query::decode(parts.uri.path().trim_start_matches('/'));
    let key = path.ok().and_then(|path| Key::parse(&path).ok());
    Some(Request {
        address: match key {
            None => Address::Bucket(bucket),
            Some(key) => Address::Object(bucket, key),
        },
        operation: Operation::NotServed,
        action,
        body: BodyClaims::default(),
        whose: Whose::default(),
        resource: parts.uri.path().to_owned(),
    })
}

impl Ask<'_> {
    async fn visit(&self, bucket: &str) -> Result<Answer, Failure> {
        if !matches!(self.parts.method, Method::GET | Method::HEAD) {
            let error = Error::from(Code::MethodNotAllowed);
            return Err(error.header("allow", "GET, HEAD").into());
        }
        // A name that no bucket can have.
        let name = BucketName::parse(&bucket.to_ascii_lowercase());
        let name = name.map_err(|_| Error::from(Code::NoSuchBucket).with("BucketName", bucket))?;
        let bucket = self.find_bucket(name).await?;
        let website = bucket.settings.website.as_ref();
        let website = website.ok_or_else(|| {
            let error = Error::from(Code::NoSuchWebsiteConfiguration);
            error.with("BucketName", bucket.name.as_str())
        })?;

        let path = query::decode(self.path.trim_start_matches('/'))?;
        let visit = Visit {
            secure: self.origin.secure,
            host: &self.host,
            path: &path,
        };
        if let Some(redirect) = website.redirect_all(visit) {
            return Ok(sent(&redirect));
        }
        let Some(pages) = website.pages() else {
            return Err(Code::NoSuchWebsiteConfiguration.into());
        };
        if let Some(redirect) = pages.redirect(visit, None) {
            return Ok(sent(&redirect));
        }
        match self.page(&bucket.name, &pages.key_of(&path)).await {
            Err(Failure::Refused(error)) if error.code.status().is_client_error() => {
                self.not_found(&bucket.name, pages, visit, error).await
            }
            shown => shown,
        }
    }

    /// An object as a page.
    async fn page(&self, bucket: &BucketName, key: &str) -> Result<Answer, Failure> {
        let headers = Headers(&self.parts.headers);
        let range = headers.text("range");
        let get = GetObject {
            range: range.and_then(|text| ByteRange::parse(&text)),
            conditions: headers.read_conditions(""),
            ..GetObject::default()
        };
        let shown = self.get_page(bucket, key, get).await?;
        let to = shown.headers().get(REDIRECT);
        Ok(match to.and_then(|to| to.to_str().ok()) {
            None => shown,
            Some(to) => sent(&Redirect {
                status: StatusCode::MOVED_PERMANENTLY,
                location: to.to_owned(),
            }),
        })
    }

    async fn get_page(
        &self,
        bucket: &BucketName,
        key: &str,
        get: GetObject,
    ) -> Result<Answer, Failure> {
        let at = Place {
            bucket: bucket.clone(),
            key: Key::parse(key)?,
            version: None,
        };
        let is_head = self.action == Action::HeadObject;
        self.get_object(at, get, is_head).await
    }

    /// What is shown in place of a page: the folder of that name, what the rules say of the error,
    /// the website's page for errors.
    async fn not_found(
        &self,
        bucket: &BucketName,
        pages: &Pages,
        visit: Visit<'_>,
        error: Error,
    ) -> Result<Answer, Failure> {
        let status = error.code.status();
        let is_absent = matches!(status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN);
        if let Some(index) = pages.index_below(visit.path).filter(|_| is_absent)
            && self
                .get_page(bucket, &index, GetObject::default())
                .await
                .is_ok()
        {
            return Ok(sent(&Redirect {
                status: StatusCode::FOUND,
                location: format!("/{}/", query::encode_key(visit.path)),
            }));
        }
        if let Some(redirect) = pages.redirect(visit, Some(status)) {
            return Ok(sent(&redirect));
        }
        if let Some(key) = pages.error_page()
            && let Ok(mut page) = self.get_page(bucket, key, GetObject::default()).await
        {
            *page.status_mut() = status;
            return Ok(page);
        }
        Err(error.into())
    }
}

fn sent(redirect: &Redirect) -> Answer {
    let mut answer = answer::status(redirect.status);
    answer::set(answer.headers_mut(), header::LOCATION, &redirect.location);
    answer
}

/// An error for a browser.
fn error_page(error: &Error, request_id: &str, is_head: bool) -> Answer {
    let mut answer = answer::status(error.code.status());
    let headers = answer.headers_mut();
    answer::set(headers, "x-amz-error-code", error.code.as_str());
    answer::set(headers, "x-amz-error-message", error.message.as_bytes());
    for (name, value) in &error.headers {
        answer::set(headers, *name, value);
    }
    if !is_head {
        let kind = "text/html; charset=utf-8";
        answer::set(headers, header::CONTENT_TYPE, kind);
        *answer.body_mut() = answer::full(write_error_page(error, request_id));
    }
    answer
}
