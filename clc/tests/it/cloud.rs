//! What daemons and the administrator ask: joining, tickets, identity, explain, verify; and `init`.

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use base64::Engine;
use clc::{
    control::{Service, join},
    init::{self, Choices, Places},
    rows::{images, nodes},
};
use control::{
    Cloud, Code, Role,
    cloud::{
        AccountAsk, Ask, DeadAsk, ExplainAsk, IdentityChange, JoinAsk, Joined, RenewAsk, TicketAsk,
        TokenAsk,
    },
    cluster::Reach,
    feed::Poll,
    join::JoinToken,
    node::{ImageRef, Shape},
    objects::{AskQuotas, SetQuota},
    rpc::Call,
};
use daemon::tls::{Authority, Identity, Issue, Joining, Peer, request_key};
use image::{
    keys::{BundleKey, Certificate},
    manifest::{Architecture, Bundler, Kind, Manifest, Part},
};
use types::{
    AccountId, Gib, InstanceState, Mib, Secret, Timestamp,
    quota::{Limit, QuotaOf},
};

use crate::rig::{Rig, config, node, node_status, report, zone};

pub(crate) fn service(rig: &Rig) -> Arc<Service> {
    let authority = Authority::load(Places::of(&rig.config).ca()).unwrap();
    Service::new(rig.clc.clone(), Arc::new(authority))
}

pub(crate) fn call() -> Call {
    Call::new("test")
}

fn ask(role: Role) -> TokenAsk {
    let zone = role.has_zone().then(zone);
    TokenAsk {
        role,
        zone,
        valid_ms: 60_000,
    }
}

async fn token(service: &Service, role: Role) -> JoinToken {
    let token = service.token(&call(), ask(role)).await.unwrap();
    token.token.reveal().parse().unwrap()
}

fn join_ask(token: &JoinToken, role: Role, csr_pem: String) -> JoinAsk {
    JoinAsk {
        secret: token.secret.clone(),
        role,
        csr_pem,
        address: Some("127.0.0.1:9".parse().unwrap()),
        hostname: "h".to_owned(),
    }
}

fn request() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let request = Joining::begin(dir.path()).unwrap().request_pem().unwrap();
    (dir, request)
}

fn peer(role: Role, joined: &Joined) -> Peer {
    Peer::new(
        role,
        &joined.name,
        joined.zone.as_ref().map(|zone| zone.as_str()),
    )
    .unwrap()
}

#[tokio::test]
async fn a_node_joins_once_with_a_token_and_again_with_the_same_key_only() {
    let rig = Rig::new().await;
    let service = service(&rig);
    let token = token(&service, Role::Nc).await;
    let (dir, csr) = request();

    let joined = service
        .join(&call(), join_ask(&token, Role::Nc, csr.clone()))
        .await
        .unwrap();
    let identity = Joining::begin(dir.path())
        .unwrap()
        .finish(&joined.ca_pem, &joined.certificate_pem)
        .unwrap();
    assert_eq!(identity.peer, peer(Role::Nc, &joined));
    assert!(joined.name.starts_with("node-0"), "{}", joined.name);
    assert_eq!(joined.zone, Some(zone()));

    // The answer may have been lost: the same key gets the same name.
    let again = service
        .join(&call(), join_ask(&token, Role::Nc, csr))
        .await
        .unwrap();
    assert_eq!(again.name, joined.name);
    let all = rig.clc.db.read(nodes::list).await.unwrap();
    assert_eq!(all.iter().filter(|row| row.hostname == "h").count(), 1);

    let (_, other) = request();
    let refused = service
        .join(&call(), join_ask(&token, Role::Nc, other))
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    assert!(refused.message.contains("used"), "{refused}");
}

#[tokio::test]
async fn a_used_token_makes_its_holder_nothing_else() {
    let rig = Rig::new().await;
    let service = service(&rig);
    let token = token(&service, Role::Nc).await;
    let (_dir, csr) = request();
    let first = join_ask(&token, Role::Nc, csr.clone());
    service.join(&call(), first).await.unwrap();

    for role in [Role::Clc, Role::Cc, Role::Sc, Role::Walrus, Role::Admin] {
        let again = join_ask(&token, role, csr.clone());
        let refused = service.join(&call(), again).await.unwrap_err();
        assert_eq!(refused.code, Code::Forbidden, "{role}");
    }
}

#[tokio::test]
async fn a_token_that_is_unknown_late_or_for_another_role_lets_nobody_in() {
    let rig = Rig::new().await;
    let service = service(&rig);
    let (_, csr) = request();
    let unknown = JoinToken {
        secret: Secret::new("x".repeat(32)),
        ..token(&service, Role::Nc).await
    };
    let for_cc = token(&service, Role::Cc).await;
    let late = token(&service, Role::Nc).await;
    for (token, said) in [(&unknown, "not known"), (&for_cc, "for a cc")] {
        let refused = service
            .join(&call(), join_ask(token, Role::Nc, csr.clone()))
            .await
            .unwrap_err();
        assert_eq!(refused.code, Code::Forbidden);
        assert!(refused.message.contains(said), "{refused}");
    }
    rig.clock.jump(61_000);
    let refused = service
        .join(&call(), join_ask(&late, Role::Nc, csr.clone()))
        .await
        .unwrap_err();
    assert!(refused.message.contains("expired"), "{refused}");

    let garbage = service
        .join(&call(), join_ask(&late, Role::Nc, "junk".to_owned()))
        .await;
    assert_eq!(garbage.unwrap_err().code, Code::Invalid);
}

#[tokio::test]
async fn a_token_needs_a_zone_that_is_there_and_only_a_cluster_brings_a_new_one() {
    let rig = Rig::new().await;
    let service = service(&rig);
    let new_zone = || Some("mallee-1b".parse().unwrap());
    for (role, zone, code) in [
        (Role::Nc, None, Code::Invalid),
        (Role::Walrus, Some(zone()), Code::Invalid),
        (Role::Clc, None, Code::Invalid),
        (Role::Nc, new_zone(), Code::NotFound),
    ] {
        let refused = service
            .token(
                &call(),
                TokenAsk {
                    role,
                    zone,
                    valid_ms: 1,
                },
            )
            .await;
        assert_eq!(refused.unwrap_err().code, code, "{role}");
    }
    let cc = TokenAsk {
        role: Role::Cc,
        zone: new_zone(),
        valid_ms: 1000,
    };
    service.token(&call(), cc).await.unwrap();
    let nc = TokenAsk {
        role: Role::Nc,
        zone: new_zone(),
        valid_ms: 1000,
    };
    service.token(&call(), nc).await.unwrap();
    let account = rig.credentials.account_id.clone();
    let subnet = rig.clc.db.read(move |tx| {
        clc::rows::network::default_subnet(tx, &account, &"mallee-1b".parse().unwrap())
    });
    assert!(
        subnet.await.unwrap().is_some(),
        "every account has a subnet in every zone"
    );
}

#[tokio::test]
async fn renewal_follows_a_move_and_ends_with_the_membership() {
    let rig = Rig::new().await;
    let service = service(&rig);
    let (_, csr) = request();
    let token = token(&service, Role::Nc).await;
    let joined = service
        .join(&call(), join_ask(&token, Role::Nc, csr.clone()))
        .await
        .unwrap();
    let by = call().from_peer(peer(Role::Nc, &joined));
    let moved = RenewAsk {
        csr_pem: csr.clone(),
        address: Some("127.0.0.1:99".parse().unwrap()),
    };
    let renewed = service.renew(&by, moved).await.unwrap();
    assert_eq!(renewed.name, joined.name);
    let id = joined.name.parse().unwrap();
    let row = rig
        .clc
        .db
        .read(move |tx| nodes::find(tx, &id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.address, "127.0.0.1:99".parse().unwrap());

    let stranger = Peer::new(Role::Nc, "node-00000000000000000", Some("mallee-1a")).unwrap();
    let refused = service
        .renew(
            &call().from_peer(stranger),
            RenewAsk {
                csr_pem: csr,
                address: None,
            },
        )
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
}

/// Serves the rig's cloud as its daemons reach it.
async fn serve(rig: &Rig) -> std::net::SocketAddr {
    let places = Places::of(&rig.config);
    let tls = daemon::tls::Tls::open(places.tls()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = control::cloud::routes(service(rig));
    tokio::spawn(control::server::serve(
        listener,
        tls.server_config(),
        routes,
        rig.context.cancel.clone(),
    ));
    address
}

#[tokio::test]
async fn a_daemon_joins_over_the_wire_and_its_certificate_opens_what_its_role_may() {
    let rig = Rig::new().await;
    let address = serve(&rig).await;

    let token = JoinToken {
        clc: address,
        ..token(&service(&rig), Role::Walrus).await
    };
    let dir = tempfile::tempdir().unwrap();
    let newcomer = control::join::Newcomer {
        role: Role::Walrus,
        address: Some("127.0.0.1:5".parse().unwrap()),
        hostname: "h".to_owned(),
    };
    let welcome = control::join::join(dir.path(), &token, newcomer)
        .await
        .unwrap();
    assert!(
        welcome.clc_ahead_ms.is_some(),
        "the cloud says what time it is"
    );
    let member = control::member::Member::open(dir.path(), Role::Walrus).unwrap();
    let changes = member
        .cloud
        .identity(&call(), Poll::default())
        .await
        .unwrap();
    assert!(
        changes.full && changes.items.len() == 6,
        "{:?}",
        changes.items
    );
    let forbidden = member.cloud.status(&call(), Ask {}).await.unwrap_err();
    assert_eq!(forbidden.code, Code::Forbidden);

    // The administrator's identity, as `init` left it.
    let tls = daemon::tls::Tls::open(Places::of(&rig.config).admin()).unwrap();
    let admin = control::Client::new(&tls.client_config(), address, Role::Clc, None);
    let status = admin.status(&call(), Ask {}).await.unwrap();
    assert_eq!((status.services.len(), status.nodes.len()), (3, 1));
    assert_eq!(
        admin
            .identity(&call(), Poll::default())
            .await
            .unwrap_err()
            .code,
        Code::Forbidden
    );
}

#[tokio::test]
async fn a_new_account_can_be_used_at_once_and_its_name_is_taken() {
    let rig = Rig::new().await;
    let service = service(&rig);
    let before = service.identity(&call(), Poll::default()).await.unwrap();
    let ask = AccountAsk {
        name: "physics".to_owned(),
    };
    let made = service.create_account(&call(), ask.clone()).await.unwrap();

    let credential = rig.clc.identity.credential(&made.access_key_id).unwrap();
    assert_eq!(
        (credential.account.clone(), &credential.secret),
        (made.account, &made.secret_access_key)
    );
    let news = Poll {
        after: Some(before.position),
        wait_ms: 0,
    };
    let news = service.identity(&call(), news).await.unwrap();
    let words: Vec<_> = news
        .items
        .iter()
        .map(|item| match item {
            IdentityChange::Account(_) => "account",
            IdentityChange::User(_) => "user",
            IdentityChange::Key(_) => "key",
        })
        .collect();
    assert_eq!(words, ["account", "user", "key"]);

    assert_eq!(
        service.create_account(&call(), ask).await.unwrap_err().code,
        Code::Conflict
    );
    let odd = AccountAsk {
        name: "Ünïcode".to_owned(),
    };
    assert_eq!(
        service.create_account(&call(), odd).await.unwrap_err().code,
        Code::Invalid
    );
    let names: Vec<_> = service.accounts(&call(), Ask {}).await.unwrap().accounts;
    assert_eq!(
        names
            .iter()
            .filter(|account| account.name == "physics")
            .count(),
        1
    );
}

#[tokio::test]
async fn quotas_go_to_walrus_for_accounts_that_there_are() {
    let rig = Rig::new().await;
    let service = service(&rig);
    let ask = AccountAsk {
        name: "physics".to_owned(),
    };
    let made = service.create_account(&call(), ask).await.unwrap();
    let of = |account: &str| QuotaOf::Account(account.parse().unwrap());
    for (of, refused) in [
        (of(made.account.as_str()), None),
        (QuotaOf::Bucket("photos".to_owned()), None),
        (of("999999999999"), Some(Code::NotFound)),
    ] {
        let set = SetQuota {
            of: of.clone(),
            bytes: Some(Limit::At(5)),
            objects: None,
            buckets: None,
        };
        let set = service.set_quota(&call(), set).await;
        assert_eq!(set.err().map(|error| error.code), refused, "{of}");
        let ask = AskQuotas {
            of: Some(of.clone()),
        };
        let asked = service.quotas(&call(), ask).await;
        assert_eq!(asked.err().map(|error| error.code), refused, "{of}");
    }
}

/// Registers a bundle made for the cloud; its key and the reference that a node would send.
pub(crate) async fn bundle(rig: &Rig) -> (BundleKey, ImageRef) {
    let key = BundleKey::mint();
    let certificate = Certificate::from_pem(&rig.clc.image_certificate_pem).unwrap();
    let wrapped = key.wrap(&certificate).unwrap();
    let part = |name: &str| Part {
        file_name: name.to_owned(),
        digest: image::digest::Sha1Digest::of(name.as_bytes()),
    };
    let manifest = Manifest {
        bundler: Bundler::ours(),
        architecture: Architecture::X86_64,
        block_device_mapping: vec![],
        product_codes: vec![],
        kernel_id: None,
        ramdisk_id: None,
        name: "tiny".to_owned(),
        user: rig.credentials.account_id.clone(),
        kind: Kind::Machine,
        digest: image::digest::Sha1Digest::of(b"tar"),
        size_bytes: 1 << 20,
        bundled_bytes: 304,
        cloud_key: wrapped.clone(),
        user_key: wrapped,
        parts: vec![part("tiny.part.0"), part("tiny.part.1")],
        signature: None,
    };
    let bytes = manifest.to_xml(None).unwrap().into_bytes();
    let id: types::ImageId = "emi-0123456789abcdef0".parse().unwrap();
    let image = id.clone();
    rig.clc
        .db
        .write(move |tx| {
            tx.execute(
                "UPDATE image_manifests SET manifest = ?2, part_sizes = '[100,204]', prefix = 'a b/'
                 WHERE image = ?1",
                (image.as_str(), bytes),
            )?;
            Ok::<_, store::Error>(())
        })
        .await
        .unwrap();
    let found = rig
        .clc
        .db
        .read(move |tx| images::find(tx, &id))
        .await
        .unwrap()
        .unwrap();
    let image = ImageRef {
        id: found.id,
        manifest_sha256: found.manifest_sha256,
        size_bytes: 1 << 20,
    };
    (key, image)
}

#[tokio::test]
async fn only_a_node_with_a_reason_gets_a_ticket_and_it_opens_the_bundle() {
    let rig = Rig::new().await;
    let service = service(&rig);
    rig.launch().await;
    let (key, image) = bundle(&rig).await;
    let of = |name: &str| call().from_peer(Peer::new(Role::Nc, name, Some("mallee-1a")).unwrap());
    let ask = TicketAsk {
        image,
        entry: None,
        peers_failed: false,
    };

    let other = service
        .image_ticket(&of("node-00000000000000000"), ask.clone())
        .await;
    assert_eq!(other.unwrap_err().code, Code::Forbidden);

    let ticket = service
        .image_ticket(&of(node().as_str()), ask.clone())
        .await
        .unwrap();
    assert_eq!(ticket.key.reveal(), &hex::encode(key.key()));
    assert_eq!(ticket.iv.reveal(), &hex::encode(key.iv()));
    assert_eq!((ticket.parts.len(), ticket.bundled_bytes), (2, 304));
    let url = ticket.parts[1].url.reveal();
    assert!(
        url.starts_with("http://127.0.0.1:8779/bucket/a%20b/tiny.part.1?X-Amz-"),
        "{url}"
    );
    assert!(!format!("{ticket:?}").contains(&hex::encode(key.key())));

    let mut changed = ask;
    changed.image.manifest_sha256 = "00".repeat(32);
    let refused = service
        .image_ticket(&of(node().as_str()), changed)
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
}

#[tokio::test]
async fn explain_tells_what_happened_and_who_has_to_act_next() {
    let rig = Rig::running().await;
    let service = service(&rig);
    let id = rig.launch().await;
    rig.until(&id, InstanceState::Running).await;
    let told = service
        .explain(
            &call(),
            ExplainAsk {
                instance: id.clone(),
            },
        )
        .await
        .unwrap();
    assert_eq!(told.waits_for, None);
    assert!(
        told.timeline.iter().any(|moment| moment.step == "running"),
        "{:?}",
        told.timeline
    );

    rig.cluster
        .is_slow
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let slow = rig.launch().await;
    rig.eventually("the wish is taken", async || {
        rig.instance(&slow)
            .await
            .filter(|instance| instance.taken_generation == 1)
    })
    .await;
    let told = service
        .explain(&call(), ExplainAsk { instance: slow })
        .await
        .unwrap();
    let waits = told.waits_for.unwrap();
    assert!(
        waits.contains(node().as_str()) && waits.contains("given up"),
        "{waits}"
    );

    let unknown = ExplainAsk {
        instance: "i-00000000000000000".parse().unwrap(),
    };
    assert_eq!(
        service.explain(&call(), unknown).await.unwrap_err().code,
        Code::NotFound
    );
}

#[tokio::test]
async fn verify_finds_nothing_wrong_with_a_cloud_at_rest_and_names_what_is_broken() {
    let rig = Rig::running().await;
    let service = service(&rig);
    let id = rig.launch().await;
    rig.until(&id, InstanceState::Running).await;
    let one = Shape {
        vcpus: 1,
        memory_mib: Mib(256),
        disk_gib: Gib(5),
    };
    rig.cluster.say_node(node_status(Reach::Up, one));

    let verdict = service.verify(&call(), Ask {}).await.unwrap();
    let names: Vec<_> = verdict
        .checks
        .iter()
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(names, ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8"]);
    for check in &verdict.checks {
        assert_eq!(check.broken, Vec::<String>::new(), "{}", check.name);
    }

    // An orphan, and a node that has committed more than its instances take.
    let mut orphan = report(
        &rig.cluster.wish(&id).unwrap(),
        control::node::Seen::Running,
    );
    orphan.instance = "i-00000000000000000".parse().unwrap();
    rig.cluster.say(orphan);
    let two = Shape { vcpus: 99, ..one };
    rig.cluster.say_node(node_status(Reach::Up, two));
    let verdict = service.verify(&call(), Ask {}).await.unwrap();
    let broken: Vec<_> = verdict
        .checks
        .iter()
        .filter(|check| !check.broken.is_empty())
        .map(|c| &c.name)
        .collect();
    assert_eq!(broken, ["I4", "I5", "I8"]);
}

#[tokio::test]
async fn a_node_is_declared_dead_and_after_all_not() {
    let rig = Rig::new().await;
    let service = service(&rig);
    for dead in [true, false] {
        service
            .declare_dead(&call(), DeadAsk { node: node(), dead })
            .await
            .unwrap();
        let row = rig
            .clc
            .db
            .read(|tx| nodes::find(tx, &node()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.dead, dead);
    }
    let unknown = DeadAsk {
        node: "node-00000000000000000".parse().unwrap(),
        dead: true,
    };
    assert_eq!(
        service
            .declare_dead(&call(), unknown)
            .await
            .unwrap_err()
            .code,
        Code::NotFound
    );
}

#[tokio::test]
async fn init_may_be_cut_off_anywhere_and_says_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let first = init::init(&config, &Choices::default()).await.unwrap();
    let places = Places::of(&config);
    let authority = Authority::load(places.ca()).unwrap().fingerprint();

    // The database was not yet written; our own certificate neither.
    for file in ["clc.db", "clc.db-wal", "clc.db-shm", "tls/cert.pem"] {
        let _ = std::fs::remove_file(dir.path().join(file));
    }
    let again = init::init(&config, &Choices::default()).await.unwrap();
    assert_eq!(again.access_key_id, first.access_key_id);
    assert_eq!(again.cloud_certificate_pem, first.cloud_certificate_pem);
    assert_eq!(
        Authority::load(places.ca()).unwrap().fingerprint(),
        authority
    );
    assert!(Identity::exists(places.tls()) && Identity::exists(places.admin()));
    assert_ne!(first.account_id, AccountId::system());
    let (_, key) = image_key_bits(&first.cloud_certificate_pem);
    assert_eq!(key, 2048);
}

fn image_key_bits(pem: &str) -> (String, usize) {
    let text = base64::engine::general_purpose::STANDARD
        .decode(
            pem.lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>(),
        )
        .unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&text).unwrap();
    let bits = match certificate.public_key().parsed().unwrap() {
        x509_parser::public_key::PublicKey::RSA(key) => key.key_size(),
        other => panic!("{other:?}"),
    };
    (certificate.subject().to_string(), bits)
}

#[tokio::test]
async fn a_certificate_request_is_known_by_its_key() {
    let (_, csr) = request();
    assert_eq!(request_key(&csr).unwrap().len(), 64);
    let authority = Authority::create(crate::rig::START_MS).unwrap();
    let peer = Peer::new(Role::Walrus, "walrus", None).unwrap();
    authority
        .sign(
            &csr,
            &Issue::daemon(peer, Timestamp(crate::rig::START_MS).0),
        )
        .unwrap();
    let made = join::Made {
        authority: authority.fingerprint(),
        clc: None,
        now: Timestamp(crate::rig::START_MS),
    };
    let rig = Rig::new().await;
    let refused = rig
        .clc
        .db
        .write(move |tx| {
            join::make_token(tx, &made, &ask(Role::Walrus)).map_err(clc::control::Refused)
        })
        .await;
    assert!(
        refused
            .err()
            .unwrap()
            .0
            .message
            .contains("control.advertise")
    );
}

#[tokio::test]
async fn a_host_is_looked_at_again_when_it_has_joined() {
    let rig = Rig::new().await;
    let token = JoinToken {
        clc: serve(&rig).await,
        ..token(&service(&rig), Role::Walrus).await
    };
    let dir = tempfile::tempdir().unwrap();
    let plan = control::newcomer::Plan {
        role: Role::Walrus,
        state: dir.path().join("mallee/walrus"),
        serves: "127.0.0.1:0".parse().unwrap(),
        listens: Vec::new(),
        pool: None,
        node: None,
    };
    // The cloud lives at another time than this host, and only says so in its answer.
    let joined = control::newcomer::become_member(&plan, token.to_text().reveal()).await;
    let said = joined.unwrap_err().to_string();
    assert!(said.contains("joined, but this host is not fit"), "{said}");
    assert!(control::member::Member::open(&plan.state.join("tls"), Role::Walrus).is_ok());
    let mode = std::fs::metadata(&plan.state).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "its database will be there");
}
