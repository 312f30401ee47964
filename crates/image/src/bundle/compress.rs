//! Image → tar stream → gzip, on all cores: pieces of the tar stream are compressed side by side, each
//! to a gzip member of its own, and handed on in order while the stream's SHA-1 is made beside.
//!
//! ```text
//! read ─▶ pieces of 256 KiB ─┬─▶ SHA-1
//!                            ├─▶ gzip ─┐
//!                            └─▶ gzip ─┴─▶ in order, to the caller
//! ```
//!
//! Gzip's format allows members one after the other, and every reader of bundles takes them: gunzip,
//! pigz, Python's and Java's; ours reads each in one go, for it says how long it is ([`crate::member`]). Where the pieces are cut depends on nothing but the stream, so that the
//! same image always makes the same bytes. A piece of zeros is compressed once in a run.

use std::{
    io::Read,
    num::NonZero,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use super::{BundleError, Order, archive::Archive, source::Image};
use crate::{
    digest::{Sha1, Sha1Digest},
    member::{MEMBER_BYTES_MAX, PIECE_BYTES, Packer},
};

/// Pieces under way for each core: two megabytes, so that cores have work while a part is stored.
const PIECES_PER_CORE: usize = 8;

/// A piece of the stream. Zeros are all one piece, which nobody copies.
type Piece = Arc<Vec<u8>>;

/// A piece's member, when it is made, and how far in the image the piece goes.
type Promise = (Receiver<Arc<Vec<u8>>>, u64);

/// Takes a member, and how far in the image it goes.
pub(super) type Take<'a> = dyn FnMut(&[u8], u64) -> Result<(), BundleError> + 'a;

/// Reads the image and gives each member, with how far in the image it goes, to `take` in order.
/// Returns the SHA-1 of the tar stream.
pub(super) fn tar_and_gzip(
    order: Order<'_>,
    image: &mut dyn Image,
    take: &mut Take<'_>,
) -> Result<Sha1Digest, BundleError> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let (to_hash, hashed) = sync_channel::<Piece>(PIECES_PER_CORE);
    let (to_do, jobs) = channel::<Job>();
    let (promises, promised) = sync_channel::<Promise>(cores * PIECES_PER_CORE);
    let jobs = Mutex::new(jobs);
    let spares = Spares::default();
    let mut archive = Archive::new(order, image).map_err(BundleError::Read)?;

    thread::scope(|scope| {
        let spares = &spares;
        let hash = scope.spawn(move || hash(&hashed, spares));
        for _ in 0..cores {
            scope.spawn(|| work(&jobs, spares));
        }
        let read = scope.spawn(move || {
            let mut cutter = Cutter {
                piece: spares.take(),
                spares,
                zeros: Arc::new(vec![0; PIECE_BYTES]),
                zeros_member: None,
                to_hash,
                to_do,
                promises,
            };
            cutter.run(&mut archive)
        });

        let taken = promised.iter().try_for_each(|(member, reached)| {
            let member = member.recv().map_err(|_| BundleError::Lost)?;
            take(&member, reached)?;
            spares.give(member);
            Ok(())
        });
        // What still waits to be handed on has nobody to go to: the reader stops.
        drop(promised);
        let read = read.join().unwrap_or(Err(BundleError::Lost));
        taken.and(read)?;
        hash.join().map_err(|_| BundleError::Lost)
    })
}

/// Buffers that are to be used again: an allocator would come to keep many more of them.
#[derive(Default)]
struct Spares(Mutex<Vec<Vec<u8>>>);

impl Spares {
    /// An empty buffer.
    fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().ok().and_then(|mut spares| spares.pop());
        spare.unwrap_or_else(|| Vec::with_capacity(MEMBER_BYTES_MAX))
    }

    /// Takes a buffer back from the last who has it.
    fn give(&self, buffer: Arc<Vec<u8>>) {
        if let (Some(mut buffer), Ok(mut spares)) = (Arc::into_inner(buffer), self.0.lock()) {
            buffer.clear();
            spares.push(buffer);
        }
    }
}

fn hash(pieces: &Receiver<Piece>, spares: &Spares) -> Sha1Digest {
    let mut sha1 = Sha1::default();
    for piece in pieces {
        sha1.update(&piece);
        spares.give(piece);
    }
    Sha1Digest::from_hasher(sha1)
}

/// A piece, and where its member is waited for.
type Job = (Piece, Sender<Arc<Vec<u8>>>);

/// One core's share: piece after piece, until there are no more.
fn work(jobs: &Mutex<Receiver<Job>>, spares: &Spares) {
    let mut packer = Packer::new();
    loop {
        let job = jobs.lock().ok().and_then(|jobs| jobs.recv().ok());
        let Some((piece, answer)) = job else { return };
        let mut member = spares.take();
        packer.pack(&piece, &mut member);
        // Nobody waits any more where the run was stopped.
        let _ = answer.send(Arc::new(member));
        spares.give(piece);
    }
}

/// The reader: cuts the tar stream into pieces and sends each where it has to go.
struct Cutter<'a> {
    piece: Vec<u8>,
    spares: &'a Spares,
    zeros: Piece,
    zeros_member: Option<Arc<Vec<u8>>>,
    to_hash: SyncSender<Piece>,
    to_do: Sender<Job>,
    promises: SyncSender<Promise>,
}

/// The run was stopped; whoever stopped it knows why.
struct Stopped;

impl Cutter<'_> {
    fn run(&mut self, archive: &mut Archive<'_>) -> Result<(), BundleError> {
        while archive.left() > 0 {
            let wanted = archive.left().min(PIECE_BYTES as u64);
            self.piece.resize(wanted as usize, 0);
            archive
                .read_exact(&mut self.piece)
                .map_err(BundleError::Read)?;
            if self.send(archive.reached()).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, reached: u64) -> Result<(), Stopped> {
        let (answer, member) = channel();
        if self.piece == *self.zeros {
            let ready = self.zeros_member();
            self.to_hash.send(self.zeros.clone()).map_err(|_| Stopped)?;
            answer.send(ready).map_err(|_| Stopped)?;
        } else {
            let piece = Arc::new(std::mem::replace(&mut self.piece, self.spares.take()));
            self.to_hash.send(piece.clone()).map_err(|_| Stopped)?;
            self.to_do.send((piece, answer)).map_err(|_| Stopped)?;
        }
        self.promises.send((member, reached)).map_err(|_| Stopped)
    }

    fn zeros_member(&mut self) -> Arc<Vec<u8>> {
        let zeros = &self.zeros;
        let pack = || {
            let mut member = Vec::new();
            Packer::new().pack(zeros, &mut member);
            Arc::new(member)
        };
        self.zeros_member.get_or_insert_with(pack).clone()
    }
}
