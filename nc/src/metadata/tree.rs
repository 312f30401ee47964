//! What a guest finds where: an instance's wish as a tree of folders and texts. Pure.
//!
//! The names are EC2's (and 2.0.3's, by which old images live). What we do not know of an instance
//! is not in the tree, and so a 404, as on EC2.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use control::node::InstanceWish;
use serde_json::json;

/// Versions that clients ask for; all show the same tree.
pub(super) const VERSIONS: [&str; 14] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2014-11-05",
    "2016-09-02",
    "2021-03-23",
    "latest",
];

/// A folder: what is in it by name.
#[derive(Debug, Default)]
struct Folder(BTreeMap<String, Entry>);

#[derive(Debug)]
enum Entry {
    Text(Vec<u8>),
    /// A folder, and how its parent lists it.
    Folder(Folder, String),
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A text, or the listing of a folder.
    Text(Vec<u8>),
    /// User data: bytes of any kind.
    Bytes(Vec<u8>),
}

/// Looks a path up. Empty segments count for nothing, so that `/latest//meta-data/` is found.
pub(super) fn find(wish: &InstanceWish, path: &str) -> Option<Found> {
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let Some((version, rest)) = segments.split_first() else {
        return Some(Found::Text(VERSIONS.join("\n").into_bytes()));
    };
    VERSIONS.contains(version).then_some(())?;
    match rest {
        ["user-data"] => user_data(wish).map(Found::Bytes),
        _ => root(wish).find(rest).map(Found::Text),
    }
}

fn user_data(wish: &InstanceWish) -> Option<Vec<u8>> {
    // The CLC has checked it; what cannot be decoded is as good as none.
    STANDARD.decode(wish.spec.metadata.user_data.as_ref()?).ok()
}

impl Folder {
    fn find(&self, path: &[&str]) -> Option<Vec<u8>> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self.listing());
        };
        match self.0.get(*first)? {
            Entry::Text(text) => rest.is_empty().then(|| text.clone()),
            Entry::Folder(folder, _) => folder.find(rest),
        }
    }

    /// A line per entry, no line end after the last.
    fn listing(&self) -> Vec<u8> {
        let line = |(name, entry): (&String, &Entry)| match entry {
            Entry::Text(_) => name.clone(),
            Entry::Folder(_, shown) => shown.clone(),
        };
        self.0
            .iter()
            .map(line)
            .collect::<Vec<_>>()
            .join("\n")
            .into_bytes()
    }

    fn text(mut self, name: &str, text: impl Into<String>) -> Self {
        self.0
            .insert(name.to_owned(), Entry::Text(text.into().into_bytes()));
        self
    }

    fn text_if(self, name: &str, text: Option<impl Into<String>>) -> Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    fn folder(self, name: &str, folder: Self) -> Self {
        let shown = format!("{name}/");
        self.folder_shown(name, shown, folder)
    }

    fn folder_if(self, name: &str, folder: Option<Self>) -> Self {
        match folder {
            Some(folder) => self.folder(name, folder),
            None => self,
        }
    }

    fn folder_shown(mut self, name: &str, shown: String, folder: Self) -> Self {
        self.0.insert(name.to_owned(), Entry::Folder(folder, shown));
        self
    }
}

fn root(wish: &InstanceWish) -> Folder {
    let identity = Folder::default().text("document", identity_document(wish));
    let dynamic = Folder::default().folder("instance-identity", identity);
    let root = Folder::default()
        .folder_shown("dynamic", "dynamic".to_owned(), dynamic)
        .folder_shown("meta-data", "meta-data".to_owned(), meta_data(wish));
    match user_data(wish) {
        Some(_) => root.text("user-data", ""),
        None => root,
    }
}

fn meta_data(wish: &InstanceWish) -> Folder {
    let (spec, shown) = (&wish.spec, &wish.spec.metadata);
    let interface = &spec.interface;
    let public_name = Some(&shown.public_dns_name).filter(|name| !name.is_empty());
    Folder::default()
        .text("ami-id", spec.image.id.as_str())
        .text("ami-launch-index", shown.launch_index.to_string())
        .text("ami-manifest-path", &shown.ami_manifest_path)
        .folder("block-device-mapping", block_devices())
        .text("hostname", &shown.private_dns_name)
        .text("instance-action", "none")
        .text("instance-id", wish.instance.as_str())
        .text("instance-life-cycle", "on-demand")
        .text("instance-type", &spec.vm_type)
        .text_if(
            "kernel-id",
            spec.kernel.as_ref().map(|kernel| kernel.id.as_str()),
        )
        .text("local-hostname", &shown.private_dns_name)
        .text("local-ipv4", interface.private_address.to_string())
        .text("mac", interface.mac.to_string())
        .folder("network", network(wish))
        .folder("placement", placement(wish))
        .text_if("public-hostname", public_name)
        .text_if(
            "public-ipv4",
            interface.public_address.map(|address| address.to_string()),
        )
        .folder_if("public-keys", public_keys(wish))
        .text_if(
            "ramdisk-id",
            spec.ramdisk.as_ref().map(|ramdisk| ramdisk.id.as_str()),
        )
        .text("reservation-id", spec.reservation.as_str())
        .text("security-groups", shown.security_groups.join("\n"))
        .folder("services", services())
        .folder_if("tags", tags(wish))
}

/// The root disk is virtio's first; its first partition is the root filesystem.
fn block_devices() -> Folder {
    Folder::default()
        .text("ami", "vda1")
        .text("root", "/dev/vda1")
}

fn placement(wish: &InstanceWish) -> Folder {
    let shown = &wish.spec.metadata;
    Folder::default()
        .text("availability-zone", shown.zone.as_str())
        .text("region", &shown.region)
}

fn services() -> Folder {
    Folder::default()
        .text("domain", "mallee.internal")
        .text("partition", "aws")
}

/// `0=name` is how the one key is listed, `0` where it is.
fn public_keys(wish: &InstanceWish) -> Option<Folder> {
    let (name, key) = wish.spec.metadata.key.as_ref()?;
    let key = Folder::default().text("openssh-key", key.trim_end());
    Some(Folder::default().folder_shown("0", format!("0={name}"), key))
}

fn tags(wish: &InstanceWish) -> Option<Folder> {
    let tags = &wish.spec.metadata.tags;
    // A name with a slash cannot be a path; EC2 refuses such tags here as well.
    let usable = tags
        .iter()
        .filter(|(name, _)| !name.is_empty() && !name.contains('/'));
    let folder = usable.fold(Folder::default(), |all, (name, value)| {
        all.text(name, value)
    });
    (!folder.0.is_empty()).then(|| Folder::default().folder("instance", folder))
}

fn network(wish: &InstanceWish) -> Folder {
    let mac = wish.spec.interface.mac.to_string();
    let macs = Folder::default().folder(&mac, interface(wish));
    Folder::default().folder("interfaces", Folder::default().folder("macs", macs))
}

fn interface(wish: &InstanceWish) -> Folder {
    let (spec, shown) = (&wish.spec, &wish.spec.metadata);
    let (interface, private) = (&spec.interface, spec.interface.private_address.to_string());
    let public = interface.public_address.map(|address| address.to_string());
    let public_name = Some(&shown.public_dns_name).filter(|name| !name.is_empty());
    let associations = public
        .as_ref()
        .map(|public| Folder::default().text(public.as_str(), private.as_str()));
    Folder::default()
        .text("device-number", "0")
        .text("interface-id", interface.id.as_str())
        .folder_if("ipv4-associations", associations)
        .text("local-hostname", &shown.private_dns_name)
        .text("local-ipv4s", private)
        .text("mac", interface.mac.to_string())
        .text("owner-id", spec.account.as_str())
        .text_if("public-hostname", public_name)
        .text_if("public-ipv4s", public)
        .text("security-group-ids", shown.security_group_ids.join("\n"))
        .text("security-groups", shown.security_groups.join("\n"))
        .text("subnet-id", interface.subnet.as_str())
        .text("subnet-ipv4-cidr-block", &shown.subnet_cidr)
        .text("vpc-id", interface.vpc.as_str())
        .text("vpc-ipv4-cidr-block", &shown.vpc_cidr)
        .text("vpc-ipv4-cidr-blocks", &shown.vpc_cidr)
}

fn identity_document(wish: &InstanceWish) -> String {
    let (spec, shown) = (&wish.spec, &wish.spec.metadata);
    let document = json!({
        "accountId": spec.account,
        "architecture": "x86_64",
        "availabilityZone": shown.zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": spec.image.id,
        "instanceId": wish.instance,
        "instanceType": spec.vm_type,
        "kernelId": spec.kernel.as_ref().map(|kernel| &kernel.id),
        "pendingTime": shown.launched_at.to_string(),
        "privateIp": spec.interface.private_address,
        "ramdiskId": spec.ramdisk.as_ref().map(|ramdisk| &ramdisk.id),
        "region": shown.region,
        "version": "2017-09-30",
    });
    serde_json::to_string_pretty(&document).expect("a document has string keys only")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::fakes;

    fn wish() -> InstanceWish {
        let mut wish = fakes::wish(1);
        wish.spec.interface.public_address = Some(Ipv4Addr::new(10, 98, 0, 10));
        let shown = &mut wish.spec.metadata;
        shown.key = Some(("my key".to_owned(), "ssh-ed25519 AAAA me\n".to_owned()));
        shown.public_dns_name = "mallee-10-98-0-10.example".to_owned();
        shown.security_groups = vec!["web".to_owned(), "default".to_owned()];
        shown.tags = vec![
            ("Name".to_owned(), "x".to_owned()),
            ("a/b".to_owned(), "y".to_owned()),
        ];
        shown.user_data = Some(STANDARD.encode([0, 159, 146, 150]));
        wish
    }

    fn text(path: &str) -> Option<String> {
        match find(&wish(), path)? {
            Found::Text(text) | Found::Bytes(text) => Some(String::from_utf8(text).unwrap()),
        }
    }

    /// Every path, as a client that walks the folders finds them.
    fn walk(folder: &str, all: &mut Vec<String>) {
        for line in text(folder).unwrap().lines() {
            let name = line.split_once('=').map_or(line, |(number, _)| number);
            let path = format!("{folder}{name}");
            if line.ends_with('/') {
                walk(&path, all);
            } else if line.contains('=') {
                walk(&format!("{path}/"), all);
            } else {
                all.push(format!(
                    "{path} {}",
                    text(&path).unwrap().replace('\n', "|")
                ));
            }
        }
    }

    #[test]
    fn a_client_that_walks_the_tree_finds_all_of_this() {
        let mut all = Vec::new();
        walk("/latest/meta-data/", &mut all);
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn the_identity_document() {
        insta::assert_snapshot!(text("/latest/dynamic/instance-identity/document").unwrap());
    }

    #[test]
    fn a_path_is_forgiven_its_slashes_and_nothing_else() {
        for path in [
            "/latest/meta-data/instance-id",
            "/2009-04-04/meta-data/instance-id",
            "//latest//meta-data/instance-id/",
        ] {
            assert_eq!(text(path).as_deref(), Some("i-00000001"), "{path}");
        }
        assert_eq!(
            text("/latest/meta-data/public-keys/").as_deref(),
            Some("0=my key")
        );
        assert_eq!(
            text("/latest/meta-data/public-keys/0").as_deref(),
            Some("openssh-key")
        );
        assert_eq!(
            text("/latest/").as_deref(),
            Some("dynamic\nmeta-data\nuser-data")
        );
        assert!(text("/").unwrap().ends_with("\nlatest"));
        for path in [
            "/1999-01-01/meta-data/",
            "/latest/x",
            "/latest/meta-data/instance-id/x",
            "/latest/meta-data/iam/info",
            "/latest/meta-data/spot/termination-time",
        ] {
            assert_eq!(text(path), None, "{path}");
        }
    }

    #[test]
    fn user_data_is_bytes_and_absent_when_there_is_none() {
        assert_eq!(
            find(&wish(), "/latest/user-data"),
            Some(Found::Bytes(vec![0, 159, 146, 150]))
        );
        assert_eq!(find(&fakes::wish(1), "/latest/user-data"), None);
        assert_eq!(
            find(&fakes::wish(1), "/latest/meta-data/public-keys/"),
            None
        );
    }
}
