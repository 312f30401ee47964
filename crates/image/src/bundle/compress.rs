//! Image → tar stream → gzip, on all cores: pieces of the tar stream are compressed side by side, each
//! to a gzip member of its own, and handed on in order while the stream's SHA-1 is made beside.
//!
//! ```text
//! read ─▶ pieces of 1 MiB ─┬─▶ SHA-1
//!                          ├─▶ gzip ─┐
//!                          └─▶ gzip ─┴─▶ in order, to the caller
//! ```
//!
//! Gzip's format allows members one after the other, and every reader of bundles takes them: gunzip,
//! pigz, Python's and Java's. Where the pieces are cut depends on nothing but the stream, so that the
//! same image always makes the same bytes. A piece of zeros is compressed once in a run.

use std::{
    io::{self, Read, Write},
    num::NonZero,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use flate2::{Compression, write::GzEncoder};
use sha1::{Digest, Sha1};

use super::{BundleError, Order};
use crate::{digest::Sha1Digest, tar};

/// Gzip's level: 1 packs file systems to within a tenth of level 6, four times as fast.
const LEVEL: Compression = Compression::fast();
/// A piece of the tar stream, one gzip member: the new dictionary costs less than a percent.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces under way for each core: one at work, one waiting.
const PIECES_PER_CORE: usize = 2;

/// A piece of the stream. Zeros are all one piece, which nobody copies.
type Piece = Arc<Vec<u8>>;

/// A piece's member, when it is made, and the piece's length.
type Promise = (Receiver<Arc<Vec<u8>>>, u64);

/// Takes a member, and how many bytes of the stream are in it.
pub(super) type Take<'a> = dyn FnMut(&[u8], u64) -> Result<(), BundleError> + 'a;

/// Reads the image and gives each member, with the bytes that are in it, to `take` in order. Returns
/// the SHA-1 of the tar stream.
pub(super) fn tar_and_gzip(
    order: Order<'_>,
    image: &mut (dyn Read + Send),
    take: &mut Take<'_>,
) -> Result<Sha1Digest, BundleError> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let (to_hash, hashed) = sync_channel::<Piece>(PIECES_PER_CORE);
    let (to_do, jobs) = channel::<Job>();
    let (promises, promised) = sync_channel::<Promise>(cores * PIECES_PER_CORE);
    let jobs = Mutex::new(jobs);

    thread::scope(|scope| {
        let hash = scope.spawn(move || hash(&hashed));
        for _ in 0..cores {
            scope.spawn(|| work(&jobs));
        }
        let read = scope.spawn(move || {
            let mut cutter = Cutter {
                piece: Vec::with_capacity(PIECE_BYTES),
                zeros: Arc::new(vec![0; PIECE_BYTES]),
                zeros_member: None,
                to_hash,
                to_do,
                promises,
            };
            cutter.run(order, image)
        });

        let taken = promised.iter().try_for_each(|(member, bytes)| {
            let member = member.recv().map_err(|_| BundleError::Lost)?;
            take(&member, bytes)
        });
        // What still waits to be handed on has nobody to go to: the reader stops.
        drop(promised);
        let read = read.join().unwrap_or(Err(BundleError::Lost));
        taken.and(read)?;
        hash.join().map_err(|_| BundleError::Lost)
    })
}

fn hash(pieces: &Receiver<Piece>) -> Sha1Digest {
    let mut sha1 = Sha1::new();
    pieces.iter().for_each(|piece| sha1.update(&*piece));
    Sha1Digest::from_hasher(sha1)
}

/// A piece, and where its member is waited for.
type Job = (Piece, Sender<Arc<Vec<u8>>>);

/// One core's share: piece after piece, until there are no more.
fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().ok().and_then(|jobs| jobs.recv().ok());
        let Some((piece, answer)) = job else { return };
        // Nobody waits any more where the run was stopped.
        let _ = answer.send(Arc::new(member(&piece)));
    }
}

fn member(piece: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::with_capacity(piece.len() / 2), LEVEL);
    gzip.write_all(piece)
        .and_then(|()| gzip.finish())
        .expect("memory takes all that is written")
}

/// The reader: cuts the tar stream into pieces and sends each where it has to go.
struct Cutter {
    piece: Vec<u8>,
    zeros: Piece,
    zeros_member: Option<Arc<Vec<u8>>>,
    to_hash: SyncSender<Piece>,
    to_do: Sender<Job>,
    promises: SyncSender<Promise>,
}

/// The run was stopped; whoever stopped it knows why.
struct Stopped;

impl Cutter {
    fn run(&mut self, order: Order<'_>, image: &mut dyn Read) -> Result<(), BundleError> {
        let header = tar::header(order.name, order.size_bytes);
        let padding = tar::padding(order.size_bytes);
        let archive = header
            .chain(image.take(order.size_bytes))
            .chain(io::repeat(0).take(padding));
        let mut left = header.len() as u64 + order.size_bytes + padding;
        let mut archive = archive;
        while left > 0 {
            let wanted = left.min(PIECE_BYTES as u64);
            self.piece.resize(wanted as usize, 0);
            archive
                .read_exact(&mut self.piece)
                .map_err(BundleError::Read)?;
            left -= wanted;
            if self.send().is_err() {
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Stopped> {
        let bytes = self.piece.len() as u64;
        let (answer, member) = channel();
        if self.piece == *self.zeros {
            let ready = self.zeros_member();
            self.to_hash.send(self.zeros.clone()).map_err(|_| Stopped)?;
            answer.send(ready).map_err(|_| Stopped)?;
        } else {
            let empty = Vec::with_capacity(PIECE_BYTES);
            let piece = Arc::new(std::mem::replace(&mut self.piece, empty));
            self.to_hash.send(piece.clone()).map_err(|_| Stopped)?;
            self.to_do.send((piece, answer)).map_err(|_| Stopped)?;
        }
        self.promises.send((member, bytes)).map_err(|_| Stopped)
    }

    fn zeros_member(&mut self) -> Arc<Vec<u8>> {
        let zeros = &self.zeros;
        self.zeros_member
            .get_or_insert_with(|| Arc::new(member(zeros)))
            .clone()
    }
}
