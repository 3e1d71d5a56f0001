//! One question for the addresses behind a name, and how long the answer holds.
//!
//! The files that the system's own resolver reads are read for each question, as it does: the hosts file answers first, then the name servers of
//! resolv.conf, with its search list and `ndots`. DNS alone says how long an answer holds, so it is asked by a library; whatever cannot be asked this way
//! (there is no resolv.conf, the name is none of DNS's) is left to the system, which may know other sources. Nothing is remembered here.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, Resolver};
use tokio::net::lookup_host;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// No answer is used for a shorter time: a name with a time of 0 is not asked for with each request.
const LEAST: Duration = Duration::from_secs(1);
/// No answer is used for longer.
const MOST: Duration = Duration::from_secs(300);
/// How long an answer holds that says nothing of it: one of the hosts file, or of the system.
pub(super) const UNSAID: Duration = Duration::from_secs(30);
/// All name servers, names of the search list and attempts together.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the system's resolver looks.
#[derive(Clone, Copy)]
pub(super) struct Files {
    pub(super) resolv_conf: &'static str,
    pub(super) hosts: &'static str,
    /// Of the name servers.
    pub(super) port: u16,
}

/// Those of this machine.
pub(super) const SYSTEM: Files = Files { resolv_conf: "/etc/resolv.conf", hosts: "/etc/hosts", port: 53 };

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) holds: Duration,
}

/// Asks.
///
/// # Errors
/// When nobody knows the name, or no name server answers.
pub(super) async fn ask(files: Files, host: &str) -> io::Result<Answer> {
    // A name that DNS cannot have may be one that another source of the system knows.
    let Ok(name) = Name::from_ascii(host) else { return system(host).await };
    let (hosts, servers) = spawn_blocking(move || (read_hosts(files.hosts), read_servers(&files))).await.map_err(io::Error::other)?;
    if let Some(addresses) = hosts.and_then(|hosts| listed(&hosts, &name)) {
        return Ok(Answer { addresses, holds: UNSAID });
    }
    let Some((config, options)) = servers else { return system(host).await };
    match timeout(PATIENCE, dns(config, options, name)).await {
        Ok(Ok(answer)) if !answer.addresses.is_empty() => Ok(answer),
        // The system would ask the same servers, and wait as long.
        Ok(Err(NetError::Timeout)) | Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no name server answers")),
        Ok(Ok(_) | Err(_)) => system(host).await,
    }
}

async fn dns(config: ResolverConfig, options: ResolverOpts, name: Name) -> Result<Answer, NetError> {
    let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()?;
    let found = resolver.lookup_ip(name).await?;
    let holds = found.valid_until().saturating_duration_since(Instant::now());
    // It is counted in whole seconds, and some of the first has passed.
    let holds = Duration::from_secs(holds.as_secs().saturating_add(u64::from(holds.subsec_nanos() > 0)));
    Ok(Answer { addresses: found.iter().collect(), holds: holds.clamp(LEAST, MOST) })
}

async fn system(host: &str) -> io::Result<Answer> {
    let mut addresses: Vec<IpAddr> = lookup_host((host, 0)).await?.map(|address| address.ip()).collect();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(Answer { addresses, holds: UNSAID })
}

fn read_hosts(path: impl AsRef<Path>) -> Option<Hosts> {
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf(std::fs::File::open(path).ok()?).ok()?;
    Some(hosts)
}

fn listed(hosts: &Hosts, name: &Name) -> Option<Vec<IpAddr>> {
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(of);
    let addresses: Vec<IpAddr> = found.flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()).collect();
    (!addresses.is_empty()).then_some(addresses)
}

/// `None`: there is no file, or it names no server that can be asked.
fn read_servers(files: &Files) -> Option<(ResolverConfig, ResolverOpts)> {
    let (read, _) = resolv_conf::Config::parse_with_errors(&std::fs::read(files.resolv_conf).ok()?);
    let mut servers: Vec<NameServerConfig> = read.nameservers.iter().map(|address| NameServerConfig::udp_and_tcp(address.into())).collect();
    for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
        connection.port = files.port;
    }
    if servers.is_empty() {
        return None;
    }
    let search = read.get_last_search_or_domain().filter_map(|domain| Name::from_str_relaxed(domain).ok()).collect();
    let mut options = ResolverOpts::default();
    options.ndots = usize::try_from(read.ndots).unwrap_or(1);
    options.timeout = Duration::from_secs(u64::from(read.timeout).max(1));
    options.attempts = usize::try_from(read.attempts).unwrap_or(1);
    options.edns0 = read.edns0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.server_ordering_strategy = if read.rotate { ServerOrderingStrategy::RoundRobin } else { ServerOrderingStrategy::UserProvidedOrder };
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    Some((ResolverConfig::from_parts(None, search, servers), options))
}
