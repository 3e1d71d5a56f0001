//! The demo as a person starts it: the binary, its lines, its exit code.
#![expect(clippy::expect_used, reason = "helpers of tests fail loudly")]

#[path = "support/port.rs"]
mod port;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The binary, with a private folder of this test's own.
fn demo(folder: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
    command.args(arguments).env("XDG_RUNTIME_DIR", folder.path()).current_dir(folder.path());
    command
}

fn text(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("it runs");
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// A demo that stays up, ended when this is dropped.
struct Running {
    child: Child,
    lines: Vec<String>,
}

impl Running {
    fn start(folder: &tempfile::TempDir) -> Self {
        let mut child = demo(folder, &["demo", "--ports", "0,0,0"]).stdout(Stdio::piped()).spawn().expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            let last = line.contains(" of 10 ");
            lines.push(line);
            if last {
                break;
            }
        }
        Self { child, lines }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_step_goes_as_it_should() {
    let folder = tempfile::tempdir().expect("a folder");
    let (well, said) = text(&mut demo(&folder, &["demo", "--once", "--ports", "0,0,0"]));
    assert!(well, "{said}");
    for expected in [
        "ticket=",
        "claims token",
        "RPT: vacation [view], 5 min",
        "1 introspection",
        "0 calls",
        "insufficient_scope",
        "request_denied",
        "10 of 10 as they should be.",
    ] {
        assert!(said.contains(expected), "{expected} is missing in\n{said}");
    }
    assert_eq!(said.matches("48,213 bytes").count(), 2, "{said}");
    assert_eq!(std::fs::read_dir(folder.path().join("uma-gateway-demo")).map(Iterator::count).ok(), Some(0), "nothing stays behind");
}

#[test]
fn a_port_that_is_taken_is_replaced_and_that_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    for ports in [format!("{port},0,0"), format!("0,{port},0"), format!("0,0,{port}")] {
        let (well, said) = text(&mut demo(&folder, &["demo", "--once", "--ports", &ports]));
        assert!(well && said.contains(&format!("port {port} is taken")), "{said}");
    }
}

#[test]
fn a_refusal_of_the_running_demo_can_be_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    // The example of a configuration that lies in a fresh clone is not the demo's.
    std::fs::write(folder.path().join("gateway.yaml"), "version: 1\n").expect("written");
    let running = Running::start(&folder);
    let last = running.lines.last().expect("lines");
    let id = last.split("uma-gateway explain ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_else(|| panic!("no id in {last}"));
    let (well, said) = text(&mut demo(&folder, &["explain", id]));
    assert!(well && ["E8", "missing: edit", "gateway.yaml:"].iter().all(|part| said.contains(part)), "{said}");
}

/// An output that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn left(folder: &tempfile::TempDir) -> usize {
    std::fs::read_dir(folder.path().join("uma-gateway-demo")).map_or(usize::MAX, Iterator::count)
}

#[test]
fn a_demo_whose_output_nobody_reads_ends_quietly_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    for more in [None, Some("--once")] {
        let arguments: Vec<&str> = ["demo", "--ports", "0,0,0"].into_iter().chain(more).collect();
        let output = demo(&folder, &arguments).stdout(closed()).output().expect("it runs");
        assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""), "{more:?}");
        let code = demo(&folder, &arguments).stdout(closed()).stderr(closed()).status().expect("it runs").code();
        assert_eq!((code, left(&folder)), (Some(0), 0), "{more:?}");
    }
}

#[test]
fn a_demo_whose_terminal_goes_while_it_walks_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = demo(&folder, &["demo", "--ports", "0,0,0"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    output.read_line(&mut String::new()).expect("a line");
    assert_eq!(left(&folder), 1);
    let told = Command::new("kill").args(["-HUP", &child.id().to_string()]).status().expect("it runs");
    assert!(told.success() && child.wait().expect("it ends").success());
    assert_eq!(left(&folder), 0);
}

#[test]
fn a_second_demo_says_that_it_is_one_and_what_each_prints_asks_that_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (Running::start(&folder), Running::start(&folder));
    let gateway = |running: &Running| running.lines.first().and_then(|line| line.split_whitespace().nth(1)).expect("an address").to_owned();
    let addresses = (gateway(&first), gateway(&second));
    let note = format!("another demo runs, with its gateway at {}", addresses.0);
    assert_eq!([&first, &second].map(|running| running.lines.iter().any(|line| line.starts_with(&note))), [false, true]);
    for (running, address) in [(&first, &addresses.0), (&second, &addresses.1)] {
        let last = running.lines.last().expect("lines");
        let typed = |hint: &str| {
            let command = last.split(hint).nth(1).and_then(|rest| rest.split("    ").next()).expect("a command");
            text(&mut demo(&folder, &command.split(' ').skip(1).collect::<Vec<_>>()))
        };
        let (well, said) = typed("Repeat one: ");
        assert!(well && said.contains(address), "{said}");
        let (well, said) = typed("Why 7? ");
        assert!(well && said.contains("missing: edit"), "{said}");
    }
    drop(first);
    let (well, said) = text(&mut demo(&folder, &["demo", "--curl", "2"]));
    assert!(well && said.contains(&addresses.1), "{said}");
}

#[test]
fn without_a_running_demo_there_are_no_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    let (well, said) = text(&mut demo(&folder, &["demo", "--curl", "5"]));
    assert!(!well && said.contains("no demo is running"), "{said}");
}

#[test]
#[ignore = "needs sh and curl: .ci/run"]
fn the_printed_commands_repeat_their_steps() {
    let folder = tempfile::tempdir().expect("a folder");
    let _running = Running::start(&folder);
    let expected = [
        "/albums/vacation/beach.jpg",
        "401",
        "id_token",
        "access_token",
        "200 48213 bytes",
        "200 48213 bytes",
        "insufficient_scope",
        "request_denied",
        "401",
        "401",
    ];
    for (step, expected) in (1..).zip(expected) {
        let (well, commands) = text(&mut demo(&folder, &["demo", "--curl", &step.to_string()]));
        assert!(well, "{commands}");
        let (_, said) = text(Command::new("sh").arg("-c").arg(&commands));
        assert!(said.contains(expected), "step {step}: {said}\n{commands}");
    }
}

/// Answers every request with this content.
fn content_server() -> std::net::SocketAddr {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nthe beach\n");
        }
    });
    address
}

#[test]
fn the_first_configuration_that_readme_shows_serves_bob_beside_a_demo() {
    let folder = tempfile::tempdir().expect("a folder");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
    let section = readme.split("## A first configuration").nth(1).expect("the section");
    let block = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a configuration");
    let secrets = section.lines().find_map(|line| line.strip_prefix("export ")).expect("the secrets");
    let secrets: Vec<(&str, &str)> = secrets.split(' ').map(|secret| secret.split_once('=').expect("a name and a value")).collect();

    let running = Running::start(&folder);
    let server = running.lines.first().and_then(|line| line.split("authorization server :").nth(1)?.split(' ').next()).expect("a port");
    let gateway = port::free();
    let places = [("8180", format!("127.0.0.1:{server}")), ("8000", content_server().to_string()), ("8088", gateway.to_string())];
    let text = places.iter().fold(block.to_owned(), |text, (port, here)| {
        let shown = format!("127.0.0.1:{port}");
        assert!(text.contains(&shown), "{shown} is not in {text}");
        text.replace(&shown, here)
    });
    std::fs::write(folder.path().join("gateway.yaml"), text).expect("written");
    let child = demo(&folder, &["run"]).envs(secrets.iter().copied()).stdout(Stdio::null()).spawn().expect("it starts");
    let mut own = Running { child, lines: Vec::new() };
    while std::net::TcpStream::connect(gateway).is_err() {
        assert!(own.child.try_wait().is_ok_and(|ended| ended.is_none()), "it does not start");
        std::thread::yield_now();
    }
    let fetched = |user: &str| {
        let url = format!("http://{gateway}/vacation/notes.txt");
        let mut command = demo(&folder, &["fetch", &url, "--no-cache", "--client-id", "client-app", "--user", user]);
        let output = command.envs(secrets.iter().copied()).env("UMA_PASSWORD", user).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(fetched("bob"), (Some(0), "the beach\n".to_owned()));
    assert_eq!(fetched("carol").0, Some(1));
}
