//! The bundler against a real HTTP store and a real overlay: what comes out is what the guest had, as
//! the partition it was; a run that was killed goes on; refusals reach the user.

#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message

#[path = "images/store.rs"]
#[allow(dead_code)]
mod store;

use std::{
    collections::BTreeMap,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Path as UrlPath, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use control::{
    CallError,
    cloud::{BundleLabel, BundlePlace, BundleTicket, BundleTicketAsk},
};
use image::{
    keys::BundleKey,
    manifest::Manifest,
    mbr,
    unbundle::{self, FetchError, Order, Part, PartSource, Shape, unbundle},
};
use md5::{Digest, Md5};
use nc::{
    bandwidth::{Bandwidth, Direction},
    bundle::{BundleTickets, Bundler},
    cache::{Cache, Settings, files::PATIENCE, lease::LeaseTimes, peers::PeerTimes},
    disk::LocalDisks,
    fakes,
    needs::{BootDisks, Bundles, Disk, DiskFile, DiskFormat, Progress},
};
use tokio::sync::watch;
use types::{BundleId, Secret, StateReason};

const KEY: &str = "000102030405060708090a0b0c0d0e0f";
const IV: &str = "101112131415161718191a1b1c1d1e1f";

/// A store that keeps what is put, and gives the tickets for it.
#[derive(Default)]
struct Shelf {
    address: Mutex<String>,
    objects: Mutex<BTreeMap<String, Bytes>>,
    puts: Mutex<Vec<String>>,
    /// The next answers to puts.
    faults: Mutex<Vec<StatusCode>>,
    /// After so many objects the store refuses all others.
    full_after: Mutex<Option<usize>>,
    asked: Mutex<Vec<u32>>,
}

impl Shelf {
    async fn serve() -> Arc<Self> {
        let shelf = Arc::new(Self::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        *shelf.address.lock().unwrap() = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/{object}", any(answer))
            .layer(DefaultBodyLimit::disable())
            .with_state(shelf.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        shelf
    }

    fn place(&self, name: &str) -> BundlePlace {
        let url = Secret::new(format!("{}/{name}", self.address.lock().unwrap()));
        BundlePlace {
            put: url.clone(),
            head: url,
        }
    }

    fn puts(&self) -> Vec<String> {
        let mut puts = std::mem::take(&mut *self.puts.lock().unwrap());
        puts.sort();
        puts
    }
}

async fn answer(
    State(shelf): State<Arc<Shelf>>,
    method: Method,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let etag = |bytes: &Bytes| [("etag", format!("\"{}\"", hex::encode(Md5::digest(bytes))))];
    let mut objects = shelf.objects.lock().unwrap();
    if method == Method::HEAD {
        return match objects.get(&name) {
            Some(object) => etag(object).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    assert_eq!(headers["x-amz-acl"], "ec2-bundle-read");
    if let Some(fault) = shelf.faults.lock().unwrap().pop() {
        return fault.into_response();
    }
    if *shelf.full_after.lock().unwrap() == Some(objects.len()) {
        return StatusCode::FORBIDDEN.into_response();
    }
    shelf.puts.lock().unwrap().push(name.clone());
    let said = etag(&body);
    objects.insert(name, body);
    said.into_response()
}

#[async_trait]
impl BundleTickets for Shelf {
    async fn ticket(&self, ask: BundleTicketAsk) -> Result<BundleTicket, CallError> {
        self.asked.lock().unwrap().push(ask.first_part);
        // Two parts at a time, so that more are asked for.
        let parts = ask.first_part..ask.first_part + 2;
        Ok(BundleTicket {
            key: Secret::new(KEY.to_owned()),
            iv: Secret::new(IV.to_owned()),
            label: BundleLabel {
                name: "web".to_owned(),
                architecture: "x86_64".to_owned(),
                account: "123456789012".parse().unwrap(),
                kernel: Some("eki-00000001".parse().unwrap()),
                ramdisk: None,
                cloud_key: ["aa".to_owned(), "bb".to_owned()],
                user_key: Default::default(),
            },
            parts: parts
                .map(|part| self.place(&format!("web.part.{part:02}")))
                .collect(),
            manifest: self.place("web.manifest.xml"),
            acl: "ec2-bundle-read".to_owned(),
            valid_ms: 900_000,
        })
    }
}

/// An instance's folder with a root disk over an image: a partition of 34 MiB at 1 MiB, in which the
/// guest has written, and a rest of the disk that is not the partition's.
async fn instance(folder: &Path) -> Vec<u8> {
    let partition_bytes = 34 << 20;
    let image = folder.join("image.raw");
    let file = std::fs::File::create(&image).unwrap();
    file.write_all_at(&mbr::write(partition_bytes, 7).unwrap(), 0)
        .unwrap();
    let mut expected = store::partition(partition_bytes as usize);
    expected[8 << 20..12 << 20].fill(0);
    file.write_all_at(&expected[..8 << 20], 1 << 20).unwrap();
    file.write_all_at(&expected[12 << 20..], 13 << 20).unwrap();

    let overlay = folder.join("root.qcow2");
    let run = |tool: &str, words: Vec<String>| daemon::run::Tool::new(tool).args(words).output();
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut create = words(
        "create -q -f qcow2 -F raw -o extended_l2=on,cluster_size=128k,preallocation=metadata,lazy_refcounts=on -b",
    );
    create.extend([
        image.display().to_string(),
        overlay.display().to_string(),
        "64M".to_owned(),
    ]);
    run("qemu-img", create).await.unwrap();
    let mut write = words("-f qcow2 -c");
    write.extend([
        "write -P 0x77 9M 100k".to_owned(),
        overlay.display().to_string(),
    ]);
    run("qemu-io", write).await.unwrap();
    expected[8 << 20..(8 << 20) + (100 << 10)].fill(0x77);

    let disk = |path: &Path, format| DiskFile {
        path: path.to_owned(),
        format,
    };
    let disks = BootDisks {
        disks: vec![Disk {
            file: disk(&overlay, DiskFormat::Qcow2),
            backing: Some(disk(&image, DiskFormat::Raw)),
            serial: None,
        }],
        kernel: None,
        root_key: None,
    };
    std::fs::write(
        folder.join("disks.json"),
        serde_json::to_vec(&disks).unwrap(),
    )
    .unwrap();
    expected
}

async fn bundler(folder: &Path, shelf: &Arc<Shelf>) -> Bundler {
    paced(folder, shelf, Direction::default()).await
}

async fn paced(folder: &Path, shelf: &Arc<Shelf>, outgoing: Direction) -> Bundler {
    let settings = Settings {
        folder: folder.join("cache"),
        node: "node-00000001".parse().unwrap(),
        limit_bytes: Some(1 << 30),
        grub: "/usr/lib/grub/i386-pc".into(),
        tls: store::no_tls(),
        lease: LeaseTimes::default(),
        patience: PATIENCE,
        peers: PeerTimes::default(),
        bandwidth: Bandwidth::default(),
    };
    let cache = Cache::new(settings, store::Store::serve(b"unused").await);
    let disks = LocalDisks::new(cache, &folder.join("templates"), "boot-1").unwrap();
    Bundler::new(shelf.clone(), &store::no_tls(), disks, outgoing)
}

async fn bundle(bundler: &Bundler, folder: &Path) -> (Result<(), StateReason>, Progress) {
    let (wish, task) = (fakes::wish(1), "bun-00000001".parse::<BundleId>().unwrap());
    let progress = watch::Sender::new(Progress::default());
    let made = bundler.bundle(&wish, folder, &task, &progress).await;
    let told = progress.borrow().clone();
    (made, told)
}

struct Parts(Vec<Bytes>);

#[async_trait]
impl PartSource for Parts {
    async fn fetch(&self, index: usize) -> Result<Part, FetchError> {
        Ok(vec![self.0[index].clone()])
    }
}

/// What a bundle on the shelf unbundles to.
async fn unbundled(shelf: &Shelf) -> (Manifest, Vec<u8>) {
    let objects = shelf.objects.lock().unwrap().clone();
    let manifest = Manifest::parse(&objects["web.manifest.xml"]).unwrap();
    let parts = manifest
        .parts
        .iter()
        .map(|part| objects[&part.file_name].clone());
    let parts = Arc::new(Parts(parts.collect()));
    let key = BundleKey::from_hex(KEY, IV).unwrap();
    let order = Order::of(&manifest, key, Shape::Verbatim);
    let file = tempfile::tempfile().unwrap();
    let run = unbundle(order, parts, file.try_clone().unwrap(), unbundle::meter());
    run.await.unwrap();
    let mut found = vec![0; manifest.size_bytes as usize];
    file.read_exact_at(&mut found, 0).unwrap();
    (manifest, found)
}

#[tokio::test(flavor = "multi_thread")]
async fn host_what_the_guest_has_is_bundled_as_the_partition_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, shelf) = (instance(folder.path()).await, Shelf::serve().await);
    *shelf.faults.lock().unwrap() = vec![StatusCode::SERVICE_UNAVAILABLE];
    let bundler = bundler(folder.path(), &shelf).await;
    let (made, told) = bundle(&bundler, folder.path()).await;
    made.unwrap();
    assert_eq!(told.stage, nc::bundle::STORING);

    let (manifest, found) = unbundled(&shelf).await;
    assert_eq!(manifest.name, "web");
    assert_eq!(manifest.kernel_id.as_deref(), Some("eki-00000001"));
    assert!(found == expected, "{} bytes", found.len());
    assert!(
        shelf.asked.lock().unwrap().contains(&2),
        "more addresses were asked for"
    );
    let puts = shelf.puts();
    assert_eq!(puts.len(), manifest.parts.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_a_run_that_broke_off_stores_only_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, shelf) = (instance(folder.path()).await, Shelf::serve().await);
    let bundler = bundler(folder.path(), &shelf).await;
    *shelf.full_after.lock().unwrap() = Some(2);
    let (made, _) = bundle(&bundler, folder.path()).await;
    let reason = made.unwrap_err();
    assert_eq!(reason.code, "Client.UploadFailed");
    assert!(reason.message.contains("403"), "{}", reason.message);
    assert!(
        !shelf
            .objects
            .lock()
            .unwrap()
            .contains_key("web.manifest.xml")
    );

    *shelf.full_after.lock().unwrap() = None;
    let first = shelf.puts();
    bundle(&bundler, folder.path()).await.0.unwrap();
    let again = shelf.puts();
    assert!(
        first.iter().all(|name| !again.contains(name)),
        "{first:?}, then {again:?}"
    );
    assert!(unbundled(&shelf).await.1 == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_a_bundle_goes_out_no_faster_than_images_may() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, shelf) = (instance(folder.path()).await, Shelf::serve().await);
    let outgoing = Bandwidth::of(Some(4 << 20)).outgoing;
    let bundler = paced(folder.path(), &shelf, outgoing).await;
    let begun = std::time::Instant::now();
    bundle(&bundler, folder.path()).await.0.unwrap();
    let took = begun.elapsed();
    let stored = shelf.objects.lock().unwrap().clone();
    let bytes: usize = stored.values().map(Bytes::len).sum();
    let least = bytes as f64 / f64::from(4 << 20) - 0.2;
    assert!(bytes > 4 << 20, "more than a burst: {bytes}");
    assert!(took.as_secs_f64() >= least, "{bytes} bytes in {took:?}");
    assert!(unbundled(&shelf).await.1 == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_without_a_whole_disk_has_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::serve().await;
    let (made, _) = bundle(&bundler(folder.path(), &shelf).await, folder.path()).await;
    assert!(made.unwrap_err().message.contains("no whole root disk"));
    assert!(shelf.asked.lock().unwrap().is_empty());
}
