//! Cross-origin requests: the browser's question before one, and the headers of the answers.

use http::{HeaderMap, Method, StatusCode, request::Parts};
use s3::{
    BucketName, Code, Error, Request, address::Address, documents::cors::Asked, headers::Headers,
    request::Whose,
};

use super::{Api, Ask, Done};
use crate::answer;

/// The page of another site that a request comes from.
pub(super) struct AskingPage {
    bucket: BucketName,
    whose: Whose,
    asked: Asked,
}

impl AskingPage {
    /// Reads what a browser says of it, if one asks.
    pub(super) fn of(parts: &Parts, request: &Request) -> Option<Self> {
        // A preflight is answered elsewhere.
        if parts.method == Method::OPTIONS {
            return None;
        }
        let headers = Headers(&parts.headers);
        let origin = headers.text("origin")?;
        let bucket = match &request.address {
            Address::Account => return None,
            Address::Bucket(bucket) | Address::Object(bucket, _) => bucket.clone(),
        };
        // A page may say itself what it is going to do.
        let method = headers.text("access-control-request-method");
        let asked = Asked {
            origin,
            method: method.unwrap_or_else(|| parts.method.as_str().to_owned()),
            headers: Vec::new(),
        };
        Some(Self {
            bucket,
            whose: request.whose.clone(),
            asked,
        })
    }
}

impl Ask<'_> {
    /// Asked without a signature, and answered to everybody.
    pub(super) async fn preflight(&self, name: BucketName, asked: Asked) -> Done {
        let bucket = self.find_bucket(name).await?;
        let refused = || {
            let why = "CORSResponse: This CORS request is not allowed. This is usually because the \
                       evaluation of Origin, request method / Access-Control-Request-Method or \
                       Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.";
            Error::new(Code::AccessForbidden, why)
        };
        let cors = bucket.settings.cors.as_ref().ok_or_else(refused)?;
        let allowed = cors.answer(&asked).ok_or_else(refused)?;
        let mut answer = answer::status(StatusCode::OK);
        for (name, value) in allowed {
            answer::set(answer.headers_mut(), name, value);
        }
        Ok(answer)
    }
}

impl Api {
    /// What the answer to a request of a page says: nothing if the bucket has no rule for it.
    pub(super) async fn allow_origin(&self, page: AskingPage, headers: &mut HeaderMap) {
        let AskingPage {
            bucket,
            whose,
            asked,
        } = page;
        let look = self.engine.view(move |view| view.find_bucket(&bucket));
        let Ok(Some(bucket)) = look.await else { return };
        if !whose.admits(&bucket.thing.owner) {
            return;
        }
        let cors = bucket.thing.settings.cors;
        for (name, value) in cors
            .and_then(|cors| cors.answer(&asked))
            .unwrap_or_default()
        {
            answer::set(headers, name, value);
        }
    }
}
