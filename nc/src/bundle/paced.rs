//! A request's body that goes out no faster than it may. Its length is known, as S3 asks of a put.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::bandwidth::Direction;

/// What goes out at once: some milliseconds of the slowest network that is allowed.
const PIECE_BYTES: usize = 64 << 10;

/// A body of those bytes.
pub(super) struct Paced {
    rest: Bytes,
    outgoing: Direction,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Paced {
    pub(super) fn new(bytes: Bytes, outgoing: Direction) -> Self {
        Self {
            rest: bytes,
            outgoing,
            waiting: None,
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let length = this.rest.len().min(PIECE_BYTES);
        if length == 0 {
            return Poll::Ready(None);
        }
        let outgoing = &this.outgoing;
        let waiting = this.waiting.get_or_insert_with(|| {
            let outgoing = outgoing.clone();
            Box::pin(async move { outgoing.pass(length).await })
        });
        ready!(waiting.as_mut().poll(context));
        this.waiting = None;
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::Instant;

    use super::*;
    use crate::bandwidth::Bandwidth;

    #[tokio::test(start_paused = true)]
    async fn all_of_it_goes_out_at_the_pace_and_its_length_is_known_before() {
        let bytes = Bytes::from(vec![7; 21 << 20]);
        let outgoing = Bandwidth::of(Some(10 << 20)).outgoing;
        let body = Paced::new(bytes.clone(), outgoing);
        assert_eq!(body.size_hint().exact(), Some(21 << 20));
        let begun = Instant::now();
        let sent = body.collect().await.unwrap().to_bytes();
        assert!(sent == bytes);
        assert_eq!(begun.elapsed().as_millis() / 10, 200, "21 MiB less a burst");
        assert!(Paced::new(Bytes::new(), Direction::default()).is_end_stream());
    }
}
