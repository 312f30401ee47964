//! Renewal: at two thirds of a certificate's life, ask for the next one and take it up.

use std::{future::Future, pin::Pin, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Tls;
use crate::{BoxError, chain, clock::SharedClock};

/// A failed renewal is tried again soon; a third of the lifetime (30 days) is left for it.
const RETRY: Duration = Duration::from_secs(10 * 60);
/// Wall clocks get set: the date is looked at this often rather than slept for.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// A request for a certificate under way. Boxed, so that the whole renewal can be a task: an async
/// closure's future cannot be shown to be `Send`.
pub type Asking = Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send>>;

/// Keeps the certificate fresh until cancelled. `ask` sends a certificate request (PEM) to the
/// cloud and gives back the certificate (PEM); it is called only when renewal is due.
pub async fn renew(
    tls: Tls,
    clock: SharedClock,
    cancel: CancellationToken,
    ask: impl Fn(String) -> Asking,
) {
    loop {
        let wait = match once(&tls, &clock, &ask).await {
            Ok(()) => LOOK,
            Err(error) => {
                tracing::warn!(
                    error = chain(&*error),
                    "certificate not renewed, trying again"
                );
                RETRY
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = clock.sleep(wait) => {}
        }
    }
}

async fn once(
    tls: &Tls,
    clock: &SharedClock,
    ask: &impl Fn(String) -> Asking,
) -> Result<(), BoxError> {
    if clock.now_ms() < tls.renew_at_ms() {
        return Ok(());
    }
    let certificate_pem = ask(tls.renewal_request()?).await?;
    tls.renewed(&certificate_pem)?;
    tracing::info!(peer = %tls.peer(), not_after_ms = tls.not_after_ms(), "certificate renewed");
    Ok(())
}
