//! No memory image of a process that holds tokens.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_leaves_no_core() {
    let world = World::start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.id())).expect("Linux");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["Max", "core", "file", "size", "0", "0", "bytes"]);
}

/// The files of a process that may be dumped or traced belong to its user, those of one that may not to root (proc(5)).
#[test]
fn no_other_process_of_the_same_user_may_read_its_memory() {
    const NOBODY: u32 = 65534;
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = "version: 1\nlisteners: [ { address: 127.0.0.1:0 } ]\nupstreams: { content: { servers: [ http://127.0.0.1:9 ] } }\nroutes: [ { path: /**, public: true } ]\n";
    std::fs::write(folder.path().join("gateway.yaml"), configuration).expect("it can be written");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("our own folder");
    let own = std::fs::metadata(folder.path()).expect("a folder").uid();
    let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
    command.args(["run", "--config", "gateway.yaml"]).current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    // Root is told from root by nothing.
    let user = if own == 0 { NOBODY } else { own };
    if own == 0 {
        command.uid(NOBODY);
    }
    let mut child = command.spawn().expect("it starts");
    // Its first line says that it has begun.
    let said = child.stdout.as_mut().expect("piped").read(&mut [0; 1]);
    let owner = std::fs::metadata(format!("/proc/{}/mem", child.id())).map(|about| about.uid());
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(said.expect("standard output"), 1, "it ended before it said anything");
    assert_ne!(owner.expect("it runs"), user, "whoever has the same user could read its memory");
}

#[test]
fn the_service_unit_allows_no_core() {
    let unit = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/uma-gateway.service")).expect("the unit");
    assert!(unit.lines().any(|line| line == "LimitCORE=0"));
}
