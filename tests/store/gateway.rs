//! The program with the section `store`: it starts with its records or not at all.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::port::free;
use crate::{World, credential};

/// Writes a configuration whose key is that digit's.
fn configure(folder: &Path, name: &str, digit: char) {
    use std::os::unix::fs::PermissionsExt;
    let key = folder.join(format!("key-{digit}"));
    std::fs::write(&key, format!("1{}\n", digit.to_string().repeat(63))).expect("a key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("a mode");
    let text = format!(
        "version: 1\nlisteners: [ {{ address: {} }} ]\nhealth: {{ address: {} }}\nupstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}\n\
         routes: [ {{ path: /a, public: true }} ]\nstore: {{ file: records.db, key: {{ file: key-{digit} }} }}\ndrain: {{ delay: 0s, timeout: 1s }}\n",
        free(),
        free()
    );
    std::fs::write(folder.join(name), text).expect("a configuration");
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn refused(folder: &Path, name: &str) -> String {
    let mut running = Running(command(folder, &["run", "--config", name]).stderr(Stdio::piped()).spawn().expect("it runs"));
    let mut stderr = running.0.stderr.take().expect("a pipe");
    let began = Instant::now();
    let status = loop {
        match running.0.try_wait().expect("a process") {
            Some(status) => break status,
            None => assert!(began.elapsed() < Duration::from_secs(60), "it has started"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

struct Running(Child);

impl Running {
    fn start(folder: &Path, name: &str) -> Self {
        let mut running = Self(command(folder, &["run", "--config", name]).spawn().expect("it runs"));
        let began = Instant::now();
        while !command(folder, &["healthcheck", "--config", name]).stderr(Stdio::null()).status().expect("it runs").success() {
            assert_eq!(running.0.try_wait().expect("a process"), None, "it has ended");
            assert!(began.elapsed() < Duration::from_secs(60), "it is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    fn end(mut self) {
        let process = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("told to end");
        assert!(self.0.wait().expect("an end").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_gateway_has_its_records_as_long_as_it_runs() {
    let world = World::new();
    let folder = world.folder.path();
    configure(folder, "gateway.yaml", 'a');
    configure(folder, "second.yaml", 'a');
    let running = Running::start(folder, "gateway.yaml");

    let said = refused(folder, "second.yaml");

    assert!(said.contains("records.db is in use: another process has it open"), "{said}");
    running.end();
    assert!(!folder.join("records.db-wal").exists(), "what was written is in the file itself");
    Running::start(folder, "second.yaml").end();
}

#[tokio::test]
async fn a_gateway_does_not_start_without_the_key_of_its_records() {
    let world = World::new();
    let store = world.store().await;
    store.put_credential(&credential(1)).await.expect("kept");
    store.close().await.expect("closed");
    configure(world.folder.path(), "gateway.yaml", 'b');

    let said = refused(world.folder.path(), "gateway.yaml");

    assert!(said.contains("records.db needs the key ") && said.contains("add it to `old_keys`"), "{said}");
    assert!(!said.contains("bbbb"), "{said}");
}
