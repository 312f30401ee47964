//! The command line. What is written here is the help, and the manual.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use types::{AccountId, ImageId, InstanceId, NodeId, quota::Limit};

use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  mallee status                          the cloud at a glance
  mallee explain i-0123456789abcdef0     why an instance is what it is, and what took how long
  mallee console i-0123456789abcdef0     its serial console; Ctrl-] leaves
  mallee image install disk.img --bucket images --name debian-12
  mallee image cache warm emi-0123456789abcdef0       fetched by all nodes before it is launched
  mallee verify --output json            the invariants, for a monitoring system
  mallee bench disk --guest guest.img    what this host's disks cost a guest

Environment:
  MALLEE_ADMIN      folder with the administrator's certificate, as --admin
  MALLEE_CONTROL    the cloud controller's control address, as --address
  EC2_URL S3_URL TOKEN_URL EUCA_BOOTSTRAP_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  AWS_DEFAULT_REGION EC2_USER_ID EC2_CERT EC2_PRIVATE_KEY EUCALYPTUS_CERT
                    for the image commands; `deploy/cloud env` prints them
  AWS_CA_BUNDLE     certificates to trust at https addresses instead of the machine's own

Exit codes:
  0   done; nothing found broken
  1   the cloud refused, or something failed
  2   doctor or verify found something broken
  3   what was named does not exist
  64  the command line or the environment is wrong
  69  the cloud does not answer
  77  the cloud does not let us";

/// The administrator's command of a Mallee cloud.
#[derive(Debug, Parser)]
#[command(name = "mallee", version, after_help = EXAMPLES, subcommand_required = true)]
pub struct Args {
    /// How to reach the cloud controller.
    #[command(flatten)]
    pub admin: Admin,
    /// How to print: `table` for people, `json` for programs
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach the cloud controller.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Admin {
    /// Folder with ca.pem, cert.pem, key.pem of an administrator [env: MALLEE_ADMIN]
    /// [default: /var/lib/mallee/clc/admin]
    #[arg(long, alias = "config", global = true, value_name = "DIR")]
    pub admin: Option<PathBuf>,
    /// The cloud controller's control address [env: MALLEE_CONTROL] [default: what the file
    /// `cloud` in the folder says, or 127.0.0.1:8777]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub address: Option<String>,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one, and it is made once"
)]
pub enum Command {
    /// The cloud at a glance: daemons, nodes, storage, instances, addresses
    #[command(after_help = "Examples:\n  mallee status\n  watch -n 5 mallee status")]
    Status,
    /// Nodes: reach, capacity, what is taken of it
    #[command(after_help = "Examples:\n  mallee nodes\n  mallee nodes --output json")]
    Nodes,
    /// Instances of all accounts
    #[command(after_help = "Examples:\n  mallee instances\n  mallee instances --output json")]
    Instances,
    /// Why an instance is what it is: its timeline, and why nodes were not chosen
    #[command(after_help = "Example:\n  mallee explain i-0123456789abcdef0 --output json")]
    Explain(Explain),
    /// The serial console of an instance, to read and to type into
    #[command(after_help = "\
Examples:
  mallee console i-0123456789abcdef0              on a terminal: read and type; Ctrl-] leaves
  mallee console i-0123456789abcdef0 --log        what it said so far
  echo uptime | mallee console i-0123456789abcdef0 --follow

What the guest prints is shown without control sequences, since they could command your terminal;
--raw shows it as it is, for a full-screen program in a guest that you trust.")]
    Console(Console),
    /// Looks for what is wrong with the cloud; says cause and fix
    #[command(
        after_help = "Example:\n  mallee doctor\nExits 0 if nothing is broken (there may be warnings), 2 if something is."
    )]
    Doctor,
    /// Checks the invariants on the running cloud: nothing stuck, nothing twice, nothing orphaned
    #[command(
        after_help = "Example:\n  mallee verify --output json\nExits 0 if all hold, 2 if one is broken."
    )]
    Verify,
    /// Accounts, and making one
    #[command(subcommand)]
    Account(Account),
    /// A node: declare it dead, or take that back
    #[command(subcommand)]
    Node(Node),
    /// Machine images: bundle, upload, register, or all of it; list, share, deregister
    #[command(subcommand)]
    Image(Image),
    /// Measures this host; asks no cloud
    #[command(subcommand)]
    Bench(Bench),
    /// Buckets of another S3, copied here or compared; how much accounts and buckets may hold
    #[command(subcommand)]
    S3(S3),
}

/// `mallee s3`
#[derive(Debug, clap::Subcommand)]
pub enum S3 {
    /// Copies a bucket of another store; what is there already is left, so run it again after a break
    #[command(after_help = "\
Example:
  export SOURCE_ENDPOINT_URL=http://minio:9000 SOURCE_ACCESS_KEY_ID=... SOURCE_SECRET_ACCESS_KEY=...
  eval $(deploy/cloud env)                        AWS_ENDPOINT_URL and AWS_...: where it goes
  mallee s3 import photos && mallee s3 verify photos --read

Bytes, content headers and metadata are copied; access lists, tags and old versions are not.")]
    Import(CopyBucket),
    /// Compares a bucket with that of another store
    #[command(after_help = "\
Example:
  mallee s3 verify photos --read
Exits 0 if all objects are there and equal, 2 if not.")]
    Verify(VerifyBucket),
    /// How much accounts and buckets may hold, and do
    #[command(subcommand)]
    Quota(Quota),
}

/// `mallee s3 quota`
#[derive(Debug, Subcommand)]
pub enum Quota {
    /// All accounts that have buckets or limits, and all buckets with limits of their own
    #[command(after_help = "\
Examples:
  mallee s3 quota list
  mallee s3 quota list --output json

Bytes are those of all versions of all objects and of the parts of unfinished uploads; objects are
versions, delete markers are none. A limit with a star is the default of walrus.toml.")]
    List,
    /// One account or bucket
    #[command(after_help = "\
Examples:
  mallee s3 quota show --account physics
  mallee s3 quota show --bucket photos --output json")]
    Show(QuotaOf),
    /// Says how much one may hold; what it holds already stays
    #[command(after_help = "\
Examples:
  mallee s3 quota set --account physics --bytes 500GiB --objects 1000000 --buckets 20
  mallee s3 quota set --bucket photos --bytes 10GiB
  mallee s3 quota set --account physics --bytes none          no limit, whatever walrus.toml says
  mallee s3 quota set --account physics --bytes default       what walrus.toml says

A write that would go beyond is answered 403 QuotaExceeded; deletes always go through.")]
    Set(SetQuota),
}

/// Which account or bucket.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct QuotaOf {
    /// An account, by name or number
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// A bucket
    #[arg(long, value_name = "BUCKET")]
    pub bucket: Option<String>,
}

/// `mallee s3 quota set`
#[derive(Debug, clap::Args)]
pub struct SetQuota {
    /// Whose
    #[command(flatten)]
    pub of: QuotaOf,
    /// Bytes: a number with or without KiB, MiB, GiB, TiB; none; default
    #[arg(long, value_name = "SIZE", value_parser = limit_of_bytes)]
    pub bytes: Option<Limit>,
    /// Versions of objects: a number; none; default
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    pub objects: Option<Limit>,
    /// Buckets of the account: a number; none; default
    #[arg(long, value_name = "NUMBER", value_parser = limit, conflicts_with = "bucket")]
    pub buckets: Option<Limit>,
}

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit::None),
        "default" => Ok(Limit::Default),
        number => match number.parse() {
            Ok(number) => Ok(Limit::At(number)),
            Err(_) => Err("neither a number, nor `none`, nor `default`".to_owned()),
        },
    }
}

fn limit_of_bytes(text: &str) -> Result<Limit, String> {
    const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = UNITS
        .iter()
        .find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, *bits)));
    let Some((number, bits)) = unit else {
        return limit(text);
    };
    let number: u64 = number
        .trim_end()
        .parse()
        .map_err(|_| format!("{number:?} is no number"))?;
    match number.checked_mul(1 << bits) {
        Some(bytes) => Ok(Limit::At(bytes)),
        None => Err("more than there can be".to_owned()),
    }
}

/// `mallee s3 import`
#[derive(Debug, clap::Args)]
pub struct CopyBucket {
    /// The bucket at the source
    pub bucket: String,
    /// Only keys that begin so
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// Another name for the bucket here
    #[arg(long, value_name = "BUCKET")]
    pub to_bucket: Option<String>,
    /// The source's address [default: SOURCE_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// The address of where it goes [default: AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Objects at once
    #[arg(long, default_value_t = 4)]
    pub jobs: usize,
}

/// `mallee s3 verify`
#[derive(Debug, clap::Args)]
pub struct VerifyBucket {
    /// Which
    #[command(flatten)]
    pub of: CopyBucket,
    /// Read every byte of both, not only sizes and entity tags
    #[arg(long)]
    pub read: bool,
}

/// `mallee explain`
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The instance
    pub instance: InstanceId,
}

/// `mallee console`
#[derive(Debug, clap::Args)]
pub struct Console {
    /// The instance
    pub instance: InstanceId,
    /// Print what it said so far (the last 64 KiB) and leave
    #[arg(long, conflicts_with = "follow")]
    pub log: bool,
    /// Go on printing, even where the input is no terminal; Ctrl-C leaves
    #[arg(long)]
    pub follow: bool,
    /// Print control sequences as they are
    #[arg(long)]
    pub raw: bool,
}

/// `mallee account`
#[derive(Debug, Subcommand)]
pub enum Account {
    /// All accounts
    #[command(after_help = "Example:\n  mallee account list --output json")]
    List,
    /// Makes an account with a default VPC and an access key; the secret is shown this once
    #[command(after_help = "Example:\n  mallee account create physics --output json")]
    Create {
        /// Its name: 1 to 63 lower-case letters, digits and inner dashes
        name: String,
    },
}

/// `mallee node`
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Says that a node will not come back: its cluster waits for it no longer. Its instances keep
    /// their records until somebody terminates them
    #[command(after_help = "\
Examples:
  mallee node dead node-0123456789abcdef0          its host burnt
  mallee node dead node-0123456789abcdef0 --undo   it did not")]
    Dead {
        /// The node
        node: NodeId,
        /// It is alive after all
        #[arg(long)]
        undo: bool,
    },
}

/// `mallee image`
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Bundles an image file into a folder: compressed, encrypted, in parts, with a manifest
    #[command(after_help = "\
Example:
  mallee image bundle disk.img --destination bundle/ --name debian-12
Prints the path of the manifest. Holes of the file are left out of the bundle; one that was copied
without them gets them back by `fallocate --dig-holes disk.img`.")]
    Bundle(Bundle),
    /// Uploads a bundle's parts and manifest to a bucket, which is made if need be
    #[command(after_help = "\
Example:
  mallee image upload bundle/debian-12.manifest.xml --bucket images
Prints the location to register.")]
    Upload(Upload),
    /// Registers an uploaded bundle as an image
    #[command(after_help = "\
Example:
  mallee image register images/debian-12.manifest.xml --name debian-12
Prints the image's id.")]
    Register(Register),
    /// Bundles, uploads and registers in one go, without a copy on disk
    #[command(after_help = "\
Example:
  mallee image install disk.img --bucket images --name debian-12
Prints the image's id.")]
    Install(Install),
    /// The images that one may launch: one's own, those that were shared, those for all
    #[command(after_help = "\
Examples:
  mallee image list                      all that one may launch
  mallee image list --owner self         one's own
  mallee image list --owner amazon       the administrators', whom clients call amazon or eucalyptus")]
    List(List),
    /// Lets accounts launch an image, or all; or no longer
    #[command(after_help = "\
Examples:
  mallee image share emi-0123456789abcdef0 --with 123456789012
  mallee image share emi-0123456789abcdef0 --all          public: every account of the cloud
  mallee image share emi-0123456789abcdef0 --all --undo   private again")]
    Share(Share),
    /// Takes images out of use; instances that run from them go on
    #[command(after_help = "\
Example:
  mallee image deregister emi-0123456789abcdef0
The bundle in the object store stays: it is its owner's to delete.")]
    Deregister {
        /// The images
        #[arg(required = true)]
        images: Vec<ImageId>,
    },
    /// The nodes' image caches: what they have, fetching ahead, removing
    #[command(subcommand)]
    Cache(ImageCache),
}

/// `mallee image list`
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only of these owners: self, amazon, or an account's number
    #[arg(long, value_name = "OWNER")]
    pub owner: Vec<String>,
}

/// `mallee image share`
#[derive(Debug, clap::Args)]
pub struct Share {
    /// The image, one's own
    pub image: ImageId,
    /// The accounts
    #[arg(long, value_name = "ACCOUNT", required_unless_present = "all")]
    pub with: Vec<AccountId>,
    /// All accounts
    #[arg(long)]
    pub all: bool,
    /// No longer
    #[arg(long)]
    pub undo: bool,
}

/// `mallee image cache`
#[derive(Debug, Subcommand)]
pub enum ImageCache {
    /// What each node has or is fetching: image, size, last use, how many instances stand on it
    #[command(after_help = "\
Example:
  mallee image cache list
Nodes that share a cache all show what is in it; the instances are those of all of them.")]
    List {
        /// Only this node; may be given again
        #[arg(long)]
        node: Vec<NodeId>,
    },
    /// Has nodes fetch an image before anybody launches it, and shows how far each is
    #[command(after_help = "\
Example:
  mallee image cache warm emi-0123456789abcdef0 --node node-0123456789abcdef0
One node reads the image from the object store, the others take it from there or from each other.
What is fetched ahead is evicted like everything else: when room is needed, the longest unused
first. Exits 1 if a node could not have it, and says why.")]
    Warm {
        /// Which, and where.
        #[command(flatten)]
        of: OfCaches,
        /// Do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Removes an image from caches where no instance stands on it
    #[command(after_help = "\
Example:
  mallee image cache evict emi-0123456789abcdef0
Exits 1 if it is still on a node, because instances use it, and says how many.")]
    Evict(OfCaches),
}

/// An image, and the nodes whose caches are meant.
#[derive(Debug, clap::Args)]
pub struct OfCaches {
    /// The image: emi-, eki- or eri-
    pub image: ImageId,
    /// Only this node; may be given again [default: all]
    #[arg(long)]
    pub node: Vec<NodeId>,
}

/// What a bundle is made of.
#[derive(Debug, clap::Args)]
pub struct BundleOf {
    /// The raw image: a disk, a root partition, a kernel or a ramdisk
    pub file: PathBuf,
    /// The bundle's name, the prefix of its files [default: the file's name without its extension]
    #[arg(long)]
    pub name: Option<String>,
    /// What the image is
    #[arg(long, value_enum, default_value_t = Kind::Machine)]
    pub kind: Kind,
    /// The machine that it is for: i386, x86_64, armhf, ppc, ppc64, ppc64le
    #[arg(long, default_value = "x86_64")]
    pub arch: String,
    /// The kernel to boot with, if not the image's own: eki-...
    #[arg(long)]
    pub kernel: Option<String>,
    /// The ramdisk to boot with: eri-...
    #[arg(long)]
    pub ramdisk: Option<String>,
    /// The account to bundle for [env: EC2_USER_ID] [default: asked of STS]
    #[arg(long, value_name = "ACCOUNT")]
    pub user: Option<String>,
    /// The cloud's certificate [env: EUCALYPTUS_CERT] [default: asked of the bootstrap service]
    #[arg(long, value_name = "FILE")]
    pub cloud_cert: Option<PathBuf>,
}

/// `mallee image bundle`
#[derive(Debug, clap::Args)]
pub struct Bundle {
    /// The image.
    #[command(flatten)]
    pub of: BundleOf,
    /// The folder for the parts and the manifest
    #[arg(long, short, default_value = ".", value_name = "DIR")]
    pub destination: PathBuf,
}

/// Where a bundle goes.
#[derive(Debug, clap::Args)]
pub struct To {
    /// The bucket, perhaps with a prefix: `images` or `images/debian`
    #[arg(long, short)]
    pub bucket: String,
    /// The canned ACL of the objects
    #[arg(long, default_value = "aws-exec-read")]
    pub acl: String,
}

/// `mallee image upload`
#[derive(Debug, clap::Args)]
pub struct Upload {
    /// The bundle's manifest; its parts lie beside it
    pub manifest: PathBuf,
    /// Where to.
    #[command(flatten)]
    pub to: To,
}

/// How an image is registered.
#[derive(Debug, clap::Args)]
pub struct As {
    /// A description
    #[arg(long)]
    pub description: Option<String>,
}

/// `mallee image register`
#[derive(Debug, clap::Args)]
pub struct Register {
    /// Where the manifest lies: BUCKET/NAME.manifest.xml
    pub location: String,
    /// The image's name
    #[arg(long)]
    pub name: String,
    /// The rest.
    #[command(flatten)]
    pub as_: As,
}

/// `mallee image install`
#[derive(Debug, clap::Args)]
pub struct Install {
    /// The image.
    #[command(flatten)]
    pub of: BundleOf,
    /// Where to.
    #[command(flatten)]
    pub to: To,
    /// How.
    #[command(flatten)]
    pub as_: As,
}

/// `mallee bench`
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// What each kind of virtual disk costs a guest that writes and syncs, on this folder's file
    /// system: MB/s, and the writes and flushes that reach the host
    #[command(after_help = "\
Examples:
  deploy/guest/build --out guest.img --cache packages
  mallee bench disk --guest guest.img --dir /var/lib/mallee/nc/instances
  mallee bench disk --guest guest.img --count 64 --disk raw --disk overlay --output json

MB/s are of files in an ext4 file system inside the guest. Writes and flushes are counted by QEMU
below the disk's format, for writes to the disk itself, per write of the guest and as a ratio to
the raw disk in the same guest: noise does not move them.")]
    Disk(BenchDisk),
    /// What the measured guest runs
    #[command(hide = true)]
    Writer,
}

/// `mallee bench disk`
#[derive(Debug, clap::Args)]
pub struct BenchDisk {
    /// The guest to measure in: a root partition with a kernel, as deploy/guest/build makes it
    #[arg(long, value_name = "FILE")]
    pub guest: PathBuf,
    /// Where to measure; what is written there is removed
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// The size of a write, in MiB
    #[arg(long, default_value_t = 1, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub size: u64,
    /// How many writes, each with a sync after it
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub count: u64,
    /// The disks to compare; raw is always there [default: all]
    #[arg(long = "disk", value_enum, value_name = "DISK")]
    pub disks: Vec<DiskKind>,
    /// How the host caches disks
    #[arg(long, value_enum, default_value_t = DiskCache::None)]
    pub cache: DiskCache,
    /// QEMU
    #[arg(long, default_value = "qemu-system-x86_64", value_name = "PROGRAM")]
    pub emulator: PathBuf,
}

/// A kind of virtual disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum DiskKind {
    /// A sparse raw file
    Raw,
    /// qcow2 by itself
    Qcow2,
    /// qcow2 by itself, its tables allocated beforehand
    Qcow2Metadata,
    /// qcow2 over a raw backing file
    Qcow2Backed,
    /// The same with the best that qemu-img has: subclusters, tables beforehand, lazy refcounts
    Qcow2Tuned,
    /// Mallee's overlay: the same, and all that the backing file leaves empty claimed beforehand
    Overlay,
    /// A raw clone of the backing file, where the file system makes them
    Clone,
}

/// How the host caches a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiskCache {
    /// Not at all
    None,
    /// In the page cache
    Writeback,
    /// In the page cache, and flushes are ignored
    Unsafe,
}

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// It boots
    Machine,
    /// It is booted by another's disk
    Kernel,
    /// It goes with a kernel
    Ramdisk,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        assert_eq!(daemon::start::without_example(&Args::command()), [""; 0]);
    }

    #[test]
    fn the_commands_of_the_demo_and_of_the_tests_parse() {
        for line in [
            "mallee status --output json",
            "mallee nodes --admin /x --address 127.0.0.1:8777",
            "mallee verify --output json",
            "mallee account list",
            "mallee account create physics",
            "mallee node dead node-1234abcd --undo",
            "mallee explain i-0123456789abcdef0",
            "mallee console i-1234abcd --log",
            "mallee image bundle disk.img --destination /tmp --name image",
            "mallee image install disk.img --bucket b --name n --output json",
            "mallee image upload x.manifest.xml --bucket b/p",
            "mallee image register b/x.manifest.xml --name n",
            "mallee image list --owner self --output json",
            "mallee image share emi-1234abcd --with 123456789012 --undo",
            "mallee image share emi-1234abcd --all",
            "mallee image deregister emi-1234abcd eki-1234abcd",
            "mallee bench disk --guest g --count 64 --size 2 --disk raw --disk overlay --cache unsafe",
            "mallee image cache list --node node-1234abcd --output json",
            "mallee image cache warm emi-1234abcd --no-wait",
            "mallee image cache evict emi-1234abcd --node node-1234abcd --node node-1234abce",
        ] {
            Args::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_is_no_instance_is_refused_before_anything_is_asked() {
        assert!(Args::try_parse_from(["mallee", "image", "share", "emi-1234abcd"]).is_err());
        assert!(Args::try_parse_from(["mallee", "image", "deregister"]).is_err());
        assert!(Args::try_parse_from(["mallee", "explain", "i-../../etc"]).is_err());
        assert!(Args::try_parse_from(["mallee", "explain", "vol-1234abcd"]).is_err());
        let evict = ["mallee", "image", "cache", "evict", "emi-../../etc"];
        assert!(Args::try_parse_from(evict).is_err());
    }
}
