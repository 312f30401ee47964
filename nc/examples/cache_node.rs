//! The image cache of a node as a process of its own, for tests that kill, stop and share: it holds
//! one image, says on its standard output what it hears, and does what it is told on its input.
//!
//! ```text
//! cache_node '{"folder": "/c", "node": "node-00000001", "ticket": "/t.json", "image": {…}, …}'
//! > release        < released
//! > evict          < evicted, or: kept WHY
//! ```
#![allow(clippy::unwrap_used)] // a tool of tests, where a panic is the message

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use control::{
    CallError,
    caches::CopyReport,
    cloud::{Ticket, TicketAsk},
    node::ImageRef,
};
use nc::{
    bandwidth::Bandwidth,
    cache::{Cache, Form, Settings, Tickets, Told, lease::LeaseTimes, peers::PeerTimes},
};
use serde::Deserialize;
use types::{InstanceId, NodeId};

#[derive(Deserialize)]
struct Order {
    folder: PathBuf,
    node: NodeId,
    ticket: PathBuf,
    image: ImageRef,
    holder: InstanceId,
    limit_bytes: u64,
    beat_ms: u64,
    silence_ms: u64,
}

/// The same ticket, whoever asks: a file.
struct Written(Ticket);

#[async_trait]
impl Tickets for Written {
    async fn ticket(&self, _: TicketAsk) -> Result<Ticket, CallError> {
        Ok(self.0.clone())
    }

    async fn copied(&self, _: CopyReport) -> Result<(), CallError> {
        Ok(())
    }
}

fn no_tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::main]
async fn main() {
    let order = std::env::args().nth(1).unwrap();
    let order: Order = serde_json::from_str(&order).unwrap();
    let ticket = serde_json::from_slice(&std::fs::read(&order.ticket).unwrap()).unwrap();
    let settings = Settings {
        folder: order.folder,
        node: order.node,
        limit_bytes: Some(order.limit_bytes),
        grub: "/usr/lib/grub/i386-pc".into(),
        tls: no_tls(),
        lease: LeaseTimes {
            beat: Duration::from_millis(order.beat_ms),
            silence: Duration::from_millis(order.silence_ms),
            poll: Duration::from_millis(20),
        },
        patience: Duration::from_secs(15),
        peers: PeerTimes::default(),
        bandwidth: Bandwidth::default(),
    };
    let cache = Cache::new(settings, Arc::new(Written(ticket)));
    let hear = |told: &Told| println!("told {} {}", told.percent.unwrap_or_default(), told.doing);
    match cache
        .hold(&order.image, Form::Disk, &order.holder, &hear)
        .await
    {
        Ok(path) => println!("held {}", path.display()),
        Err(error) => println!("failed {error}"),
    }
    let (typed, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ended = typed.send(line);
        }
    });
    while let Some(line) = lines.recv().await {
        match line.as_str() {
            "release" => {
                cache.release(&order.holder).await.unwrap();
                println!("released");
            }
            "evict" => match cache.evict(&order.image.id).await {
                Ok(_) => println!("evicted"),
                Err(error) => println!("kept {error}"),
            },
            _ => println!("what is {line}?"),
        }
    }
}
