//! Tests of names, with a name server of their own that speaks DNS over UDP.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::ask::{Answer, UNSAID};
use super::*;

/// A name server on this machine.
struct NameServer {
    port: u16,
    /// Addresses and the seconds that they hold; whatever is not here does not exist.
    zone: RefCell<HashMap<String, (Vec<Ipv4Addr>, u32)>>,
    /// It knows nothing and says so (SERVFAIL).
    broken: RefCell<bool>,
    /// What it was asked, of type A.
    asked: RefCell<Vec<String>>,
    folder: TempDir,
}

impl NameServer {
    async fn start() -> Rc<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let server =
            Rc::new(Self { port, zone: RefCell::default(), broken: RefCell::default(), asked: RefCell::default(), folder: tempfile::tempdir().unwrap() });
        let serving = Rc::clone(&server);
        spawn_local(async move {
            let mut datagram = [0; 1500];
            loop {
                let (size, client) = socket.recv_from(&mut datagram).await.unwrap();
                let answer = serving.answer(&Message::from_vec(&datagram[..size]).unwrap());
                socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
            }
        });
        server
    }

    fn answer(&self, question: &Message) -> Message {
        let query = question.queries[0].clone();
        let name = query.name().to_ascii().to_ascii_lowercase();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_available = true;
        if *self.broken.borrow() {
            answer.metadata.response_code = ResponseCode::ServFail;
        } else if let Some((addresses, ttl)) = self.zone.borrow().get(&name) {
            let records = addresses.iter().map(|ip| Record::from_rdata(query.name().clone(), *ttl, RData::A(A(*ip))));
            answer.add_answers(records.filter(|_| query.query_type() == RecordType::A));
        } else {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        if query.query_type() == RecordType::A {
            self.asked.borrow_mut().push(name);
        }
        answer.add_query(query);
        answer
    }

    fn says(&self, name: &str, addresses: &[[u8; 4]], ttl: u32) {
        self.zone.borrow_mut().insert(name.to_owned(), (addresses.iter().map(|ip| Ipv4Addr::from(*ip)).collect(), ttl));
    }

    /// Files that lead to it.
    fn files(&self, resolv_conf: &str, hosts: &str) -> Files {
        let file = |text: &str| {
            // It is read for each question, until the test ends.
            let path = tempfile::NamedTempFile::new_in(&self.folder).unwrap().into_temp_path().keep().unwrap();
            std::fs::write(&path, text).unwrap();
            &*Box::leak(path.to_str().unwrap().to_owned().into_boxed_str())
        };
        Files { resolv_conf: file(&format!("nameserver 127.0.0.1\n{resolv_conf}\n")), hosts: file(hosts), port: self.port }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.take()
    }
}

async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// Lets time pass for what is known, while the name server answers in real time.
async fn after(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

async fn holds(server: &NameServer, ttl: u32) -> Duration {
    server.says("content.example.org.", &[[192, 0, 2, 1]], ttl);
    ask(server.files("", ""), "content.example.org").await.unwrap().holds
}

#[tokio::test]
async fn an_address_is_its_own_answer() {
    for text in ["127.0.0.1:81", "[::1]:81"] {
        let name = Name::new(&text.parse().unwrap());
        assert_eq!(name.addresses().await.unwrap(), [text.parse::<SocketAddr>().unwrap()]);
        assert!(!name.includes(&"127.0.0.2:81".parse().unwrap()));
    }
}

#[tokio::test]
async fn several_addresses_take_turns() {
    let name = Name::new(&"servers.example.org:81".parse().unwrap());
    let both: [SocketAddr; 2] = ["192.0.2.1:81".parse().unwrap(), "192.0.2.2:81".parse().unwrap()];
    *name.known() = Some(Known { addresses: Arc::from(both), until: Instant::now() + UNSAID });
    let (first, second) = (name.addresses().await.unwrap(), name.addresses().await.unwrap());
    assert_eq!((first[0], second[0]), (both[0], both[1]));
}

#[tokio::test]
async fn an_answer_is_used_as_long_as_it_holds_and_until_a_new_one_comes() {
    local(async {
        let server = NameServer::start().await;
        server.says("content.example.org.", &[[192, 0, 2, 1], [192, 0, 2, 2]], 60);
        let name = Name::told_by(&"content.example.org:81".parse().unwrap(), server.files("", ""));
        let (old, new): (SocketAddr, SocketAddr) = ("192.0.2.2:81".parse().unwrap(), "192.0.2.9:81".parse().unwrap());
        assert!(name.includes(&old), "nothing is known yet");
        assert_eq!(name.addresses().await.unwrap().len(), 2);
        server.says("content.example.org.", &[[192, 0, 2, 9]], 1);
        server.asked();
        after(58).await;
        assert!(name.includes(&old) && !name.includes(&new));
        after(2).await;
        while name.includes(&old) {
            yield_now().await;
        }
        assert_eq!(name.addresses().await.unwrap(), [new]);
        assert_eq!(server.asked(), ["content.example.org."], "one question, and only when it was time");
    })
    .await;
}

#[tokio::test]
async fn without_an_answer_the_last_addresses_stay() {
    local(async {
        let server = NameServer::start().await;
        server.says("content.example.org.", &[[192, 0, 2, 1]], 1);
        let name = Name::told_by(&"content.example.org:81".parse().unwrap(), server.files("options attempts:1", ""));
        let known = name.addresses().await.unwrap();
        *server.broken.borrow_mut() = true;
        server.asked();
        after(2).await;
        while server.asked.borrow().is_empty() || name.asking.load(Ordering::Relaxed) {
            assert!(name.includes(&known[0]));
            yield_now().await;
        }
        assert_eq!(name.addresses().await.unwrap(), known);
        *server.broken.borrow_mut() = false;
        server.says("content.example.org.", &[[192, 0, 2, 2]], 1);
        after(6).await;
        while name.includes(&known[0]) {
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn how_long_an_answer_holds_has_bounds() {
    local(async {
        let server = NameServer::start().await;
        for (said, used) in [(0, 1), (1, 1), (5, 5), (300, 300), (86_400, 300)] {
            assert_eq!(holds(&server, said).await, Duration::from_secs(used), "{said}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_search_list_and_ndots_count_as_in_a_pod() {
    const POD: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5";
    local(async {
        let server = NameServer::start().await;
        server.says("content.shop.svc.cluster.local.", &[[10, 0, 0, 1]], 5);
        server.says("content.example.org.", &[[192, 0, 2, 1]], 5);
        let table: [(&str, [u8; 4], &[&str]); 5] = [
            ("content", [10, 0, 0, 1], &["content.shop.svc.cluster.local."]),
            ("content.shop", [10, 0, 0, 1], &["content.shop.shop.svc.cluster.local.", "content.shop.svc.cluster.local."]),
            (
                "content.example.org",
                [192, 0, 2, 1],
                &[
                    "content.example.org.shop.svc.cluster.local.",
                    "content.example.org.svc.cluster.local.",
                    "content.example.org.cluster.local.",
                    "content.example.org.",
                ],
            ),
            ("content.example.org.", [192, 0, 2, 1], &["content.example.org."]),
            (
                "content.shop.svc.cluster.local",
                [10, 0, 0, 1],
                &[
                    "content.shop.svc.cluster.local.shop.svc.cluster.local.",
                    "content.shop.svc.cluster.local.svc.cluster.local.",
                    "content.shop.svc.cluster.local.cluster.local.",
                    "content.shop.svc.cluster.local.",
                ],
            ),
        ];
        for (host, address, questions) in table {
            let answer = ask(server.files(POD, ""), host).await.unwrap();
            assert_eq!(answer, Answer { addresses: vec![address.into()], holds: Duration::from_secs(5) }, "{host}");
            assert_eq!(server.asked(), questions, "{host}");
        }
        // Elsewhere a name with a dot is asked for as it is.
        ask(server.files("search example.org", ""), "content.example.org").await.unwrap();
        assert_eq!(server.asked(), ["content.example.org."]);
    })
    .await;
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_is_read_each_time() {
    local(async {
        let server = NameServer::start().await;
        server.says("content.example.org.", &[[192, 0, 2, 1]], 5);
        let files = server.files("", "192.0.2.7 content.example.org content\n2001:db8::7 content\n");
        let answer = ask(files, "content").await.unwrap();
        assert_eq!(answer, Answer { addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()], holds: UNSAID });
        assert!(server.asked().is_empty());
        std::fs::write(files.hosts, "").unwrap();
        assert_eq!(ask(files, "content.example.org").await.unwrap().addresses, [IpAddr::from([192, 0, 2, 1])]);
    })
    .await;
}

#[tokio::test]
async fn what_dns_does_not_know_and_a_machine_without_its_file_are_the_systems() {
    local(async {
        let server = NameServer::start().await;
        let there = server.files("", "");
        let nothing = Files { resolv_conf: "/nowhere/resolv.conf", hosts: "/nowhere/hosts", ..there };
        for files in [nothing, there] {
            let answer = ask(files, "localhost").await.unwrap();
            assert!(answer.addresses.iter().all(IpAddr::is_loopback), "{answer:?}");
        }
        // The system knows another way to write an address, which is a name that DNS might have.
        let answer = ask(there, "127.1").await.unwrap();
        assert_eq!((answer.addresses, answer.holds), (vec!["127.0.0.1".parse().unwrap()], UNSAID));
        assert_eq!(server.asked(), ["127.1."]);
        // Nobody knows a name that is too long.
        assert!(ask(there, &"x".repeat(64)).await.is_err());
    })
    .await;
}
