//! The image commands against a public API that checks each signature, keeps objects, and opens the
//! bundle with the cloud's private key.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::Write,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use image::manifest::Manifest;
use md5::{Digest, Md5};
use sigv4::{Claim, Received, Rules};

use crate::{Folder, Ran, mallee};

const SECRET: &str = "a secret of sorts";
const ACCOUNT: &str = "123456789012";

/// What the fake API keeps.
#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Bytes>,
    buckets: Vec<String>,
    registered: Vec<String>,
    /// So many part PUTs are answered with 503 first.
    hiccups: u32,
    /// Objects that were put, in order.
    puts: Vec<String>,
    /// After so many objects no more are taken.
    full_after: Option<usize>,
}

#[derive(Clone, Default)]
struct FakeApi(Arc<Mutex<Kept>>);

impl FakeApi {
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = api.clone();
                let service = service_fn(move |request| {
                    let api = api.clone();
                    async move { Ok::<_, Infallible>(api.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        format!("http://{address}")
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let is_s3 = head.uri.path().starts_with("/services/objectstorage/");
        let form = if is_s3 {
            ""
        } else {
            std::str::from_utf8(&body).unwrap()
        };
        let rules = if is_s3 { Rules::S3 } else { Rules::QUERY };
        let received = Received::of(&head);
        let claim = Claim::read(&received, form, &rules)
            .unwrap()
            .expect("it is signed");
        let now_ms = cli::public::now_ms();
        if let Err(refused) = claim.verify(&received, form, SECRET, &rules, now_ms) {
            return text(
                StatusCode::FORBIDDEN,
                &format!(
                    "<Error><Code>SignatureDoesNotMatch</Code><Message>{refused}</Message></Error>"
                ),
            );
        }
        if is_s3 {
            self.s3(&head, body)
        } else {
            self.query(form)
        }
    }

    fn s3(&self, head: &http::request::Parts, body: Bytes) -> Response<Full<Bytes>> {
        let mut kept = self.0.lock().unwrap();
        let path = head
            .uri
            .path()
            .trim_start_matches("/services/objectstorage/")
            .to_owned();
        match (&head.method, path.contains('/')) {
            (&Method::HEAD, false) if kept.buckets.contains(&path) => text(StatusCode::OK, ""),
            (&Method::HEAD, false) => text(StatusCode::NOT_FOUND, ""),
            (&Method::PUT, false) => {
                kept.buckets.push(path);
                text(StatusCode::OK, "")
            }
            (&Method::HEAD, true) => match kept.objects.get(&path) {
                Some(object) => with_etag(object),
                None => text(StatusCode::NOT_FOUND, ""),
            },
            (&Method::PUT, true) if kept.full_after == Some(kept.objects.len()) => text(
                StatusCode::FORBIDDEN,
                "<Error><Code>QuotaExceeded</Code><Message>no more</Message></Error>",
            ),
            (&Method::PUT, true) if kept.hiccups > 0 => {
                kept.hiccups -= 1;
                text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "<Error><Code>SlowDown</Code></Error>",
                )
            }
            (&Method::PUT, true) => {
                assert_eq!(head.headers["x-amz-acl"], "aws-exec-read");
                let answer = with_etag(&body);
                kept.puts.push(path.clone());
                kept.objects.insert(path, body);
                answer
            }
            other => panic!("not asked for: {other:?}"),
        }
    }

    fn query(&self, form: &str) -> Response<Full<Bytes>> {
        let field = |name: &str| {
            let (_, value) = sigv4::pairs(form).find(|(key, _)| *key == name)?;
            String::from_utf8(sigv4::decode(value)).ok()
        };
        let body = match field("Action").unwrap().as_str() {
            "GetCallerIdentity" => format!("<R><Account>{ACCOUNT}</Account></R>"),
            "DescribeServiceCertificates" => {
                let pem = std::fs::read_to_string(certificate()).unwrap();
                format!(
                    "<R><item><certificateUsage>other</certificateUsage><certificate>x</certificate></item>\
                     <item><certificateUsage>image-bundling</certificateUsage><certificate>{pem}</certificate></item></R>"
                )
            }
            "RegisterImage" => {
                let location = field("ImageLocation").unwrap();
                if !self.0.lock().unwrap().objects.contains_key(&location) {
                    let refusal = "<Response><Errors><Error><Code>InvalidManifest</Code><Message>no manifest there</Message></Error></Errors></Response>";
                    return text(StatusCode::BAD_REQUEST, refusal);
                }
                self.0
                    .lock()
                    .unwrap()
                    .registered
                    .push(format!("{location} as {}", field("Name").unwrap()));
                "<R><imageId>emi-0123456789abcdef0</imageId></R>".to_owned()
            }
            other => panic!("not asked for: {other}"),
        };
        text(StatusCode::OK, &body)
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_owned()));
    *response.status_mut() = status;
    response
}

fn with_etag(object: &Bytes) -> Response<Full<Bytes>> {
    let etag = format!("\"{}\"", hex::encode(Md5::digest(object)));
    let mut answer = text(StatusCode::OK, "");
    answer.headers_mut().insert("etag", etag.parse().unwrap());
    answer
}

/// A key pair as `mallee-clc init` would make it, made once.
fn certificate() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cloud-cert.pem")
}

fn variables(url: &str) -> Vec<(&'static str, String)> {
    vec![
        ("EC2_URL", format!("{url}/services/compute/")),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".into()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
    ]
}

/// 25 MiB that do not compress, so that there are three parts.
fn disk(folder: &Folder) -> String {
    let path = folder.join("disk.img");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let mut state = 1_u64;
    for _ in 0..(25 << 20) / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()).unwrap();
    }
    path.display().to_string()
}

fn succeeded(ran: &Ran) -> &Ran {
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

#[tokio::test]
async fn install_bundles_uploads_and_registers_with_nothing_but_a_key() {
    let (folder, api) = (Folder::new(), FakeApi::default());
    api.0.lock().unwrap().hiccups = 1;
    let url = api.serve().await;
    let disk = disk(&folder);
    let words = [
        "image", "install", &disk, "--bucket", "images/x", "--name", "tiny", "--output", "json",
    ];
    let ran = mallee(&words, &variables(&url)).await;
    let said: serde_json::Value = serde_json::from_str(&succeeded(&ran).out).unwrap();
    assert_eq!(said["image_id"], "emi-0123456789abcdef0");
    assert_eq!(said["location"], "images/x/tiny.manifest.xml");

    let kept = api.0.lock().unwrap();
    assert_eq!(kept.buckets, ["images"]);
    assert_eq!(kept.registered, ["images/x/tiny.manifest.xml as tiny"]);
    let manifest = Manifest::parse(&kept.objects["images/x/tiny.manifest.xml"]).unwrap();
    assert_eq!((manifest.user.as_str(), manifest.parts.len()), (ACCOUNT, 3));
    for part in &manifest.parts {
        let bytes = &kept.objects[&format!("images/x/{}", part.file_name)];
        assert_eq!(image::digest::Sha1Digest::of(bytes), part.digest);
    }
}

#[tokio::test]
async fn bundle_upload_and_register_do_the_same_in_three_steps() {
    let (folder, api) = (Folder::new(), FakeApi::default());
    let url = api.serve().await;
    let (disk, bundle) = (disk(&folder), folder.join("bundle").display().to_string());
    let variables = variables(&url);

    let bundled = mallee(
        &[
            "image",
            "bundle",
            &disk,
            "--destination",
            &bundle,
            "--name",
            "tiny",
        ],
        &variables,
    )
    .await;
    let manifest = succeeded(&bundled).out.trim().to_owned();
    assert_eq!(manifest, format!("{bundle}/tiny.manifest.xml"));
    let uploaded = mallee(
        &["image", "upload", &manifest, "--bucket", "images"],
        &variables,
    )
    .await;
    assert_eq!(succeeded(&uploaded).out, "images/tiny.manifest.xml\n");
    let location = "images/tiny.manifest.xml";
    let registered = mallee(
        &["image", "register", location, "--name", "a name"],
        &variables,
    )
    .await;
    assert_eq!(succeeded(&registered).out, "emi-0123456789abcdef0\n");
    assert_eq!(api.0.lock().unwrap().objects.len(), 4);
}

#[tokio::test]
async fn an_install_that_broke_off_sends_again_only_what_is_not_there() {
    let (folder, api) = (Folder::new(), FakeApi::default());
    let url = api.serve().await;
    let disk = disk(&folder);
    let home = ("HOME", folder.join("home").display().to_string());
    let mut variables = variables(&url);
    variables.push(home);
    let words = [
        "image", "install", &disk, "--bucket", "images", "--name", "tiny",
    ];

    api.0.lock().unwrap().full_after = Some(2);
    let ran = mallee(&words, &variables).await;
    assert!(ran.code == 77 && ran.err.contains("no more"), "{ran:?}");
    api.0.lock().unwrap().full_after = None;
    assert_eq!(
        succeeded(&mallee(&words, &variables).await).out,
        "emi-0123456789abcdef0\n"
    );
    {
        let mut kept = api.0.lock().unwrap();
        let mut puts = std::mem::take(&mut kept.puts);
        puts.sort();
        let all = ["manifest.xml", "part.00", "part.01", "part.02"];
        assert_eq!(
            puts,
            all.map(|name| format!("images/tiny.{name}")),
            "each once"
        );
    }

    // It is done: the next one is another upload, with a key of its own.
    let state = folder.join("home/.local/state/mallee");
    assert_eq!(std::fs::read_dir(state).unwrap().count(), 0);
    succeeded(&mallee(&words, &variables).await);
    assert_eq!(api.0.lock().unwrap().puts.len(), 4);
}

#[tokio::test]
async fn an_upload_said_twice_sends_the_parts_once() {
    let (folder, api) = (Folder::new(), FakeApi::default());
    let url = api.serve().await;
    let (disk, bundle) = (disk(&folder), folder.join("bundle").display().to_string());
    let variables = variables(&url);
    let words = [
        "image",
        "bundle",
        &disk,
        "--destination",
        &bundle,
        "--name",
        "tiny",
    ];
    let manifest = succeeded(&mallee(&words, &variables).await)
        .out
        .trim()
        .to_owned();
    for puts in [4, 0] {
        let words = ["image", "upload", &manifest, "--bucket", "images"];
        succeeded(&mallee(&words, &variables).await);
        assert_eq!(std::mem::take(&mut api.0.lock().unwrap().puts).len(), puts);
    }
}

#[tokio::test]
async fn a_part_that_is_not_what_the_manifest_says_is_not_uploaded() {
    let (folder, api) = (Folder::new(), FakeApi::default());
    let url = api.serve().await;
    let (disk, bundle) = (disk(&folder), folder.join("bundle").display().to_string());
    let variables = variables(&url);
    succeeded(
        &mallee(
            &[
                "image",
                "bundle",
                &disk,
                "--destination",
                &bundle,
                "--name",
                "tiny",
            ],
            &variables,
        )
        .await,
    );
    std::fs::write(folder.join("bundle/tiny.part.01"), "not what it was").unwrap();
    let manifest = format!("{bundle}/tiny.manifest.xml");
    let ran = mallee(
        &["image", "upload", &manifest, "--bucket", "images"],
        &variables,
    )
    .await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("tiny.part.01") && ran.err.contains("SHA-1"),
        "{ran:?}"
    );
    assert!(
        !api.0
            .lock()
            .unwrap()
            .objects
            .contains_key("images/tiny.manifest.xml")
    );
}

#[tokio::test]
async fn refusals_are_told_in_the_apis_words() {
    let (folder, api) = (Folder::new(), FakeApi::default());
    let url = api.serve().await;
    let ran = mallee(
        &["image", "register", "none/x.manifest.xml", "--name", "n"],
        &variables(&url),
    )
    .await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "mallee: no manifest there (InvalidManifest)\n")
    );
    let mut wrong = variables(&url);
    wrong[2].1 = "another".into();
    let ran = mallee(
        &["image", "register", "none/x.manifest.xml", "--name", "n"],
        &wrong,
    )
    .await;
    assert_eq!(ran.code, 77, "{ran:?}");
    let ran = mallee(
        &[
            "image",
            "bundle",
            &folder.join("none").display().to_string(),
        ],
        &variables(&url),
    )
    .await;
    assert!(ran.code == 1 && ran.err.contains("cannot read"), "{ran:?}");
    let ran = mallee(&["image", "register", "a/b", "--name", "n"], &[]).await;
    assert!(ran.code == 64 && ran.err.contains("EC2_URL"), "{ran:?}");
    let away = variables("http://127.0.0.1:1");
    assert_eq!(
        mallee(&["image", "register", "a/b", "--name", "n"], &away)
            .await
            .code,
        69
    );
}
