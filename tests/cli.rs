//! What a person meets at the terminal: help that tells exit codes, rows that can be looked up, hints that can be typed as they stand.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at the first surprise")]

#[path = "support/port.rs"]
mod port;

use std::process::{Command, Output, Stdio};

use uma_gateway::response::Row;

use port::free;

fn command(folder: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
    command.args(arguments).current_dir(folder).env("XDG_RUNTIME_DIR", folder).env("COLUMNS", "200").env_remove("UMA_GATEWAY_CONFIG");
    command
}

fn gateway(folder: &std::path::Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().expect("it runs")
}

/// An output that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_command_that_can_fail_lists_its_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["run", "check", "explain", "reload", "healthcheck", "demo", "fetch"] {
        let help = said(&gateway(folder.path(), &[command, "--help"]));
        assert!(help.contains("Exit codes: 0 ") && help.contains(" 1 ") && help.contains(" 2 "), "{command}: {help}");
        assert_eq!(help.contains(" 3 "), command == "fetch", "{command}: {help}");
    }
    assert!(said(&gateway(folder.path(), &["--help"])).contains("78 a wrong configuration"));
}

#[test]
fn rows_are_explained_without_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let all = said(&gateway(folder.path(), &["explain", "--rows"]));
    assert_eq!(all.lines().count(), Row::ALL.len());
    for row in Row::ALL {
        let one = gateway(folder.path(), &["explain", row.label()]);
        assert!(one.status.success() && said(&one).contains(row.meaning().trim()) && all.contains(&said(&one)), "{row:?}");
    }
    assert_eq!(gateway(folder.path(), &["explain"]).status.code(), Some(2));
}

#[test]
fn the_hint_of_explain_names_the_configuration_that_was_used() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let text = "version: 1\nlisteners: [ { address: 127.0.0.1:8080 } ]\nauthorization_servers: { id: { issuer: http://127.0.0.1:1, client: { id: gw, secret: { env: GW } } } }\n\
                upstreams: { content: { servers: [ http://127.0.0.1:1 ] } }\n\
                routes: [ { path: /a, protect: { resource: { name: a, owner: alice }, scopes: { GET: [view] } } } ]\n";
    std::fs::write(folder.path().join("other name.yaml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
    let output = command.args(["explain", "GET", "/a", "--config", "other name.yaml"]).current_dir(folder.path()).env("GW", "x").output().expect("it runs");
    assert!(said(&output).contains("uma-gateway check --online --config 'other name.yaml'"), "{output:?}");
}

#[cfg(feature = "store")]
#[test]
fn what_hangs_on_records_that_are_not_read_is_not_said_to_be_closed() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nlisteners: [ { address: 127.0.0.1:8080 } ]\nauthorization_servers: { id: { issuer: http://127.0.0.1:1, client: { id: gw, secret: { env: GW } } } }\n\
                upstreams: { content: { servers: [ http://127.0.0.1:1 ] } }\nstore: { file: records.db, key: { env: KEY } }\n\
                shares: { address: 127.0.0.1:9092, scope: share, public_url: \"https://photos.example.org\" }\n\
                routes: [ { path: \"/users/{user}/**\", protect: { resource: { shared: true, owner: \"{user}\" }, scopes: { GET: [view] } } } ]\n";
    std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
    for (url, next) in [
        ("http://photos.example.org/users/alice/x", "404 (D10) if nobody has shared this path; else who may is asked as for any resource"),
        ("http://photos.example.org/s/AAAAAAAAAAAAAAAAAAAAAA", "404 (D10) if no share has this link; else it stands for the path of the share"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        command.args(["explain", "GET", url, "--config", "gateway.yaml"]).current_dir(folder.path()).env("GW", "x").env("KEY", "0123456789abcdef".repeat(4));
        let output = command.output().expect("it runs");
        let text = said(&output);
        assert!(text.starts_with("depends    on what owners have shared, which is not looked at here"), "{output:?}");
        assert!(text.contains(next) && !text.contains("→ 404"), "{output:?}");
    }
    assert!(!folder.path().join("records.db").exists(), "nothing is opened for it");
}

/// A configuration whose authorization server nobody is, with these listeners.
fn configuration(listeners: &str) -> String {
    format!(
        "version: 1\nlisteners: [ {listeners} ]\nauthorization_servers: {{ id: {{ issuer: http://127.0.0.1:1, client: {{ id: gw, secret: {{ env: HOME }} }} }} }}\n\
         upstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}\n\
         routes: [ {{ path: /a, public: true }} ]\n"
    )
}

#[test]
fn a_host_that_no_listener_serves_is_explained_as_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let text = configuration("{ address: 127.0.0.1:8080, hosts: [photos.example.org] }, { address: 127.0.0.1:8081, hosts: [\"*.example.net\"] }");
    std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
    let explained = |url: &str| said(&gateway(folder.path(), &["explain", "GET", url]));
    let text = explained("http://elsewhere.example.org/a");
    for part in [" D2 ", "→ 421", "host       elsewhere.example.org", "next       name the host in a listener's `hosts`"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    // Where no host is named none is missing.
    for served in ["http://photos.example.org/a", "https://www.example.net:8443/a", "/a"] {
        assert!(explained(served).contains(" D6 "), "{served}: {}", explained(served));
    }
}

#[test]
fn a_command_whose_output_nobody_reads_ends_quietly_with_its_own_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), configuration("{ address: 127.0.0.1:8080 }")).unwrap();
    std::fs::write(folder.path().join("wrong.yaml"), "version: 2\n").unwrap();
    for (arguments, code) in [
        (&["schema"][..], 0),
        (&["version"], 0),
        (&["--help"], 0),
        (&["explain", "--rows"], 0),
        (&["explain", "E8"], 0),
        (&["explain", "GET", "/a"], 0),
        (&["explain", "XY"], 2),
        (&["check"], 0),
        (&["check", "--config", "wrong.yaml"], 78),
        (&["check", "--config", "wrong.yaml", "--format", "json"], 78),
        (&["healthcheck"], 78),
        (&["reload"], 78),
        (&["run", "--config", "wrong.yaml"], 78),
        (&["fetch", "ftp://127.0.0.1/"], 2),
    ] {
        let mut command = command(folder.path(), arguments);
        let output = command.stdout(closed()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert_eq!(output.stderr.is_empty(), code == 0 || arguments.contains(&"json"), "{arguments:?}: {output:?}");
        assert_eq!(command.stderr(closed()).status().unwrap().code(), Some(code), "{arguments:?}");
    }
}

/// Answers one request with this.
fn answering(answer: &'static str) -> std::net::SocketAddr {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(answer.as_bytes()).unwrap();
    });
    address
}

#[test]
fn a_redirect_is_no_content_and_where_it_points_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let fetched = |answer: &'static str| gateway(folder.path(), &["fetch", "--no-cache", &format!("http://{}/x", answering(answer))]);
    let output = fetched("HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example.org/login?state=se-cret\r\nContent-Length: 0\r\n\r\n");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text.contains("302 Found, to https://elsewhere.example.org/login?…: no redirect is followed") && !text.contains("se-cret"), "{text}");
    let output = fetched("HTTP/1.1 300 Multiple Choices\r\nContent-Length: 6\r\n\r\nthese\n");
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(1), "these\n"), "{output:?}");
    let address = answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nthese\n");
    let output = command(folder.path(), &["fetch", "--no-cache", &format!("http://{address}/x")]).stdout(closed()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(0), true), "nobody reads it: {output:?}");
}

#[test]
fn a_health_check_says_why_it_is_not_ready() {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::fs::write(
        folder.path().join("gateway.yaml"),
        format!(
            "version: 1\nlisteners: [ {{ address: 127.0.0.1:8080 }} ]\nhealth: {{ address: {address} }}\nupstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}\n\
             routes: [ {{ path: /a, public: true }} ]\n"
        ),
    )
    .unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let size = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 20\r\n\r\nauthorization server").unwrap();
        String::from_utf8_lossy(&head[..size]).into_owned()
    });
    let output = gateway(folder.path(), &["healthcheck"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not ready: 503 Service Unavailable\nauthorization server"), "{output:?}");
    assert!(asked.join().unwrap().starts_with("GET /readyz?verbose "));
}

/// A gateway in a process of its own, with a health address and an operator's socket.
struct Running {
    process: std::process::Child,
    folder: tempfile::TempDir,
    address: std::net::SocketAddr,
    text: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    fn start() -> Self {
        let (folder, address, health) = (tempfile::tempdir().unwrap(), free(), free());
        let text = format!(
            "version: 1\nlisteners: [ {{ address: {address} }} ]\nhealth: {{ address: {health} }}\nadmin: {{ socket: admin.sock }}\n\
             upstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}\nroutes:\n  - {{ path: /a, public: true }}\n"
        );
        std::fs::write(folder.path().join("gateway.yaml"), &text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        command.args(["run", "--config", "gateway.yaml"]).current_dir(folder.path()).stdout(std::process::Stdio::null());
        let running = Self { process: command.spawn().expect("it runs"), folder, address, text };
        let began = std::time::Instant::now();
        while gateway(running.folder.path(), &["healthcheck"]).status.code() != Some(0) {
            assert!(began.elapsed().as_secs() < 60, "it is not ready");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        running
    }

    /// The id of a request.
    fn ask(&self) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.write_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let id = answer.lines().find_map(|line| line.to_lowercase().strip_prefix("x-request-id: ").map(str::to_owned));
        id.expect("an id")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("gateway.yaml"), text).unwrap();
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_gateway_that_runs_is_asked_though_its_file_has_mistakes_elsewhere() {
    let running = Running::start();
    let (id, folder) = (running.ask(), running.folder.path());
    for (mistake, place) in [
        (running.text.replace("routes:", "rutes:"), "gateway.yaml:6:1: unknown key `rutes`"),
        (running.text.replace("public: true }", "public: true"), "gateway.yaml:"),
    ] {
        running.write(&mistake);
        let health = gateway(folder, &["healthcheck"]);
        assert_eq!(health.status.code(), Some(0), "{health:?}");
        let explained = gateway(folder, &["explain", &id]);
        assert!(explained.status.success() && said(&explained).contains("/nowhere"), "{explained:?}");
        for arguments in [&["reload"][..], &["reload", "--admin", "admin.sock"]] {
            let refused = gateway(folder, arguments);
            assert_eq!(refused.status.code(), Some(78), "{refused:?}");
            assert!(errors(&refused).contains(place), "{refused:?}");
        }
    }
    running.write(&running.text);
    let taken = gateway(folder, &["reload"]);
    assert_eq!((taken.status.code(), said(&taken).contains("restart")), (Some(0), false), "{taken:?}");
    // What only a restart changes is said each time, until it is taken back.
    running.write(&running.text.replace("version: 1\n", "version: 1\nworkers: 7\n"));
    for _ in 0..2 {
        let taken = gateway(folder, &["reload"]);
        assert_eq!(taken.status.code(), Some(0), "{taken:?}");
        assert!(said(&taken).contains("`workers` has changed and needs a restart") && !said(&taken).contains("`log`"), "{taken:?}");
    }
    running.write(&running.text);
    assert!(!said(&gateway(folder, &["reload"])).contains("restart"));
}

#[test]
fn an_address_that_is_taken_is_told_with_its_place_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, other) = (held.local_addr().unwrap(), free());
    let start = |listener: std::net::SocketAddr, health: std::net::SocketAddr| {
        let text = format!(
            "version: 1\nlisteners:\n  - address: {listener}\nhealth: {{ address: {health} }}\nupstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}\n\
             routes: [ {{ path: /a, public: true }} ]\n"
        );
        std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
        gateway(folder.path(), &["run"])
    };
    let output = start(taken, other);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains(&format!("error: gateway.yaml:3:14: {taken} is taken by another program")), "{output:?}");
    let output = start(other, taken);
    assert!(errors(&output).contains(&format!("error: gateway.yaml:4:20: the health address {taken} cannot be had: Address already in use")), "{output:?}");
}

#[test]
fn a_socket_that_was_handed_over_at_another_address_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let handed = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = handed.local_addr().unwrap().port();
    let text = format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:{port}\nupstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}\nroutes: [ {{ path: /a, public: true }} ]\n"
    );
    std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
    // As systemd does it: the first socket is file descriptor 3, and LISTEN_PID is the process itself.
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", "sh", env!("CARGO_BIN_EXE_uma-gateway"), "run"]);
    let output = command.current_dir(folder.path()).stdin(std::os::fd::OwnedFd::from(handed)).output().expect("it runs");
    let said = errors(&output);
    assert!(
        said.contains(&format!("gateway.yaml:3:14: 127.0.0.1:{port} cannot be had: the service manager has handed over a socket at 0.0.0.0:{port}")),
        "{said}"
    );
    assert!(said.contains(&format!("`address: 0.0.0.0:{port}`")) && said.contains(&format!("`ListenStream=127.0.0.1:{port}`")), "{said}");
}

#[test]
fn a_row_that_does_not_exist_and_a_method_without_an_address_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let unknown = gateway(folder.path(), &["explain", "XX"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(errors(&unknown).contains("`XX` is neither the id of a request nor a row") && errors(&unknown).contains(" E8 E8a "), "{unknown:?}");
    assert!(said(&gateway(folder.path(), &["explain", "e8"])).starts_with("E8 "));
    let method = gateway(folder.path(), &["explain", "get"]);
    assert!(method.status.code() == Some(2) && errors(&method).contains("the address is missing: uma-gateway explain GET http://HOST/PATH"), "{method:?}");
}
