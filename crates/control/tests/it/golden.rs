//! Every message of version 1, as it travels. The files are what daemons of this version say and
//! understand; a change that alters one is a new version, and these stay and must still decode.
//!
//! `MALLEE_GOLDEN=write` writes them anew.

use std::{collections::BTreeMap, fs, path::PathBuf};

use control::{
    caches::*, cloud::*, cluster::*, feed::*, node::*, objects::*, peer::Role, storage::*,
    timeline::Moment,
};
use control::{cloud, cluster, node, objects, storage};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use types::{Gib, Mib, Secret, StateReason, Timestamp, instance::ShortId, network::*};

fn id<T: std::str::FromStr>(prefix: &str, digit: char) -> T
where
    T::Err: std::fmt::Debug,
{
    format!("{prefix}0{}", digit.to_string().repeat(16))
        .parse()
        .unwrap()
}

fn text(value: &str) -> String {
    value.to_owned()
}

fn zone() -> types::Zone {
    "mallee-1a".parse().unwrap()
}

fn account() -> types::AccountId {
    "123456789012".parse().unwrap()
}

fn shape() -> Shape {
    Shape {
        vcpus: 1,
        memory_mib: Mib(256),
        disk_gib: Gib(5),
    }
}

fn image_ref() -> ImageRef {
    ImageRef {
        id: id("emi-", 'a'),
        manifest_sha256: "ab".repeat(32),
        size_bytes: 67_108_864,
    }
}

fn moment() -> Moment {
    Moment {
        by: text("nc"),
        step: text("image"),
        elapsed_ms: 412,
        detail: text("fetched 11 MB"),
    }
}

fn interface_spec() -> InterfaceSpec {
    InterfaceSpec {
        id: id("eni-", '1'),
        short: ShortId(1),
        vpc: id("vpc-", '2'),
        vpc_short: ShortId(2),
        subnet: id("subnet-", '3'),
        subnet_short: ShortId(3),
        mac: "d0:0d:01:02:03:04".parse().unwrap(),
        private_address: [172, 31, 0, 10].into(),
        public_address: Some([10, 213, 0, 10].into()),
    }
}

fn metadata() -> Metadata {
    Metadata {
        region: text("mallee-1"),
        zone: zone(),
        ami_manifest_path: text("images/tiny.manifest.xml"),
        launch_index: 0,
        private_dns_name: text("ip-172-31-0-10.mallee-1.internal"),
        public_dns_name: text(""),
        key: Some((text("k"), text("ssh-rsa AAAA k"))),
        security_groups: vec![text("default")],
        security_group_ids: vec![text("sg-04444444444444444")],
        subnet_cidr: text("172.31.0.0/20"),
        vpc_cidr: text("172.31.0.0/16"),
        user_data: Some(text("IyEvYmluL3NoCg==")),
        tokens_required: false,
        tags: vec![(text("Name"), text("web"))],
        launched_at: Timestamp(1_795_000_000_000),
    }
}

fn instance_wish() -> InstanceWish {
    InstanceWish {
        instance: id("i-", '5'),
        generation: 2,
        node: id("node-", '6'),
        epoch: 1,
        wanted: Wanted::Running,
        reboots: 0,
        bundle: None,
        spec: InstanceSpec {
            account: account(),
            reservation: id("r-", '7'),
            vm_type: text("m1.small"),
            shape: shape(),
            image: image_ref(),
            kernel: None,
            ramdisk: None,
            interface: interface_spec(),
            network_version: 9,
            metadata: metadata(),
        },
    }
}

fn instance_report() -> InstanceReport {
    InstanceReport {
        instance: id("i-", '5'),
        node: id("node-", '6'),
        epoch: 1,
        generation: 2,
        seen: Seen::Pending,
        stage: text("fetching the image"),
        percent: Some(40),
        bundle: None,
        reason: Some(StateReason::new(
            "Server.InternalError",
            "part 3 is corrupt",
        )),
        impaired: None,
        reboots: 0,
        timeline: vec![moment()],
    }
}

fn node_report() -> NodeReport {
    NodeReport {
        node: id("node-", '6'),
        hostname: text("n1"),
        underlay: [10, 212, 0, 11].into(),
        capacity: shape(),
        used: Shape::default(),
        hypervisor: text("tcg, libvirt 9.0.0, QEMU 7.2"),
        network_version: 9,
        network_failures: Vec::new(),
        not_ready: None,
    }
}

fn node_status() -> NodeStatus {
    NodeStatus {
        node: id("node-", '6'),
        reach: Reach::Up,
        why: text(""),
        report: Some(node_report()),
        committed: shape(),
    }
}

fn document() -> NetworkDocument {
    let group = id("sg-", '4');
    NetworkDocument {
        version: 9,
        peers: vec![types::network::Peer {
            node: id("node-", '6'),
            underlay: [10, 212, 0, 11].into(),
        }],
        public: Some(PublicNetwork {
            cidr: "10.213.0.0/24".parse().unwrap(),
            gateway: Some([10, 213, 0, 1].into()),
        }),
        protected: vec!["10.212.0.0/24".parse().unwrap()],
        // Since version 1 was frozen; that a document without it is read is what the golden holds.
        open: vec![],
        vpcs: vec![Vpc {
            id: id("vpc-", '2'),
            short: ShortId(2),
            owner: account(),
            cidr: "172.31.0.0/16".parse().unwrap(),
            dns: [172, 31, 0, 2].into(),
            domain: text("mallee-1.internal"),
            subnets: vec![Subnet {
                id: id("subnet-", '3'),
                short: ShortId(3),
                cidr: "172.31.0.0/20".parse().unwrap(),
                gateway: [172, 31, 0, 1].into(),
                vni: 3,
                internet: true,
            }],
            groups: vec![SecurityGroup {
                id: id("sg-", '4'),
                short: ShortId(4),
                ingress: vec![
                    Rule {
                        protocol: Protocol::Tcp { from: 22, to: 22 },
                        peer: RulePeer::Cidr("0.0.0.0/0".parse().unwrap()),
                    },
                    Rule {
                        protocol: Protocol::All,
                        peer: RulePeer::Group(group),
                    },
                    Rule {
                        protocol: Protocol::Icmp {
                            kind: Some(8),
                            code: None,
                        },
                        peer: RulePeer::Cidr("10.0.0.0/8".parse().unwrap()),
                    },
                ],
                egress: vec![Rule {
                    protocol: Protocol::Number { number: 47 },
                    peer: RulePeer::Cidr("0.0.0.0/0".parse().unwrap()),
                }],
                members: vec![[172, 31, 0, 10].into()],
            }],
            interfaces: vec![Interface {
                id: id("eni-", '1'),
                short: ShortId(1),
                instance: id("i-", '5'),
                node: id("node-", '6'),
                subnet: id("subnet-", '3'),
                mac: "d0:0d:01:02:03:04".parse().unwrap(),
                private_address: [172, 31, 0, 10].into(),
                public_address: Some([10, 213, 0, 10].into()),
                groups: vec![id("sg-", '4')],
                hostname: text("ip-172-31-0-10"),
            }],
        }],
    }
}

fn poll() -> Poll {
    Poll {
        after: Some(Position {
            epoch: text("e1"),
            revision: 7,
        }),
        wait_ms: 20_000,
    }
}

fn changes<T>(items: Vec<T>) -> Changes<T> {
    Changes {
        position: Position {
            epoch: text("e1"),
            revision: 8,
        },
        full: false,
        items,
    }
}

fn console_read() -> ConsoleRead {
    ConsoleRead {
        instance: id("i-", '5'),
        from: Some(0),
        wait_ms: 0,
    }
}

fn console_text() -> ConsoleText {
    ConsoleText {
        from: 0,
        output: text("bG9naW46"),
        updated_at: Timestamp(1_795_000_000_000),
    }
}

fn console_write() -> ConsoleWrite {
    ConsoleWrite {
        instance: id("i-", '5'),
        input: text("bHMK"),
    }
}

fn joined() -> Joined {
    Joined {
        name: text("node-06666666666666666"),
        zone: Some(zone()),
        certificate_pem: text("PEM"),
        ca_pem: text("PEM"),
        now_ms: None,
    }
}

fn instance_status() -> InstanceStatus {
    InstanceStatus {
        instance: id("i-", '5'),
        account: account(),
        state: types::InstanceState::Running,
        reason: None,
        vm_type: text("m1.small"),
        image: id("emi-", 'a'),
        node: Some(id("node-", '6')),
        zone: zone(),
        private_address: text("172.31.0.10"),
        public_address: text("10.213.0.10"),
        launched_at: Timestamp(1_795_000_000_000),
    }
}

fn cloud_status() -> CloudStatus {
    CloudStatus {
        region: text("mallee-1"),
        version: text("0.1.0"),
        services: vec![ServiceStatus {
            role: Role::Cc,
            name: text("mallee-1a"),
            zone: Some(zone()),
            address: Some("10.212.0.1:8774".parse().unwrap()),
            state: text("up"),
            seen_at: Some(Timestamp(1_795_000_000_000)),
        }],
        nodes: vec![node_status()],
        objects: Some(objects_status()),
        pools: vec![(zone(), pool())],
        instances: vec![(types::InstanceState::Running, 1)],
        addresses: (1, 241),
    }
}

fn pool() -> PoolReport {
    PoolReport {
        kind: text("file on xfs"),
        total_bytes: 10,
        free_bytes: 9,
        provisioned_bytes: 1,
        not_ready: None,
    }
}

fn objects_status() -> ObjectsStatus {
    ObjectsStatus {
        buckets: 1,
        objects: 8,
        bytes: 11,
        free_bytes: 12,
        identity_revision: 3,
    }
}

fn identity() -> Vec<IdentityChange> {
    vec![
        IdentityChange::Account(Account {
            account: account(),
            name: text("first"),
            canonical_id: "cd".repeat(32),
            deleted: false,
        }),
        IdentityChange::User(User {
            account: account(),
            name: text("admin"),
            path: text("/"),
            policies: vec![],
            deleted: false,
        }),
        IdentityChange::Key(AccessKey {
            id: "AKIAABCDEFGHIJKLMNOP".parse().unwrap(),
            account: account(),
            user: text("admin"),
            secret: Secret::new(text("example")),
            active: true,
            deleted: false,
        }),
    ]
}

fn ticket() -> Ticket {
    Ticket {
        image: id("emi-", 'a'),
        parts: vec![TicketPart {
            name: text("tiny.part.00"),
            url: Secret::new(text(
                "http://10.212.0.1:8779/b/tiny.part.00?X-Amz-Signature=0",
            )),
            digest_sha1: "ef".repeat(20),
            size_bytes: 10_485_760,
        }],
        key: Secret::new("00".repeat(16)),
        iv: Secret::new("11".repeat(16)),
        digest_sha1: "ef".repeat(20),
        size_bytes: 67_108_864,
        bundled_bytes: 10_485_760,
        valid_ms: 900_000,
        blocks: None,
        peers: vec![],
        filled_by: None,
    }
}

fn entry() -> String {
    format!("{}_{}_r1.disk", image_ref().id, image_ref().manifest_sha256)
}

fn blocks() -> Blocks {
    Blocks {
        block_bytes: 4 << 20,
        file_bytes: 68_157_440,
        runs: vec![(0, 2), (9, 1)],
        sha256: text("q6urq6ur"),
    }
}

fn ticket_for_peers() -> Ticket {
    Ticket {
        parts: vec![],
        blocks: Some(blocks()),
        peers: vec![CopyPeer {
            node: id("node-", '6'),
            address: "10.212.0.11:8775".parse().unwrap(),
        }],
        filled_by: Some(FilledBy {
            node: id("node-", '6'),
            percent: 40,
            again_ms: 500,
        }),
        ..ticket()
    }
}

fn cache_report() -> CacheReport {
    CacheReport {
        limit_bytes: 20 << 30,
        used_bytes: 12 << 20,
        free_bytes: 40 << 30,
        entries: vec![CachedEntry {
            image: image_ref().id,
            entry: entry(),
            bytes: 12 << 20,
            used_at: Some(Timestamp(1_795_000_000_000)),
            uses: 2,
            percent: Some(40),
            doing: text("waiting for node-2, which fetches it"),
            failed: false,
        }],
    }
}

fn caches() -> Caches {
    Caches {
        nodes: vec![NodeCache {
            node: id("node-", '6'),
            report: Some(cache_report()),
            error: text(""),
        }],
    }
}

fn bundle_ticket() -> BundleTicket {
    let place = |name: &str| {
        let address = |method: &str| {
            let url = format!("http://10.212.0.1:8779/b/{name}?{method}&X-Amz-Signature=0");
            Secret::new(url)
        };
        BundlePlace {
            put: address("put"),
            head: address("head"),
        }
    };
    BundleTicket {
        key: Secret::new("00".repeat(16)),
        iv: Secret::new("11".repeat(16)),
        label: BundleLabel {
            name: text("mine"),
            architecture: text("x86_64"),
            account: account(),
            kernel: Some(id("eki-", 'b')),
            ramdisk: Some(id("eri-", 'c')),
            cloud_key: [text("aa"), text("bb")],
            user_key: [text("cc"), text("dd")],
        },
        parts: vec![place("mine.part.32")],
        manifest: place("mine.manifest.xml"),
        acl: text("ec2-bundle-read"),
        valid_ms: 900_000,
    }
}

fn hold() -> Hold {
    Hold {
        placements: vec![Placement {
            instance: id("i-", '5'),
            node: id("node-", '6'),
            epoch: 1,
            why: text("greedy: fullest that fits"),
        }],
        rejected: vec![Rejected {
            node: id("node-", '8'),
            why: text("256 MiB asked, 128 MiB free"),
        }],
    }
}

fn principal() -> Principal {
    Principal {
        account: account(),
        user: text("admin"),
    }
}

/// The messages seen, by file name.
#[derive(Default)]
struct Messages {
    files: BTreeMap<String, Value>,
}

impl Messages {
    fn message<T: Serialize + DeserializeOwned>(&mut self, name: String, message: &T) {
        let value = serde_json::to_value(message).unwrap();
        let again: T = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&again).unwrap(),
            value,
            "{name} does not read back"
        );
        self.files.insert(name, value);
    }

    fn call<A, B>(&mut self, path: &str, ask: &A, answer: &B)
    where
        A: Serialize + DeserializeOwned,
        B: Serialize + DeserializeOwned,
    {
        let name = path.replace('/', ".");
        self.message(format!("{name}.ask.json"), ask);
        self.message(format!("{name}.answer.json"), answer);
    }
}

fn every_message() -> BTreeMap<String, Value> {
    let mut seen = Messages::default();
    let (done, taken) = (Done {}, Taken { generation: 2 });
    let network_taken = NetworkTaken { version: 9 };

    let node_changes = vec![
        NodeChange::Instance(Box::new(instance_report())),
        NodeChange::Node(node_report()),
    ];
    seen.call("Node/instance", &instance_wish(), &taken);
    seen.call("Node/network", &document(), &network_taken);
    seen.call("Node/changes", &poll(), &changes(node_changes));
    seen.call("Node/console_read", &console_read(), &console_text());
    seen.call("Node/console_write", &console_write(), &done);

    let ask = HoldAsk {
        reservation: id("r-", '7'),
        instances: vec![id("i-", '5')],
        min_count: 1,
        shape: shape(),
    };
    let roster = Roster {
        generation: 4,
        nodes: vec![RosterNode {
            node: id("node-", '6'),
            address: "10.212.0.11:8775".parse().unwrap(),
            dead: false,
        }],
    };
    let cluster_changes = vec![
        ClusterChange::Instance(Box::new(instance_report())),
        ClusterChange::Node(Box::new(node_status())),
    ];
    seen.call("Cluster/hold", &ask, &hold());
    seen.call(
        "Cluster/release",
        &HoldRelease {
            reservation: id("r-", '7'),
        },
        &done,
    );
    seen.call("Cluster/instance", &instance_wish(), &taken);
    seen.call("Cluster/roster", &roster, &taken);
    seen.call("Cluster/network", &document(), &network_taken);
    seen.call("Cluster/changes", &poll(), &changes(cluster_changes));
    seen.call("Cluster/console_read", &console_read(), &console_text());
    seen.call("Cluster/console_write", &console_write(), &done);

    let volume = id("vol-", '9');
    let wish = VolumeWish {
        volume,
        generation: 1,
        wanted: VolumeWanted::Present,
        size_gib: Gib(1),
        snapshot: None,
    };
    let report = VolumeReport {
        volume: id("vol-", '9'),
        generation: 1,
        seen: VolumeSeen::Available,
        allocated_bytes: 0,
        reason: None,
    };
    seen.call("Storage/volume", &wish, &taken);
    seen.call(
        "Storage/changes",
        &poll(),
        &changes(vec![
            StorageChange::Volume(report),
            StorageChange::Pool(pool()),
        ]),
    );

    let read = ReadObject {
        principal: principal(),
        bucket: text("b"),
        key: text("k"),
        bytes_max: 1_000_000,
    };
    let stat = StatObjects {
        principal: principal(),
        bucket: text("b"),
        keys: vec![text("k"), text("l")],
    };
    let stats = ObjectStats {
        objects: vec![
            ObjectStat {
                key: text("k"),
                size: Ok(1),
            },
            ObjectStat {
                key: text("l"),
                size: Err(text("NoSuchKey")),
            },
        ],
    };
    seen.call(
        "Objects/read_object",
        &read,
        &ObjectBytes {
            content: text("eA=="),
            etag: "0".repeat(32),
        },
    );
    seen.call("Objects/stat_objects", &stat, &stats);
    let link = LinkObjects {
        from_bucket: text("b"),
        from_prefix: text("f/"),
        names: vec![text("k")],
        to_bucket: text("emi-00000001"),
    };
    let drop = DropObjects {
        bucket: text("emi-00000001"),
    };
    seen.call("Objects/link_objects", &link, &Done {});
    seen.call("Objects/drop_objects", &drop, &Done {});
    let of = types::quota::QuotaOf::Bucket(text("images"));
    let quotas = Quotas {
        quotas: vec![QuotaLine {
            of: types::quota::QuotaOf::Account(account()),
            limits: types::quota::Limits {
                bytes: types::quota::Limit::At(1 << 30),
                objects: types::quota::Limit::None,
                ..Default::default()
            },
            bounds: types::quota::Bounds {
                bytes: Some(1 << 30),
                objects: None,
                buckets: Some(10_000),
            },
            used: types::quota::Usage {
                bytes: 5,
                objects: 1,
            },
            buckets: Some(1),
        }],
    };
    let set = SetQuota {
        of: of.clone(),
        bytes: Some(types::quota::Limit::At(5)),
        objects: Some(types::quota::Limit::Default),
        buckets: None,
    };
    let ask = AskQuotas { of: Some(of) };
    for who in ["Objects", "Cloud"] {
        seen.call(&format!("{who}/quotas"), &ask, &quotas);
        seen.call(&format!("{who}/set_quota"), &set, &Done {});
    }
    seen.call("Objects/status", &AskObjectsStatus {}, &objects_status());

    let join = JoinAsk {
        secret: Secret::new(text("s")),
        role: Role::Nc,
        csr_pem: text("PEM"),
        address: Some("10.212.0.11:8775".parse().unwrap()),
        hostname: text("n1"),
    };
    let explanation = Explanation {
        status: instance_status(),
        timeline: vec![moment()],
        rejected: hold().rejected,
        waits_for: Some(text("the node, until 12:00")),
    };
    let verdict = Verdict {
        checks: vec![Check {
            name: text("I4"),
            says: text("each address has one owner"),
            looked_at: 1,
            broken: vec![],
        }],
    };
    seen.call("Cloud/join", &join, &joined());
    seen.call(
        "Cloud/renew",
        &RenewAsk {
            csr_pem: text("PEM"),
            address: None,
        },
        &joined(),
    );
    seen.call(
        "Cloud/public_certificate",
        &PublicCertificateAsk {
            csr_pem: text("PEM"),
            names: [text("cloud"), text("*.s3.cloud")].into(),
        },
        &PublicCertificate {
            certificate_pem: text("PEM"),
        },
    );
    seen.call("Cloud/identity", &poll(), &changes(identity()));
    seen.call(
        "Cloud/image_ticket",
        &TicketAsk {
            image: image_ref(),
            entry: None,
            peers_failed: false,
        },
        &ticket(),
    );
    let ask = BundleTicketAsk {
        instance: id("i-", '5'),
        task: id("bun-", '9'),
        first_part: 32,
    };
    seen.call("Cloud/bundle_ticket", &ask, &bundle_ticket());
    seen.message(
        text("Cloud.image_ticket.entry.ask.json"),
        &TicketAsk {
            image: image_ref(),
            entry: Some(entry()),
            peers_failed: true,
        },
    );
    seen.message(
        text("Cloud.image_ticket.peers.answer.json"),
        &ticket_for_peers(),
    );
    let copy = |copy| CopyReport {
        image: image_ref().id,
        entry: entry(),
        copy,
    };
    let whole = Copied::Whole {
        blocks: Some(blocks()),
    };
    seen.call("Cloud/image_copy", &copy(whole), &done);
    seen.message(
        text("Cloud.image_copy.filling.ask.json"),
        &copy(Copied::Filling { percent: 40 }),
    );
    seen.message(text("Cloud.image_copy.gone.ask.json"), &copy(Copied::Gone));
    let some = vec![id("node-", '6')];
    let list = CachesAsk {
        nodes: some.clone(),
    };
    let warm = WarmAsk {
        image: id("emi-", 'a'),
        nodes: some.clone(),
    };
    let evict = EvictAsk {
        image: id("emi-", 'a'),
        nodes: some.clone(),
    };
    let node_warm = NodeWarm {
        image: image_ref(),
        kind: types::ImageKind::Machine,
    };
    let cluster_warm = ClusterWarm {
        warm: node_warm.clone(),
        nodes: some,
    };
    let node_evict = NodeEvict {
        image: id("emi-", 'a'),
    };
    seen.call("Cloud/caches", &list, &caches());
    seen.call("Cloud/caches_warm", &warm, &caches());
    seen.call("Cloud/caches_evict", &evict, &caches());
    seen.call("Cluster/caches", &list, &caches());
    seen.call("Cluster/caches_warm", &cluster_warm, &caches());
    seen.call("Cluster/caches_evict", &evict, &caches());
    seen.call("Node/cache", &CachesAsk::default(), &cache_report());
    seen.call("Node/cache_warm", &node_warm, &cache_report());
    seen.call("Node/cache_evict", &node_evict, &cache_report());
    seen.call(
        "Cloud/token",
        &TokenAsk {
            role: Role::Nc,
            zone: Some(zone()),
            valid_ms: 3_600_000,
        },
        &Token {
            token: Secret::new(text("t")),
        },
    );
    seen.call("Cloud/status", &Ask {}, &cloud_status());
    seen.call(
        "Cloud/instances",
        &Ask {},
        &InstanceList {
            instances: vec![instance_status()],
        },
    );
    seen.call(
        "Cloud/explain",
        &ExplainAsk {
            instance: id("i-", '5'),
        },
        &explanation,
    );
    let new_account = NewAccount {
        account: account(),
        name: text("second"),
        access_key_id: "AKIAABCDEFGHIJKLMNOP".parse().unwrap(),
        secret_access_key: Secret::new(text("example")),
    };
    let accounts = AccountList {
        accounts: vec![Account {
            account: account(),
            name: text("first"),
            canonical_id: "cd".repeat(32),
            deleted: false,
        }],
    };
    let dead = DeadAsk {
        node: id("node-", '6'),
        dead: true,
    };
    seen.call(
        "Cloud/create_account",
        &AccountAsk {
            name: text("second"),
        },
        &new_account,
    );
    seen.call("Cloud/accounts", &Ask {}, &accounts);
    seen.call("Cloud/declare_dead", &dead, &done);
    seen.call("Cloud/verify", &Ask {}, &verdict);
    seen.call("Cloud/console_read", &console_read(), &console_text());
    seen.call("Cloud/console_write", &console_write(), &done);
    seen.files
}

/// The messages with fields that are mostly absent, with all of those there: `NAME.full.json`.
fn full_messages() -> BTreeMap<String, Value> {
    let mut seen = Messages::default();
    let reason = StateReason::new("Server.InternalError", "the host's disk is full");
    let wish = InstanceWish {
        bundle: Some(BundleWish {
            task: id("bun-", '9'),
            cancelled: true,
        }),
        spec: InstanceSpec {
            kernel: Some(ImageRef {
                id: id("eki-", 'b'),
                ..image_ref()
            }),
            ramdisk: Some(ImageRef {
                id: id("eri-", 'c'),
                ..image_ref()
            }),
            ..instance_wish().spec
        },
        ..instance_wish()
    };
    let report = InstanceReport {
        impaired: Some(reason.clone()),
        bundle: Some(BundleReport {
            task: id("bun-", '9'),
            seen: BundleSeen::Failed,
            percent: 42,
            error: Some(reason),
        }),
        ..instance_report()
    };
    let node = NodeReport {
        network_failures: vec![NetworkFailure {
            vpc: Some(id("vpc-", '2')),
            why: text("nft: no such file"),
        }],
        not_ready: Some(text("libvirt does not answer")),
        ..node_report()
    };
    let mut document = NetworkDocument {
        open: vec!["10.212.0.1:8773".parse().unwrap()],
        ..document()
    };
    // The rule without a code: absent is what it means.
    document.vpcs[0].groups[0].ingress.truncate(2);
    let joined = Joined {
        now_ms: Some(1_795_000_000_000),
        ..joined()
    };
    seen.message(text("Node.instance.ask.full.json"), &wish);
    seen.message(text("Node.network.ask.full.json"), &document);
    seen.message(text("Cloud.join.answer.full.json"), &joined);
    let node_changes = vec![
        NodeChange::Instance(Box::new(report)),
        NodeChange::Node(node),
    ];
    seen.message(
        text("Node.changes.answer.full.json"),
        &changes(node_changes),
    );
    seen.files
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[test]
fn a_full_message_says_more_than_the_usual_one_and_leaves_nothing_out() {
    let usual = every_message();
    for (name, full) in full_messages() {
        assert!(!has_null(&full), "{name}");
        let usual = &usual[&name.replace(".full.json", ".json")];
        assert_ne!(full, *usual, "{name}");
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1")
}

#[test]
fn every_call_has_its_golden_messages() {
    let files = every_message();
    for (path, _) in [
        node::CALLS,
        cluster::CALLS,
        storage::CALLS,
        objects::CALLS,
        cloud::CALLS,
    ]
    .concat()
    {
        let name = path.trim_start_matches("/v1/").replace('/', ".");
        for end in ["ask", "answer"] {
            assert!(
                files.contains_key(&format!("{name}.{end}.json")),
                "{name} has no {end}"
            );
        }
    }
}

#[test]
fn messages_travel_as_version_1_says() {
    let write = std::env::var_os("MALLEE_GOLDEN").is_some_and(|value| value == "write");
    for (name, value) in every_message().into_iter().chain(full_messages()) {
        let file = folder().join(&name);
        let said = serde_json::to_string_pretty(&value).unwrap() + "\n";
        if write {
            fs::write(&file, &said).unwrap();
        }
        let golden = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(said, golden, "{name} is not what version 1 says");
    }
}

#[test]
fn a_bundle_is_wished_for_and_told_of_in_messages_that_say_nothing_of_it_otherwise() {
    let (plain, said) = (instance_wish(), instance_report());
    let wish = InstanceWish {
        bundle: Some(BundleWish {
            task: id("bun-", '9'),
            cancelled: true,
        }),
        ..plain.clone()
    };
    let report = InstanceReport {
        bundle: Some(BundleReport {
            task: id("bun-", '9'),
            seen: BundleSeen::WaitingForShutdown,
            percent: 0,
            error: None,
        }),
        ..said.clone()
    };
    for value in [serde_json::to_value(plain), serde_json::to_value(said)] {
        assert!(value.unwrap().get("bundle").is_none());
    }
    let (wish, report) = (
        serde_json::to_value(wish).unwrap(),
        serde_json::to_value(report).unwrap(),
    );
    assert_eq!(
        wish["bundle"],
        serde_json::json!({"task": "bun-09999999999999999", "cancelled": true})
    );
    assert_eq!(report["bundle"]["seen"], "waiting-for-shutdown");
    assert!(serde_json::from_value::<InstanceWish>(wish).is_ok());
    assert!(serde_json::from_value::<InstanceReport>(report).is_ok());
}

#[test]
fn a_later_daemon_may_say_more_and_an_earlier_one_less() {
    let mut wish = serde_json::to_value(instance_wish()).unwrap();
    wish["invented_later"] = Value::from(1);
    wish.as_object_mut().unwrap().remove("reboots");
    let read: InstanceWish = serde_json::from_value(wish).unwrap();
    assert_eq!(read, instance_wish());
}
