//! The commands that ask the cloud controller.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use control::caches::{
    CacheReport, CachedEntry, Caches, CachesAsk, CopyReport, EvictAsk, NodeCache, WarmAsk,
};
use control::{
    CallError, Changes, Cloud, Code, Role,
    cloud::*,
    feed::Poll,
    node::{ConsoleRead, ConsoleText, ConsoleWrite, Done},
    objects::{AskQuotas, QuotaLine, Quotas, SetQuota},
    rpc::Call,
};
use daemon::{
    clock::SystemClock,
    tls::{Authority, Identity, Issue, Peer, Tls},
};
use serde_json::json;
use types::{
    Timestamp,
    quota::{Bounds, Limits, QuotaOf, Usage},
};

use crate::{Folder, Ran, mallee};

const INSTANCE: &str = "i-0123456789abcdef0";

/// A cloud with one instance, whose console says a line for each one that is typed.
#[derive(Default)]
struct FakeCloud {
    console: Mutex<Vec<u8>>,
    is_broken: bool,
    caches: Mutex<FakeCaches>,
    quota: Mutex<Limits>,
}

const IMAGE: &str = "emi-1234abcd";

/// Two nodes. The first fetches an image in three looks; the second cannot have it.
#[derive(Default)]
struct FakeCaches {
    looks: Option<u8>,
    is_used: bool,
}

impl FakeCaches {
    fn answer(&mut self, nodes: &[types::NodeId]) -> Caches {
        let entry = |percent: Option<u8>, doing: &str, failed| CachedEntry {
            image: IMAGE.parse().unwrap(),
            entry: format!("{IMAGE}_ab_r1.disk"),
            bytes: 12 << 20,
            used_at: Some(Timestamp(1_795_402_919_000)),
            uses: u32::from(self.is_used),
            percent,
            doing: doing.to_owned(),
            failed,
        };
        let (first, second) = match self.looks {
            None => (vec![], vec![]),
            Some(looks) => (
                vec![entry((looks < 3).then_some(looks * 30), "", false)],
                vec![entry(None, "no room", true)],
            ),
        };
        self.looks = self.looks.map(|looks| looks + 1);
        let line = |(node, entries): (&str, _)| NodeCache {
            node: node.parse().unwrap(),
            report: Some(CacheReport {
                entries,
                ..CacheReport::default()
            }),
            error: String::new(),
        };
        let all = [("node-1234abcd", first), ("node-5678abcd", second)];
        let meant = |cache: &NodeCache| nodes.is_empty() || nodes.contains(&cache.node);
        Caches {
            nodes: all.into_iter().map(line).filter(meant).collect(),
        }
    }

    fn warm(&mut self, ask: &WarmAsk) -> Result<Caches, CallError> {
        if ask.image.as_str() != IMAGE {
            return Err(CallError::not_found(&ask.image));
        }
        self.looks = Some(0);
        Ok(self.answer(&ask.nodes))
    }

    fn evict(&mut self, ask: &EvictAsk) -> Result<Caches, CallError> {
        self.looks = None;
        let mut caches = self.answer(&ask.nodes);
        if self.is_used {
            caches.nodes[0].error = "emi-1234abcd is in use by 1 instances".to_owned();
        }
        Ok(caches)
    }
}

fn refuse<T>() -> Result<T, CallError> {
    Err(CallError::new(
        Code::Forbidden,
        "not an administrator's call",
    ))
}

fn known(instance: &types::InstanceId) -> Result<(), CallError> {
    if instance.as_str() == INSTANCE {
        Ok(())
    } else {
        Err(CallError::not_found(instance))
    }
}

fn instance() -> InstanceStatus {
    serde_json::from_value(json!({
        "instance": INSTANCE, "account": "123456789012", "state": "running", "reason": null,
        "vm_type": "m1.small", "image": "emi-1234abcd", "node": "node-1234abcd", "zone": "mallee-1a",
        "private_address": "172.31.0.4", "public_address": "", "launched_at": 1_795_402_919_000_i64,
    }))
    .unwrap()
}

#[async_trait]
impl Cloud for FakeCloud {
    async fn join(&self, _: &Call, _: JoinAsk) -> Result<Joined, CallError> {
        refuse()
    }
    async fn renew(&self, _: &Call, _: RenewAsk) -> Result<Joined, CallError> {
        refuse()
    }
    async fn public_certificate(
        &self,
        _: &Call,
        _: PublicCertificateAsk,
    ) -> Result<PublicCertificate, CallError> {
        refuse()
    }
    async fn identity(&self, _: &Call, _: Poll) -> Result<Changes<IdentityChange>, CallError> {
        refuse()
    }
    async fn image_ticket(&self, _: &Call, _: TicketAsk) -> Result<Ticket, CallError> {
        refuse()
    }
    async fn bundle_ticket(&self, _: &Call, _: BundleTicketAsk) -> Result<BundleTicket, CallError> {
        refuse()
    }
    async fn token(&self, _: &Call, _: TokenAsk) -> Result<Token, CallError> {
        refuse()
    }
    async fn create_account(&self, _: &Call, ask: AccountAsk) -> Result<NewAccount, CallError> {
        if ask.name == "taken" {
            return Err(CallError::new(
                Code::Conflict,
                "there is an account of that name",
            ));
        }
        let made = json!({
            "account": "123456789012", "name": ask.name, "access_key_id": "AKIAABCDEFGHIJKLMNOP",
            "secret_access_key": "s3cr3t",
        });
        Ok(serde_json::from_value(made).unwrap())
    }
    async fn accounts(&self, _: &Call, _: Ask) -> Result<AccountList, CallError> {
        let account = json!({"account": "123456789012", "name": "admin", "canonical_id": "c0ffee"});
        Ok(AccountList {
            accounts: vec![serde_json::from_value(account).unwrap()],
        })
    }
    async fn quotas(&self, _: &Call, ask: AskQuotas) -> Result<Quotas, CallError> {
        let limits = *self.quota.lock().unwrap();
        let defaults = Bounds {
            buckets: Some(10_000),
            ..Bounds::default()
        };
        let of = ask.of.unwrap_or(QuotaOf::Bucket("photos".into()));
        Ok(Quotas {
            quotas: vec![QuotaLine {
                buckets: matches!(of, QuotaOf::Account(_)).then_some(1),
                of,
                limits,
                bounds: limits.or(defaults),
                used: Usage {
                    bytes: 77,
                    objects: 7,
                },
            }],
        })
    }
    async fn set_quota(&self, _: &Call, ask: SetQuota) -> Result<Done, CallError> {
        if ask.of == QuotaOf::Bucket("absent".into()) {
            return Err(CallError::not_found(ask.of));
        }
        let mut limits = self.quota.lock().unwrap();
        limits.bytes = ask.bytes.unwrap_or(limits.bytes);
        limits.objects = ask.objects.unwrap_or(limits.objects);
        limits.buckets = ask.buckets.unwrap_or(limits.buckets);
        Ok(Done {})
    }
    async fn declare_dead(&self, _: &Call, ask: DeadAsk) -> Result<Done, CallError> {
        match ask.node.as_str() {
            "node-1234abcd" => Ok(Done {}),
            _ => Err(CallError::not_found(ask.node)),
        }
    }
    async fn status(&self, _: &Call, _: Ask) -> Result<CloudStatus, CallError> {
        let objects = json!({
            "buckets": 0, "objects": 0, "bytes": 0, "free_bytes": 1_u64 << 40, "identity_revision": 1,
        });
        let status = json!({
            "region": "mallee-1", "version": "0.1.0", "pools": [], "instances": [["running", 1]],
            "addresses": [0, 10],
            "services": [{
                "role": "clc", "name": "main", "zone": null, "address": null,
                "state": if self.is_broken { "no answer" } else { "up" }, "seen_at": null,
            }],
            "nodes": [{"node": "node-1234abcd", "reach": "up", "report": null}],
            "objects": objects,
        });
        Ok(serde_json::from_value(status).unwrap())
    }
    async fn instances(&self, _: &Call, _: Ask) -> Result<InstanceList, CallError> {
        Ok(InstanceList {
            instances: vec![instance()],
        })
    }
    async fn explain(&self, _: &Call, ask: ExplainAsk) -> Result<Explanation, CallError> {
        known(&ask.instance)?;
        let moment = json!({"by": "clc", "step": "admitted", "elapsed_ms": 0});
        Ok(Explanation {
            status: instance(),
            timeline: vec![serde_json::from_value(moment).unwrap()],
            rejected: Vec::new(),
            waits_for: None,
        })
    }
    async fn verify(&self, _: &Call, _: Ask) -> Result<Verdict, CallError> {
        let broken = if self.is_broken {
            vec!["i-1 is on two nodes".to_owned()]
        } else {
            Vec::new()
        };
        let check = |name: &str, broken| Check {
            name: name.into(),
            says: "one owner".into(),
            looked_at: 1,
            broken,
        };
        Ok(Verdict {
            checks: vec![check("I1", Vec::new()), check("I4", broken)],
        })
    }
    async fn console_read(&self, _: &Call, ask: ConsoleRead) -> Result<ConsoleText, CallError> {
        known(&ask.instance)?;
        let from = ask.from.unwrap_or(0);
        let until = tokio::time::Instant::now() + std::time::Duration::from_millis(ask.wait_ms);
        loop {
            let said = self.console.lock().unwrap()[from as usize..].to_vec();
            if !said.is_empty() || tokio::time::Instant::now() >= until {
                let output = STANDARD.encode(said);
                return Ok(ConsoleText {
                    from,
                    output,
                    updated_at: Timestamp(0),
                });
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    async fn console_write(&self, _: &Call, ask: ConsoleWrite) -> Result<Done, CallError> {
        let typed = STANDARD.decode(ask.input).unwrap();
        let mut console = self.console.lock().unwrap();
        console.extend_from_slice(b"\x1b[1myou said\x1b[0m ");
        console.extend_from_slice(&typed);
        Ok(Done {})
    }
    async fn image_copy(&self, _: &Call, _: CopyReport) -> Result<Done, CallError> {
        refuse()
    }
    async fn caches(&self, _: &Call, ask: CachesAsk) -> Result<Caches, CallError> {
        Ok(self.caches.lock().unwrap().answer(&ask.nodes))
    }
    async fn caches_warm(&self, _: &Call, ask: WarmAsk) -> Result<Caches, CallError> {
        self.caches.lock().unwrap().warm(&ask)
    }
    async fn caches_evict(&self, _: &Call, ask: EvictAsk) -> Result<Caches, CallError> {
        self.caches.lock().unwrap().evict(&ask)
    }
}

/// A served cloud, and an administrator's folder that leads to it.
struct Served {
    folder: Folder,
    cloud: Arc<FakeCloud>,
    _stop: tokio_util::sync::DropGuard,
}

impl Served {
    async fn start(cloud: FakeCloud) -> Self {
        let (folder, cloud) = (Folder::new(), Arc::new(cloud));
        let now_ms = SystemClock::shared().now_ms();
        let authority = Authority::create(now_ms).unwrap();
        for (role, name) in [(Role::Clc, "main"), (Role::Admin, "admin")] {
            let peer = Peer::new(role, name, None).unwrap();
            Identity::make(
                folder.join(role.as_str()),
                &authority,
                &Issue::daemon(peer, now_ms),
            )
            .unwrap();
        }
        let tls = Tls::open(folder.join("clc")).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        std::fs::write(folder.join("admin").join("cloud"), address.to_string()).unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        let served: Arc<dyn Cloud> = cloud.clone();
        let routes = control::cloud::routes(served);
        tokio::spawn(control::server::serve(
            listener,
            tls.server_config(),
            routes,
            stop.clone(),
        ));
        Self {
            folder,
            cloud,
            _stop: stop.drop_guard(),
        }
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![(
            "MALLEE_ADMIN",
            self.folder.join("admin").display().to_string(),
        )]
    }

    async fn run(&self, words: &[&str]) -> Ran {
        mallee(words, &self.variables()).await
    }
}

#[tokio::test]
async fn status_nodes_instances_and_explain_read_as_tables_and_as_json() {
    let cloud = Served::start(FakeCloud::default()).await;
    for (words, expected) in [
        (&["status"][..], "instances: 1 running"),
        (&["nodes"], "node-1234abcd"),
        (&["instances"], "172.31.0.4"),
        (&["explain", INSTANCE], "admitted"),
        (&["verify"], "I4"),
    ] {
        let table = cloud.run(words).await;
        assert_eq!(table.code, 0, "{table:?}");
        assert!(table.out.contains(expected), "{table:?}");
        let json = cloud.run(&[words, &["--output", "json"]].concat()).await;
        serde_json::from_str::<serde_json::Value>(&json.out).unwrap();
    }
}

#[tokio::test]
async fn an_account_is_made_with_what_a_shell_can_source() {
    let cloud = Served::start(FakeCloud::default()).await;
    let made = cloud.run(&["account", "create", "physics"]).await;
    assert!(
        made.out.contains("export AWS_SECRET_ACCESS_KEY=s3cr3t\n"),
        "{made:?}"
    );
    let taken = cloud.run(&["account", "create", "taken"]).await;
    assert!(
        taken.code == 1 && taken.err.contains("of that name"),
        "{taken:?}"
    );
    assert!(cloud.run(&["account", "list"]).await.out.contains("c0ffee"));
    assert!(
        cloud
            .run(&["node", "dead", "node-1234abcd"])
            .await
            .out
            .contains("dead")
    );
    assert_eq!(cloud.run(&["node", "dead", "node-00000000"]).await.code, 3);
}

#[tokio::test]
async fn exit_codes_are_those_of_the_help() {
    let well = Served::start(FakeCloud::default()).await;
    let broken = Served::start(FakeCloud {
        is_broken: true,
        ..FakeCloud::default()
    })
    .await;
    assert_eq!(well.run(&["doctor"]).await.code, 0);
    assert_eq!(broken.run(&["doctor"]).await.code, 2);
    let verdict = broken.run(&["verify", "--output", "json"]).await;
    assert_eq!(verdict.code, 2);
    assert!(verdict.out.contains("i-1 is on two nodes"), "{verdict:?}");
    assert_eq!(well.run(&["explain", "i-0000000000000dead"]).await.code, 3);
    assert_eq!(well.run(&["explain", "vol-1234abcd"]).await.code, 64);
    assert_eq!(mallee(&["status"], &[]).await.code, 64);
    assert_eq!(
        well.run(&["status", "--address", "127.0.0.1:1"]).await.code,
        69
    );
    let clc = [(
        "MALLEE_ADMIN",
        well.folder.join("clc").display().to_string(),
    )];
    std::fs::copy(
        well.folder.join("admin/cloud"),
        well.folder.join("clc/cloud"),
    )
    .unwrap();
    assert_eq!(mallee(&["status"], &clc).await.code, 77);
}

#[tokio::test]
async fn a_console_is_read_typed_into_and_harmless_for_the_terminal() {
    let cloud = Served::start(FakeCloud::default()).await;
    cloud
        .cloud
        .console
        .lock()
        .unwrap()
        .extend_from_slice(b"\x1b]0;owned\x07boot\r\n");
    let log = cloud.run(&["console", INSTANCE, "--log"]).await;
    assert_eq!((log.code, log.out.as_str()), (0, "boot\r\n"));
    let raw = cloud.run(&["console", INSTANCE, "--log", "--raw"]).await;
    assert!(raw.out.starts_with("\x1b]0;owned"), "{raw:?}");

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_mallee"))
        .args(["console", INSTANCE, "--follow"])
        .envs(cloud.variables())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"uptime\r")
        .await
        .unwrap();
    let mut said = String::new();
    let mut output = child.stdout.take().unwrap();
    let reading = async {
        while !said.contains("you said uptime\r") {
            let mut buffer = [0; 256];
            let size = output.read(&mut buffer).await.unwrap();
            said.push_str(std::str::from_utf8(&buffer[..size]).unwrap());
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), reading)
        .await
        .unwrap();
    child.kill().await.unwrap();
}

#[tokio::test]
async fn an_image_is_fetched_ahead_and_the_command_ends_when_all_have_it_or_cannot() {
    let cloud = Served::start(FakeCloud::default()).await;
    let first = ["--node", "node-1234abcd"];
    let warm = ["image", "cache", "warm", IMAGE];
    let warmed = cloud.run(&[&warm[..], &first].concat()).await;
    assert_eq!(
        (warmed.code, warmed.out.as_str()),
        (0, "node-1234abcd: cached\n")
    );

    let both = cloud.run(&warm).await;
    assert_eq!(both.code, 1);
    let lines = "node-1234abcd: cached\nnode-5678abcd: failed: no room\n";
    assert_eq!(both.out, lines);
    let json = cloud
        .run(&[&warm[..], &["--output", "json"]].concat())
        .await;
    let said: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(said[1]["failed"], "no room");

    let unknown = cloud.run(&["image", "cache", "warm", "emi-00000000"]).await;
    assert_eq!(unknown.code, 3);
    let list = cloud.run(&["image", "cache", "list"]).await;
    assert!(list.out.contains("12.0 MiB"), "{list:?}");
}

#[tokio::test]
async fn what_is_in_use_is_not_removed_and_that_is_said() {
    let cloud = Served::start(FakeCloud::default()).await;
    let evict = ["image", "cache", "evict", IMAGE];
    let gone = cloud.run(&evict).await;
    assert_eq!(gone.code, 0, "{gone:?}");
    cloud.cloud.caches.lock().unwrap().is_used = true;
    let kept = cloud.run(&evict).await;
    assert_eq!(kept.code, 1);
    assert!(kept.out.contains("in use by 1 instances"), "{kept:?}");
}

#[tokio::test]
async fn quotas_are_set_in_units_of_people_and_shown() {
    let cloud = Served::start(FakeCloud::default()).await;
    let quota = |words: &'static [&'static str]| [&["s3", "quota"][..], words].concat();
    let set = quota(&[
        "set",
        "--account",
        "admin",
        "--bytes",
        "5GiB",
        "--objects",
        "none",
    ]);
    let told = cloud.run(&set).await;
    assert_eq!(told.code, 0, "{told:?}");
    for expected in ["account 123456789012", "5368709120 ", "none ", "10000*"] {
        assert!(told.out.contains(expected), "{expected} {}", told.out);
    }
    let show = quota(&["show", "--bucket", "photos", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&cloud.run(&show).await.out).unwrap();
    assert_eq!(json[0]["limits"]["bytes"]["at"], 5_u64 << 30);
    assert_eq!(json[0]["used"]["objects"], 7);
    assert!(
        cloud
            .run(&quota(&["list"]))
            .await
            .out
            .contains("bucket photos")
    );

    for (words, code) in [
        (&["set", "--account", "nobody", "--bytes", "1"][..], 3),
        (&["set", "--bucket", "absent", "--bytes", "1"], 3),
        (&["set", "--bucket", "photos", "--bytes", "5 apples"], 64),
        (&["set", "--bucket", "photos", "--buckets", "5"], 64),
        (&["set", "--bytes", "5"], 64),
        (
            &["set", "--bucket", "photos", "--bytes", "99999999999TiB"],
            64,
        ),
    ] {
        let told = cloud.run(&quota(words)).await;
        assert_eq!(told.code, code, "{words:?} {told:?}");
    }
}
