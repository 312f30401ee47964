//! One request to a query service: read its body, settle who asks, let the cloud answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use daemon::public::Client;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use sigv4::{QUERY_EXPIRES_MAX_SECS, Received, Version};
use tokio::sync::Semaphore;
use wire::{Parameters, RequestId};

use super::{
    Asked, Behind, Body, Service,
    authenticate::authenticate,
    envelope::{self, Failure},
    replay::{Admitted, Used, is_mutating},
    route::by_version,
    server::Edge,
};

/// The largest form. User data is 16 KiB, 64 KiB when encoded; a thousand ids are 40 KiB.
const BODY_MAX_BYTES: usize = 1024 * 1024;
/// What a form has that carries neither user data nor hundreds of ids.
const USUAL_BODY_BYTES: u64 = 64 * 1024;
/// Larger bodies that are read at once: with [`BODY_MAX_BYTES`] each, 64 MiB. Nobody has said yet
/// who they are.
pub(super) const LARGE_BODIES_MAX: usize = 64;
/// A form arrives in one go; whoever takes longer is holding a connection.
const BODY_LIMIT: Duration = Duration::from_secs(20);
/// euca2ools gives up after thirty seconds. What was begun goes on.
const ANSWER_LIMIT: Duration = Duration::from_secs(28);

/// The actions whose `ClientToken` makes asking twice the same as asking once.
const TOKEN_ACTIONS: [&str; 3] = ["RunInstances", "CreateVolume", "CopyImage"];

/// Fields that carry the signature and are no parameters of the action.
const SIGNATURE_FIELDS: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "SignatureMethod",
    "SignatureVersion",
    "Timestamp",
    "Expires",
    "SecurityToken",
];

/// What is known of a request when it is answered, for metrics and the log.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) service: &'static str,
    pub(super) action: String,
}

/// Answers one request. `named` learns what it was.
pub(super) async fn answer<B: Behind>(
    edge: &Arc<Edge<B>>,
    service: Service,
    request: Request<Incoming>,
    client: Client,
    request_id: &RequestId,
    named: &mut Named,
) -> Response<Body> {
    named.service = service.as_str();
    let (head, body) = request.into_parts();
    let outcome = match read_form(&edge.large_bodies, &head, body).await {
        Ok(form) => act(edge, service, &head, &form, client, request_id, named).await,
        Err(failure) => Err((service, failure)),
    };
    match outcome {
        Ok(text) => envelope::answer(StatusCode::OK, text, request_id),
        Err((service, failure)) => envelope::failure(service, &failure, request_id),
    }
}

async fn act<B: Behind>(
    edge: &Arc<Edge<B>>,
    service: Service,
    head: &http::request::Parts,
    form: &str,
    client: Client,
    request_id: &RequestId,
    named: &mut Named,
) -> Result<String, (Service, Failure)> {
    let received = Received::of(head);
    let parameters = read_parameters(&received, form).map_err(|failure| (service, failure))?;
    let version = parameters.get("Version").unwrap_or_default().to_owned();
    let service = if is_unscoped(&received) {
        by_version(&version)
    } else {
        service
    };
    named.service = service.as_str();
    let fail = |failure| (service, failure);

    let now_ms = edge.context.clock.now_ms();
    let authentic = authenticate(
        &*edge.behind,
        service,
        &received,
        form,
        edge.settings.version_2,
        now_ms,
    )
    .await
    .map_err(fail)?;

    let action = need(&parameters, "Action", "MissingAction").map_err(fail)?;
    need(&parameters, "Version", "MissingParameter").map_err(fail)?;
    // What the cloud does not know changes nothing, and takes no room among the used signatures.
    if edge.behind.knows(service, &action) {
        named.action.clone_from(&action);
        let verified = &authentic.verified;
        refuse_replay(edge, verified, &action, now_ms)
            .await
            .map_err(fail)?;
    }
    let asked = Asked {
        holder: authentic.holder,
        verified: authentic.verified,
        service,
        action,
        version,
        parameters,
        request_id: request_id.clone(),
        client,
    };
    call(edge, asked).await.map_err(fail)
}

/// Runs the call as a task of its own: a client that hangs up does not stop it halfway.
async fn call<B: Behind>(edge: &Arc<Edge<B>>, asked: Asked<B::Holder>) -> Result<String, Failure> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let late = too_late(&asked.action, &asked.parameters);
    let behind = edge.behind.clone();
    edge.context.detach(async move {
        // Whoever waited may be gone; the work is done all the same.
        let _ = tell.send(behind.call(asked).await);
    });
    match tokio::time::timeout(ANSWER_LIMIT, told).await {
        Ok(Ok(Ok(text))) => Ok(text),
        Ok(Ok(Err(error))) => {
            log(&error);
            Err(Failure::from(&error))
        }
        Ok(Err(_gone)) => Err(Failure::from(&ec2::Error::internal("the call panicked"))),
        Err(_elapsed) => Err(late),
    }
}

/// What is said when the answer takes too long. Every client sends a 503 again by itself, and a call
/// that changes something would be done twice: that one gets a code that no client retries.
fn too_late(action: &str, parameters: &Parameters) -> Failure {
    let has_token = TOKEN_ACTIONS.contains(&action) && parameters.get("ClientToken").is_some();
    if has_token || !is_mutating(action) {
        return Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            "The cloud did not answer in time. Try again.",
        );
    }
    let code = ec2::Code::IncorrectState;
    Failure::from(&ec2::Error::new(
        code,
        "The operation is still in progress and may yet succeed. Look at what is there before you \
         ask again.",
    ))
}

/// An error of ours is logged here, once, with its whole chain; the user's own are theirs.
fn log(error: &ec2::Error) {
    if error.code.status() >= 500 {
        tracing::error!(error = daemon::chain(error), "a call failed");
    } else {
        tracing::debug!(%error, "refused");
    }
}

/// Lets a signature in once, and has that written down before anything is done.
async fn refuse_replay<B: Behind>(
    edge: &Edge<B>,
    verified: &sigv4::Verified,
    action: &str,
    now_ms: i64,
) -> Result<(), Failure> {
    let is_bound_to_now = verified.version == Version::Four && !verified.presigned;
    if is_bound_to_now || !is_mutating(action) {
        return Ok(());
    }
    check_life(verified, now_ms)?;
    let used = Used {
        signature: verified.signature.clone(),
        access_key: verified.access_key.clone(),
        valid_until_ms: verified.valid_until_ms,
    };
    match edge.replays.admit(&used, now_ms) {
        Admitted::First => edge.behind.keep_signature(&used).await.map_err(|error| {
            tracing::error!(
                error = daemon::chain(&*error),
                "a used signature was not kept"
            );
            Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Unavailable",
                "The cloud cannot write down that you asked. Sign the request anew and try again.",
            )
        }),
        Admitted::Again => Err(Failure::new(
            StatusCode::UNAUTHORIZED,
            "AuthFailure",
            "This signed request was received before. Sign it anew.",
        )),
        Admitted::NoRoom => Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "RequestLimitExceeded",
            "Too many requests. Try again later, or sign by version 4.",
        )),
    }
}

/// A call that changes something may not be presigned for longer than it is remembered.
fn check_life(verified: &sigv4::Verified, now_ms: i64) -> Result<(), Failure> {
    let from_ms = verified.signed_at_ms.unwrap_or(now_ms);
    if verified.valid_until_ms - from_ms <= QUERY_EXPIRES_MAX_SECS * 1000 {
        return Ok(());
    }
    let message = format!(
        "A presigned request that changes something may live {QUERY_EXPIRES_MAX_SECS} seconds at most."
    );
    Err(Failure::new(
        StatusCode::BAD_REQUEST,
        "InvalidParameterValue",
        message,
    ))
}

fn need(parameters: &Parameters, name: &str, code: &'static str) -> Result<String, Failure> {
    parameters.get(name).map(str::to_owned).ok_or_else(|| {
        let message = format!("The request must contain the parameter {name}");
        Failure::new(StatusCode::BAD_REQUEST, code, message)
    })
}

/// A request at the root whose signature names no service.
fn is_unscoped(received: &Received<'_>) -> bool {
    let is_root = received.path == "/" || received.path.is_empty();
    let is_scoped = received.headers.contains_key(header::AUTHORIZATION)
        || sigv4::pairs(received.query).any(|(name, _)| name == "X-Amz-Credential");
    is_root && !is_scoped
}

/// The fields of the query and of the form, none twice, without those of the signature.
fn read_parameters(received: &Received<'_>, form: &str) -> Result<Parameters, Failure> {
    let malformed = |error: wire::query::Error| Failure::from(&ec2::Error::from(error));
    let mut pairs = wire::query::form_pairs(received.query).map_err(malformed)?;
    pairs.extend(wire::query::form_pairs(form).map_err(malformed)?);
    pairs.retain(|(name, _)| {
        !SIGNATURE_FIELDS.contains(&name.as_str()) && !name.starts_with("X-Amz-")
    });
    Parameters::from_pairs(pairs).map_err(malformed)
}

async fn read_form(
    large_bodies: &Semaphore,
    head: &http::request::Parts,
    body: Incoming,
) -> Result<String, Failure> {
    let refuse = |code, message: &str| Failure::new(StatusCode::BAD_REQUEST, code, message);
    if ![Method::GET, Method::POST].contains(&head.method) {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Failure::new(status, "MethodNotAllowed", "Use GET or POST."));
    }
    let is_usual = body
        .size_hint()
        .upper()
        .is_some_and(|upper| upper <= USUAL_BODY_BYTES);
    let collected = tokio::time::timeout(BODY_LIMIT, async {
        let _room = match is_usual {
            true => None,
            false => Some(large_bodies.acquire().await?),
        };
        Limited::new(body, BODY_MAX_BYTES).collect().await
    });
    let bytes: Bytes = match collected.await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("The request may not be longer than {BODY_MAX_BYTES} bytes");
            return Err(Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                message,
            ));
        }
        Ok(Err(_)) => {
            return Err(refuse(
                "MalformedQueryString",
                "The body could not be read.",
            ));
        }
        Err(_elapsed) => {
            let message = "The body did not arrive in time.";
            return Err(Failure::new(
                StatusCode::REQUEST_TIMEOUT,
                "RequestTimeout",
                message,
            ));
        }
    };
    String::from_utf8(bytes.into())
        .map_err(|_| refuse("MalformedQueryString", "The body is not UTF-8 form data."))
}
