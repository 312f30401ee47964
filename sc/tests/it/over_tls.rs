use std::sync::Arc;

use control::{
    Client, Code, Role, Storage,
    feed::Poll,
    rpc::Call,
    storage::{StorageChange, VolumeSeen, VolumeWanted},
};
use testkit::tls::{Certificates, serve};

use crate::rig::{Rig, wish};

#[tokio::test]
async fn the_clc_makes_a_volume_over_mutual_tls_and_nobody_else_does() {
    let certificates = Certificates::new();
    let own = certificates.of(Role::Sc, "mallee-1a");
    let rig = Rig::new().await;
    let served = serve(&own, control::storage::routes(Arc::new(rig.sc.clone()))).await;
    let far = |role, name| {
        let tls = certificates.of(role, name).client_config();
        Client::new(&tls, served.address, Role::Sc, None)
    };
    let (clc, node) = (far(Role::Clc, "main"), far(Role::Nc, "node-00000001"));
    let (clc, node): (&dyn Storage, &dyn Storage) = (&clc, &node);
    let call = Call::new("req-1");

    let refused = node
        .volume(&call, wish(1, 1, VolumeWanted::Present))
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    clc.volume(&call, wish(1, 1, VolumeWanted::Present))
        .await
        .unwrap();
    let mut after = None;
    loop {
        let news = clc
            .changes(
                &call,
                Poll {
                    after,
                    wait_ms: 5_000,
                },
            )
            .await
            .unwrap();
        let available = |change: &StorageChange| {
            matches!(change,
            StorageChange::Volume(report) if report.seen == VolumeSeen::Available)
        };
        if news.items.iter().any(available) {
            break;
        }
        assert!(
            news.full || !news.items.is_empty(),
            "nothing new in five seconds"
        );
        after = Some(news.position);
    }
}
