//! Real clients: s3cmd, the aws CLI and rclone, where they are installed. Each does a round trip of
//! small and large files; one that is missing is named as skipped.

use std::{path::Path, process::Command};

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::pattern,
};

/// A client's command with nothing of our own environment that could lead it elsewhere.
fn client(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars() {
        if ["AWS_", "S3", "RCLONE_"]
            .iter()
            .any(|start| name.starts_with(start))
        {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", home)
        .env("AWS_ACCESS_KEY_ID", ALICE.id)
        .env("AWS_SECRET_ACCESS_KEY", ALICE.secret)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .current_dir(home);
    command
}

fn is_there(program: &str, home: &Path) -> bool {
    let found = client(program, home)
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

#[track_caller]
fn run(mut command: Command, args: &[&str]) -> String {
    let output = command.args(args).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

/// A file below and one above every client's threshold for uploads in parts.
fn make_files(home: &Path) {
    std::fs::create_dir(home.join("files")).unwrap();
    std::fs::write(home.join("files/small file"), pattern(1000, 1)).unwrap();
    std::fs::write(home.join("files/large"), pattern(17 << 20, 2)).unwrap();
}

fn same_files(home: &Path, folder: &str) {
    for name in ["small file", "large"] {
        let (was, is) = (home.join("files").join(name), home.join(folder).join(name));
        assert!(
            std::fs::read(was).unwrap() == std::fs::read(is).unwrap(),
            "{folder}/{name}"
        );
    }
}

#[tokio::test]
async fn s3cmd_makes_a_round_trip() {
    let walrus = Walrus::start().await;
    let home = tempfile::tempdir().unwrap();
    if !is_there("s3cmd", home.path()) {
        return;
    }
    make_files(home.path());
    let host = walrus.s3.to_string();
    let s3cmd = |args: &[&str]| {
        let mut command = client("s3cmd", home.path());
        command
            .args([
                "--access_key",
                ALICE.id,
                "--secret_key",
                ALICE.secret,
                "--no-ssl",
                "--no-progress",
            ])
            .args(["--host", &host, "--host-bucket", &host]);
        run(command, args)
    };
    s3cmd(&["mb", "s3://cmd"]);
    s3cmd(&["put", "--recursive", "files/", "s3://cmd/in/"]);
    assert!(s3cmd(&["ls", "s3://cmd/in/"]).contains("small file"));
    s3cmd(&["info", "s3://cmd/in/large"]);
    std::fs::create_dir(home.path().join("out")).unwrap();
    s3cmd(&["get", "--recursive", "s3://cmd/in/", "out/"]);
    same_files(home.path(), "out");
    s3cmd(&["setacl", "--acl-public", "s3://cmd/in/large"]);
    let url = format!("http://{host}/cmd/in/large");
    assert_eq!(crate::s3_client::plain_get(&url).await, Some(200));
    s3cmd(&["cp", "s3://cmd/in/large", "s3://cmd/copy"]);
    s3cmd(&["del", "--recursive", "--force", "s3://cmd/"]);
    s3cmd(&["rb", "s3://cmd"]);
}

#[tokio::test]
async fn the_aws_cli_makes_a_round_trip() {
    let walrus = Walrus::start().await;
    let home = tempfile::tempdir().unwrap();
    if !is_there("aws", home.path()) {
        return;
    }
    make_files(home.path());
    let url = format!("http://{}", walrus.s3);
    let aws = |args: &[&str]| {
        let mut command = client("aws", home.path());
        command.args(["--endpoint-url", &url]);
        run(command, args)
    };
    aws(&["s3", "mb", "s3://cli"]);
    aws(&[
        "s3",
        "cp",
        "--recursive",
        "files",
        "s3://cli/in",
        "--no-progress",
    ]);
    assert!(aws(&["s3", "ls", "s3://cli/in/"]).contains("small file"));
    aws(&[
        "s3",
        "cp",
        "--recursive",
        "s3://cli/in",
        "out",
        "--no-progress",
    ]);
    same_files(home.path(), "out");
    let head = aws(&[
        "s3api",
        "head-object",
        "--bucket",
        "cli",
        "--key",
        "in/large",
        "--checksum-mode",
        "ENABLED",
    ]);
    assert!(head.contains("ChecksumType"), "{head}");
    let presigned = aws(&["s3", "presign", "s3://cli/in/large"]);
    assert_eq!(
        crate::s3_client::plain_get(presigned.trim()).await,
        Some(200)
    );
    aws(&["s3", "mv", "s3://cli/in/large", "s3://cli/moved"]);
    aws(&["s3", "rm", "--recursive", "s3://cli/"]);
    aws(&["s3", "rb", "s3://cli"]);
}

#[tokio::test]
async fn rclone_makes_a_round_trip() {
    let walrus = Walrus::start().await;
    let home = tempfile::tempdir().unwrap();
    if !is_there("rclone", home.path()) {
        return;
    }
    make_files(home.path());
    let url = format!("http://{}", walrus.s3);
    let rclone = |args: &[&str]| {
        let mut command = client("rclone", home.path());
        command
            .env("RCLONE_CONFIG_W_TYPE", "s3")
            .env("RCLONE_CONFIG_W_PROVIDER", "Other")
            .env("RCLONE_CONFIG_W_ENV_AUTH", "true")
            .env("RCLONE_CONFIG_W_ENDPOINT", &url)
            .env("RCLONE_S3_UPLOAD_CUTOFF", "8M");
        run(command, args)
    };
    rclone(&["mkdir", "w:clone"]);
    rclone(&["sync", "files", "w:clone/in"]);
    rclone(&["check", "files", "w:clone/in"]);
    rclone(&["copy", "w:clone/in", "out"]);
    same_files(home.path(), "out");
    rclone(&["moveto", "w:clone/in/large", "w:clone/moved"]);
    rclone(&["purge", "w:clone"]);
}

/// For clients by hand; lines of WALRUS_SETS are further `--set` arguments: `cargo test -p mallee-walrus --test it -- --ignored --nocapture to_play_with`
/// prints what they need and serves until the printed file is removed.
#[tokio::test]
#[ignore = "serves until it is told to stop"]
async fn a_walrus_to_play_with() {
    let more = std::env::var("WALRUS_SETS").unwrap_or_default();
    let mut sets = vec![
        "s3.lifecycle_day_s=2",
        // s3-tests wait 5.5 s for the lines of a few requests, and for one object of them.
        "access_log.deliver_every_s=4",
        r#"s3.kms_keys=["testkey-1","testkey-2"]"#,
    ];
    sets.extend(more.lines());
    let walrus = Walrus::start_with(&sets).await;
    let alive = walrus.folder.path().join("remove-me-to-stop");
    std::fs::write(&alive, "").unwrap();
    eprintln!("S3_URL=http://{}", walrus.s3);
    eprintln!(
        "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}",
        ALICE.id, ALICE.secret
    );
    eprintln!("rm {}", alive.display());
    while alive.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
