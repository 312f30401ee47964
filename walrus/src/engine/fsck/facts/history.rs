//! Random histories of every kind of fact, written as the committer writes them.

use std::collections::{BTreeMap, BTreeSet};

use s3::{
    Acl, BucketName, Key, VersionId,
    acl::Canned,
    documents::{tagging::Tags, versions::Versioning},
    headers::{Attributes, ChecksumPlan},
    settings::{Setting, Settings},
};
use tempfile::TempDir;
use testkit::seed::{self, TestRng};
use types::{
    Timestamp,
    quota::{Limit, Limits, QuotaOf},
};

use crate::engine::{
    Places,
    blobs::BlobStore,
    events::Cause,
    facts::{Body, Bucket, Event, Fact, Object, Part, Piece, Quota, Sealing, Under, Upload},
    frame,
    index::{IndexFile, IndexWriter},
    journal::{Journal, Location},
    recover::{INDEX, JOURNAL},
};

const FRAMES: u64 = 150;
/// Segments are sealed at random, about so many frames long.
const SEGMENT_FRAMES: u64 = 25;

/// The name of a kind; a new one does not compile until it has one here, and is not tested until a
/// history makes it.
fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::BucketSet(_) => "bucket set",
        Fact::BucketGone(_) => "bucket gone",
        Fact::ObjectSet(object) => match object.body {
            Body::Inline => "inline object",
            Body::Pieces(_) => "object in files",
            Body::Marker => "delete marker",
        },
        Fact::ObjectGone { .. } => "object gone",
        Fact::UploadSet(_) => "upload set",
        Fact::UploadGone { .. } => "upload gone",
        Fact::PartSet(_) => "part set",
        Fact::QuotaSet(_) => "quota set",
        Fact::QuotaGone(_) => "quota gone",
        Fact::EventSet(_) => "event set",
        Fact::EventsGone { .. } => "events gone",
    }
}

/// Every kind there is.
pub(super) const KINDS: [&str; 13] = [
    "bucket set",
    "bucket gone",
    "inline object",
    "object in files",
    "delete marker",
    "object gone",
    "upload set",
    "upload gone",
    "part set",
    "quota set",
    "quota gone",
    "event set",
    "events gone",
];

/// A folder, what writes to it, and what is true.
pub(super) struct History {
    folder: TempDir,
    rng: TestRng,
    journal: Journal,
    index: IndexWriter,
    blobs: BlobStore,
    batch: u64,
    kinds: BTreeSet<&'static str>,
    buckets: BTreeMap<String, Bucket>,
    objects: Vec<Object>,
    uploads: Vec<(Upload, Vec<Part>)>,
    last_order: u64,
}

impl History {
    fn begin(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join(JOURNAL);
        std::fs::create_dir(&journal).unwrap();
        let places = Places::below(folder.path());
        Self {
            rng: seed::rng(seed),
            journal: Journal::begin(&journal, 1, 0).unwrap(),
            index: IndexFile::new(folder.path().join(INDEX)).writer().unwrap(),
            blobs: BlobStore::open(&places.blobs, folder.path()).unwrap(),
            folder,
            batch: 0,
            kinds: BTreeSet::new(),
            buckets: BTreeMap::new(),
            objects: Vec::new(),
            uploads: Vec::new(),
            last_order: 0,
        }
    }

    /// As the committer does: index, journal, commit, then what was displaced goes.
    fn write(&mut self, facts: Vec<Fact>, body: &[u8]) {
        self.kinds.extend(facts.iter().map(kind));
        self.batch += 1;
        let mut frames = Vec::new();
        let length = frame::write(&mut frames, self.batch, &facts, body) as u64;
        let at = Location {
            segment: self.journal.number(),
            offset: self.journal.end(),
            length,
        };
        self.index.begin().unwrap();
        let displaced = self.index.apply(&facts, at).unwrap();
        self.journal.append(&frames).unwrap();
        let place = (self.journal.number(), self.journal.end());
        self.index.commit(place).unwrap();
        displaced
            .iter()
            .for_each(|blob| self.blobs.remove(blob).unwrap());
        if self.below(SEGMENT_FRAMES) == 0 {
            self.journal.rotate().unwrap();
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        seed::below(&mut self.rng, bound)
    }

    fn piece(&mut self) -> Piece {
        let size = self.below(200_000);
        let mut sink = self.blobs.create().unwrap();
        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 / 3) as u8).collect();
        sink.write(&bytes).unwrap();
        Piece {
            blob: sink.finish().unwrap().keep(),
            size,
            salt: None,
            checksum: None,
        }
    }

    fn object(&mut self, bucket: &Bucket, body: Body) -> Object {
        self.last_order += 1;
        let order = self.last_order;
        let version = match bucket.settings.versioning {
            Some(Versioning::Enabled) => VersionId::mint(order, self.below(u64::MAX)),
            _ => VersionId::null(),
        };
        let sealing = Sealing {
            under: Under::Server,
            key: "wrapped".into(),
            salt: "salt".into(),
        };
        Object {
            bucket: bucket.name.clone(),
            key: Key::parse(&format!("k{}/é", self.below(12))).unwrap(),
            version,
            order,
            etag: hex::encode(order.to_le_bytes()),
            size: body.pieces().iter().map(|piece| piece.size).sum(),
            modified: Timestamp(order as i64),
            owner: bucket.owner.clone(),
            acl: Canned::PublicRead.resolve(&bucket.owner, &bucket.owner),
            attributes: Attributes::default(),
            checksum: None,
            tags: Tags::default(),
            lock: Default::default(),
            encryption: (self.below(3) == 0).then_some(sealing),
            body,
            upload_id: None,
        }
    }

    fn any_bucket(&mut self) -> Option<Bucket> {
        let all: Vec<Bucket> = self.buckets.values().cloned().collect();
        seed::one_of(&mut self.rng, &all).cloned()
    }

    fn step(&mut self) {
        match self.below(14) {
            0 | 1 => self.set_bucket(),
            2 => self.remove_bucket(),
            3..=6 => self.put_object(),
            7 => self.remove_object(),
            8 => self.change_object(),
            9 => self.begin_upload(),
            10 => self.put_part(),
            11 => self.set_quota(),
            12 => self.queue_event(),
            _ => self.end_upload(),
        }
    }

    fn set_bucket(&mut self) {
        let name = format!("bucket-{}", self.below(4));
        let fresh = Bucket {
            name: BucketName::parse(&name).unwrap(),
            id: self.batch.to_string(),
            owner: "111111111111".parse().unwrap(),
            created: Timestamp(1),
            location: None,
            acl: Acl::default(),
            settings: Settings::default(),
        };
        let mut bucket = self.buckets.get(&name).cloned().unwrap_or(fresh);
        let versioning = [Versioning::Enabled, Versioning::Suspended];
        let versioning = versioning[self.below(2) as usize];
        bucket.settings.set(Setting::Versioning(versioning));
        self.buckets.insert(name, bucket.clone());
        self.write(vec![Fact::BucketSet(Box::new(bucket))], b"");
    }

    /// Something that waits to be told, or that was.
    fn queue_event(&mut self) {
        let Some(bucket) = self.any_bucket() else {
            return;
        };
        let to = "hook".to_owned();
        let fact = match self.below(3) {
            0 => Fact::EventsGone {
                to,
                ids: (0..self.below(self.batch + 1)).collect(),
            },
            _ => Fact::EventSet(Box::new(Event {
                id: self.batch,
                to,
                rule: "all".into(),
                name: "s3:ObjectCreated:Put".into(),
                at: Timestamp(5),
                bucket: bucket.name,
                owner: bucket.owner,
                key: None,
                size: None,
                etag: None,
                version: None,
                cause: Cause {
                    verb: Default::default(),
                    who: "alice".into(),
                    address: None,
                    request_id: String::new(),
                    at: Timestamp(5),
                },
            })),
        };
        self.write(vec![fact], b"");
    }

    fn set_quota(&mut self) {
        let of = match self.below(2) {
            0 => QuotaOf::Account("111111111111".parse().unwrap()),
            _ => QuotaOf::Bucket(format!("bucket-{}", self.below(4))),
        };
        let limits = Limits {
            bytes: Limit::At(self.below(1 << 40)),
            ..Limits::default()
        };
        let fact = match self.below(3) {
            0 => Fact::QuotaGone(of),
            _ => Fact::QuotaSet(Quota { of, limits }),
        };
        self.write(vec![fact], b"");
    }

    fn remove_bucket(&mut self) {
        let Some(bucket) = self.any_bucket() else {
            return;
        };
        if self
            .objects
            .iter()
            .any(|object| object.bucket == bucket.name)
        {
            return;
        }
        let of_it = |upload: &(Upload, Vec<Part>)| upload.0.bucket == bucket.name;
        let gone = self.uploads.iter().filter(|upload| of_it(upload));
        let mut facts: Vec<Fact> = gone
            .map(|(upload, _)| Fact::UploadGone {
                upload_id: upload.id.clone(),
            })
            .collect();
        self.uploads.retain(|upload| !of_it(upload));
        facts.push(Fact::BucketGone(bucket.name.clone()));
        self.buckets.remove(bucket.name.as_str());
        self.write(facts, b"");
    }

    fn put_object(&mut self) {
        let Some(bucket) = self.any_bucket() else {
            return;
        };
        let (body, inline) = match self.below(3) {
            0 => (Body::Inline, vec![7; self.below(500) as usize]),
            1 if bucket.settings.versioning.is_some() => (Body::Marker, Vec::new()),
            _ => (Body::Pieces(vec![self.piece(), self.piece()]), Vec::new()),
        };
        let mut object = self.object(&bucket, body);
        object.size = object.size.max(inline.len() as u64);
        self.keep(object.clone());
        self.write(vec![Fact::ObjectSet(Box::new(object))], &inline);
    }

    fn keep(&mut self, new: Object) {
        let same = |old: &Object| {
            (&old.bucket, &old.key, &old.version) == (&new.bucket, &new.key, &new.version)
        };
        self.objects.retain(|old| !same(old));
        self.objects.push(new);
    }

    fn remove_object(&mut self) {
        if self.objects.is_empty() {
            return;
        }
        let at = self.below(self.objects.len() as u64) as usize;
        let Object {
            bucket,
            key,
            version,
            ..
        } = self.objects.remove(at);
        let gone = Fact::ObjectGone {
            bucket,
            key,
            version,
        };
        self.write(vec![gone], b"");
    }

    /// The same version with another access list: its files stay.
    fn change_object(&mut self) {
        let Some(mut object) = seed::one_of(&mut self.rng, &self.objects).cloned() else {
            return;
        };
        object.acl = Acl::default();
        let inline = vec![7; object.size as usize];
        let body: &[u8] = if object.body == Body::Inline {
            &inline
        } else {
            b""
        };
        self.keep(object.clone());
        self.write(vec![Fact::ObjectSet(Box::new(object))], body);
    }

    fn begin_upload(&mut self) {
        let Some(bucket) = self.any_bucket() else {
            return;
        };
        let upload = Upload {
            id: format!("upload-{}", self.batch),
            bucket: bucket.name,
            key: Key::parse(&format!("k{}/é", self.below(12))).unwrap(),
            owner: bucket.owner,
            initiated: Timestamp(3),
            acl: Acl::default(),
            attributes: Attributes::default(),
            checksum: ChecksumPlan::default(),
            tags: Tags::default(),
            lock: Default::default(),
            encryption: None,
        };
        self.uploads.push((upload.clone(), Vec::new()));
        self.write(vec![Fact::UploadSet(Box::new(upload))], b"");
    }

    fn put_part(&mut self) {
        if self.uploads.is_empty() {
            return;
        }
        let at = self.below(self.uploads.len() as u64) as usize;
        let part = Part {
            upload_id: self.uploads[at].0.id.clone(),
            number: 1 + self.below(3) as u32,
            etag: "e".into(),
            modified: Timestamp(4),
            checksum: None,
            piece: self.piece(),
        };
        let parts = &mut self.uploads[at].1;
        parts.retain(|old| old.number != part.number);
        parts.push(part.clone());
        self.write(vec![Fact::PartSet(Box::new(part))], b"");
    }

    /// Completed if it has parts, else forgotten.
    fn end_upload(&mut self) {
        if self.uploads.is_empty() {
            return;
        }
        let at = self.below(self.uploads.len() as u64) as usize;
        let (upload, parts) = self.uploads.remove(at);
        let mut facts = Vec::new();
        if let Some(bucket) = self.buckets.get(upload.bucket.as_str()).cloned()
            && !parts.is_empty()
        {
            let pieces = parts.into_iter().map(|part| part.piece).collect();
            let mut object = self.object(&bucket, Body::Pieces(pieces));
            object.upload_id = Some(upload.id.clone());
            self.keep(object.clone());
            facts.push(Fact::ObjectSet(Box::new(object)));
        }
        facts.push(Fact::UploadGone {
            upload_id: upload.id,
        });
        self.write(facts, b"");
    }

    /// A whole history; the last segment is empty, as after a start.
    pub(super) fn play(seed: u64) -> (TempDir, BTreeSet<&'static str>) {
        let mut history = Self::begin(seed);
        for _ in 0..FRAMES {
            history.step();
        }
        history.journal.rotate().unwrap();
        (history.folder, history.kinds)
    }
}
