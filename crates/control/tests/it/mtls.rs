//! A client and a server that know each other by certificate alone.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use control::{
    CallError, Client, Code, Storage,
    feed::{Changes, Feed, Poll},
    node::Taken,
    rpc::Call,
    server, storage,
    storage::{StorageChange, VolumeWanted, VolumeWish},
};
use daemon::{
    clock::SystemClock,
    tls::{Authority, Identity, Issue, Peer, Role, Tls},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use types::Gib;

struct Sc {
    feed: Feed<u8, StorageChange>,
}

#[async_trait]
impl Storage for Sc {
    async fn volume(&self, call: &Call, ask: VolumeWish) -> Result<Taken, CallError> {
        if ask.size_gib > Gib(10) {
            return Err(CallError::new(
                Code::NoRoom,
                format!("11 GiB asked by {}", call.request_id),
            ));
        }
        Ok(Taken {
            generation: ask.generation,
        })
    }

    async fn changes(&self, _: &Call, ask: Poll) -> Result<Changes<StorageChange>, CallError> {
        Ok(self.feed.poll(&ask).await)
    }
}

pub(crate) struct Lab {
    pub(crate) authority: Authority,
    dir: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let authority = Authority::create(SystemClock::shared().now_ms()).unwrap();
        Self {
            authority,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn tls(&self, role: Role, name: &str) -> Tls {
        let peer = Peer::new(role, name, role.has_zone().then_some("mallee-1a")).unwrap();
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Identity::make(
            &dir,
            &self.authority,
            &Issue::daemon(peer, SystemClock::shared().now_ms()),
        )
        .unwrap();
        Tls::open(&dir).unwrap()
    }

    pub(crate) async fn serve(&self, stop: &CancellationToken) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = storage::routes(Arc::new(Sc {
            feed: Feed::new("e1".into()),
        }));
        let tls = self.tls(Role::Sc, "sc-1");
        tokio::spawn(server::serve(
            listener,
            tls.server_config(),
            routes,
            stop.clone(),
        ));
        address
    }
}

pub(crate) fn wish(size_gib: u32) -> VolumeWish {
    VolumeWish {
        volume: "vol-0123456789abcdef0".parse().unwrap(),
        generation: 3,
        wanted: VolumeWanted::Present,
        size_gib: Gib(size_gib),
        snapshot: None,
    }
}

#[tokio::test]
async fn the_right_role_is_served_and_errors_come_back_typed() {
    let lab = Lab::new();
    let stop = CancellationToken::new();
    let address = lab.serve(&stop).await;
    let clc = Client::new(
        &lab.tls(Role::Clc, "clc").client_config(),
        address,
        Role::Sc,
        Some("sc-1"),
    );

    assert_eq!(
        clc.volume(&Call::new("r1"), wish(1)).await,
        Ok(Taken { generation: 3 })
    );
    let refused = clc.volume(&Call::new("r2"), wish(11)).await.unwrap_err();
    assert_eq!(refused, CallError::new(Code::NoRoom, "11 GiB asked by r2"));
}

#[tokio::test]
async fn a_node_may_not_call_what_only_the_clc_may() {
    let lab = Lab::new();
    let stop = CancellationToken::new();
    let address = lab.serve(&stop).await;
    for role in [Role::Nc, Role::Cc, Role::Sc, Role::Walrus, Role::Admin] {
        let tls = lab.tls(role, &format!("some-{role}"));
        let client = Client::new(&tls.client_config(), address, Role::Sc, None);
        let refused = client.volume(&Call::new("r"), wish(1)).await.unwrap_err();
        assert_eq!(refused.code, Code::Forbidden, "{role}");
    }
}

#[tokio::test]
async fn a_server_of_another_name_role_or_cloud_is_not_talked_to() {
    let (lab, stranger) = (Lab::new(), Lab::new());
    let stop = CancellationToken::new();
    let address = lab.serve(&stop).await;
    let tls = lab.tls(Role::Clc, "clc").client_config();
    for client in [
        Client::new(&tls, address, Role::Sc, Some("sc-2")),
        Client::new(&tls, address, Role::Cc, None),
        Client::new(
            &stranger.tls(Role::Clc, "clc").client_config(),
            address,
            Role::Sc,
            None,
        ),
    ] {
        let refused = client.volume(&Call::new("r"), wish(1)).await.unwrap_err();
        assert_eq!(refused.code, Code::Unreachable);
    }
}

#[tokio::test]
async fn a_poll_ends_when_its_wait_does_and_a_stop_ends_the_server() {
    let lab = Lab::new();
    let stop = CancellationToken::new();
    let address = lab.serve(&stop).await;
    let clc = Client::new(
        &lab.tls(Role::Clc, "clc").client_config(),
        address,
        Role::Sc,
        None,
    );
    let first = clc
        .changes(&Call::new("r").polling_ms(50), Poll::default())
        .await
        .unwrap();
    assert!(first.full && first.items.is_empty());
    let poll = Poll {
        after: Some(first.position),
        wait_ms: 50,
    };
    assert!(
        !clc.changes(&Call::new("r").polling_ms(50), poll)
            .await
            .unwrap()
            .full
    );

    stop.cancel();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let gone = clc.volume(&Call::new("r"), wish(1)).await.unwrap_err();
    assert_eq!(gone.code, Code::Unreachable);
}

#[tokio::test]
async fn a_message_of_a_version_from_long_ago_is_refused() {
    let lab = Lab::new();
    let stop = CancellationToken::new();
    let address = lab.serve(&stop).await;
    let tls = lab.tls(Role::Clc, "clc").client_config();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("sc.mallee.internal").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let head = "POST /v1/Storage/changes HTTP/1.1\r\nhost: x\r\ncontrol-version: 9\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.starts_with("HTTP/1.1 400") && said.contains("upgrade the older"),
        "{said}"
    );
}
