//! Cross-origin requests: the browser's question before one, and the headers of the answers.

use http::{HeaderMap, StatusCode};
use s3::{BucketName, Code, Error, documents::cors::Asked};

use super::{Api, Ask, Done};
use crate::answer;

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
    pub(super) async fn allow_origin(
        &self,
        name: BucketName,
        asked: Asked,
        headers: &mut HeaderMap,
    ) {
        let look = self.engine.view(move |view| view.find_bucket(&name)).await;
        let Ok(Some(bucket)) = look else { return };
        let cors = bucket.thing.settings.cors;
        for (name, value) in cors
            .and_then(|cors| cors.answer(&asked))
            .unwrap_or_default()
        {
            answer::set(headers, name, value);
        }
    }
}
