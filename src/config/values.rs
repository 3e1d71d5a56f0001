//! Readers of single values: durations, sizes, rates, addresses, networks, URLs, hosts, words.
//!
//! A reader takes a node and gives the value, or reports where it stands, what is wrong and what to write instead.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;

use super::checker::Checker;
use super::problem::{Problem, shown};
use super::suggest::nearest;
use super::tree::{Node, Value};

mod time;

/// Why a scalar is refused, and what to write instead.
pub(super) struct Wrong {
    label: String,
    instead: Option<String>,
}

impl Wrong {
    /// With the words beside the underline.
    pub(super) fn because(label: impl Into<String>) -> Self {
        Self { label: label.into(), instead: None }
    }

    /// With the text to write instead.
    pub(super) fn write(mut self, instead: impl Into<String>) -> Self {
        self.instead = Some(instead.into());
        self
    }
}

/// A scalar as written. A section or list is reported: `wanted` says what belongs there ("a duration").
pub(super) fn scalar<'t>(node: &'t Node, checker: &mut Checker<'_>, wanted: &str) -> Option<&'t str> {
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() && !text.is_empty() => Some(text),
        Value::Scalar { .. } => {
            checker.error(Problem::at(node.span, "nothing stands here").label(format!("{wanted} is wanted")));
            None
        }
        Value::Map(entries) if entries.len() == 1 && entries.iter().all(|entry| entry.value.is_null()) => {
            let name = entries.first().map_or("", |entry| entry.key.as_str());
            let problem = Problem::at(node.span, "{ … } without quotes is a section of its own").label("put the text in quotes");
            checker.error(problem.write(format!("\"{{{}}}\"", shown(name))));
            None
        }
        Value::Map(_) | Value::List(_) => {
            let problem = Problem::at(node.span, format!("{wanted} is wanted, and here stands {}", node.kind()));
            let list = matches!(node.value, Value::List(_));
            checker.error(if list { problem.label("a text that begins with [ needs quotes") } else { problem });
            None
        }
    }
}

/// A scalar that `parse` understands.
pub(super) fn parsed<T>(node: &Node, checker: &mut Checker<'_>, wanted: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
    let text = scalar(node, checker, wanted)?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(wrong) => {
            let problem = Problem::at(node.span, format!("`{}` is not {wanted}", shown(text))).label(wrong.label);
            checker.error(match wrong.instead {
                Some(instead) => problem.write(instead),
                None => problem,
            });
            None
        }
    }
}

/// Any text without control characters. `true`, `false` and nothing need quotes to be one; a number is the text that it was written as.
pub(super) fn text(node: &Node, checker: &mut Checker<'_>) -> Option<Arc<str>> {
    let plain = matches!(&node.value, Value::Scalar { plain: true, .. });
    parsed(node, checker, "a text", |text| match text {
        "true" | "false" if plain => Err(Wrong::because("quotes make it a text").write(format!("\"{text}\""))),
        _ if text.chars().any(char::is_control) => Err(Wrong::because("it holds a control character, such as the end of a line")),
        _ => Ok(Arc::from(text)),
    })
}

/// `true` or `false`, as they are, without quotes.
pub(super) fn boolean(node: &Node, checker: &mut Checker<'_>) -> Option<bool> {
    let plain = matches!(&node.value, Value::Scalar { plain: true, .. });
    parsed(node, checker, "true or false", |text| match text {
        "true" | "false" if !plain => Err(Wrong::because("without quotes").write(text)),
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "y" | "1" => Wrong::because("only true and false are booleans").write("true"),
            "no" | "off" | "false" | "n" | "0" => Wrong::because("only true and false are booleans").write("false"),
            _ => Wrong::because("write true or false"),
        }),
    })
}

/// `true`; `false` is reported, for the key has no effect then.
pub(super) fn only_true(node: &Node, checker: &mut Checker<'_>) -> Option<()> {
    if boolean(node, checker)? {
        return Some(());
    }
    checker.error(Problem::at(node.span, "this is `true` or left out").label("leave the key out"));
    None
}

/// A whole number between `least` and `most`.
pub(super) fn number(node: &Node, checker: &mut Checker<'_>, least: u64, most: u64) -> Option<u64> {
    let plain = matches!(&node.value, Value::Scalar { plain: true, .. });
    parsed(node, checker, &format!("a whole number from {least} to {most}"), |text| match text.parse::<u64>() {
        Ok(number) if number < least => Err(Wrong::because(format!("the least is {least}"))),
        Ok(number) if number > most => Err(Wrong::because(format!("the most is {most}"))),
        Ok(number) if number.to_string() != text => Err(Wrong::because("without a zero or a sign in front").write(number.to_string())),
        Ok(_) if !plain => Err(Wrong::because("without quotes").write(text)),
        Ok(number) => Ok(number),
        Err(_) => Err(Wrong::because("digits alone, without a sign, a point or a unit")),
    })
}

/// One of these words, each with what it means.
pub(super) fn word<T: Copy>(node: &Node, checker: &mut Checker<'_>, words: &[(&'static str, T)]) -> Option<T> {
    let names = || words.iter().map(|(word, _)| *word);
    let wanted = match words {
        [(only, _)] => format!("`{only}`"),
        _ => format!("one of {}", names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    parsed(node, checker, &wanted, |text| {
        // `TLS1.2` and `warning` hold the word that is meant, `http2` spells out its letter.
        let near = || {
            let folded = text.to_ascii_lowercase();
            let within = || names().find(|name| name.len() > 2 && folded.contains(name));
            let off = || names().find(|name| *name == "off" && matches!(&*folded, "no" | "none" | "false" | "never" | "n" | "0"));
            off().or_else(|| nearest(text, names())).or_else(within).or_else(|| nearest(&folded.replace("http", "h").replace('/', ""), names()))
        };
        words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| match near() {
            Some(near) => Wrong::because(format!("did you mean `{near}`?")),
            None => Wrong::because("these are all there are"),
        })
    })
}

/// A number and a unit, such as `500ms`, `30s`, `5m`, `1h`, `180d`, between `least` and `most`.
pub(super) fn duration(node: &Node, checker: &mut Checker<'_>, least: Duration, most: Duration) -> Option<Duration> {
    parsed(node, checker, "a duration", |text| {
        // Where zero is too short, a unit would not help.
        let zero = (text == "0" && !least.is_zero()).then_some(Duration::ZERO);
        let duration = zero.or_else(|| time::exact(text)).ok_or_else(|| time::wrong(text))?;
        time::between(duration, least, most)
    })
}

/// A duration up to `most`, or `0`.
pub(super) fn duration_or_zero(node: &Node, checker: &mut Checker<'_>, most: Duration) -> Option<Duration> {
    match &node.value {
        Value::Scalar { text, plain: true } if text == "0" => Some(Duration::ZERO),
        Value::Scalar { text, .. } if matches!(&*text.to_ascii_lowercase(), "never" | "none" | "off" | "infinite" | "unlimited" | "forever") => {
            parsed(node, checker, "a duration", |_| Err(Wrong::because("never is 0").write("0")))
        }
        _ => duration(node, checker, Duration::ZERO, most),
    }
}

/// A number of bytes, such as `512KiB`, `10MiB`, `1GiB`.
pub(super) fn size(node: &Node, checker: &mut Checker<'_>) -> Option<u64> {
    parsed(node, checker, "a size", |text| {
        let (digits, unit) = split_unit(text);
        let factor: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(Wrong::because("a whole number and one of B, KiB, MiB, GiB").write(size_meant(digits, unit))),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        bytes.ok_or_else(|| Wrong::because("a whole number and one of B, KiB, MiB, GiB").write("10MiB"))
    })
}

/// A number per second, such as `20/s`.
pub(super) fn rate(node: &Node, checker: &mut Checker<'_>) -> Option<u32> {
    parsed(node, checker, "a rate", |text| {
        let digits = text.strip_suffix("/s").unwrap_or_default();
        let number = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())).and_then(|digits| digits.parse::<u32>().ok());
        let wrong = || Wrong::because("a whole number per second, from 1").write(format!("{}/s", rate_meant(text)));
        number.filter(|number| (1..=1_000_000).contains(number)).ok_or_else(wrong)
    })
}

/// A percentage from `0%` to `90%`.
pub(super) fn percent(node: &Node, checker: &mut Checker<'_>) -> Option<u8> {
    parsed(node, checker, "a percentage", |text| {
        let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u8>().ok()).filter(|number| *number <= 90).ok_or_else(|| match text.parse::<u8>() {
            Ok(number) if number <= 90 => Wrong::because("the sign is missing").write(format!("{number}%")),
            _ => Wrong::because("a whole number from 0 to 90, and the sign").write("20%"),
        })
    })
}

/// An address and a port.
pub(super) fn address(node: &Node, checker: &mut Checker<'_>) -> Option<SocketAddr> {
    parsed(node, checker, "an address and a port", |text| text.parse().map_err(|_| wrong_address(text)))
}

fn wrong_address(text: &str) -> Wrong {
    const EVERY: &str = "0.0.0.0 is every address of this machine";
    if let Some((ip, port)) = bracketed(text) {
        // In quotes, since a bracket begins a list of YAML.
        return brackets(text, true).write(format!("\"{}\"", SocketAddr::new(ip.into(), port.unwrap_or(8080))));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    match (host.parse::<IpAddr>(), port.parse::<u16>()) {
        (Ok(ip), _) if port.is_empty() => Wrong::because("the port is missing").write(SocketAddr::new(ip, 8080).to_string()),
        (Ok(_), _) => Wrong::because("the port is a number up to 65535"),
        _ if text.parse::<u16>().is_ok() => Wrong::because(format!("the address is missing; {EVERY}")).write(format!("0.0.0.0:{text}")),
        (_, Ok(port)) if host == "localhost" => Wrong::because("an address, not a name").write(format!("127.0.0.1:{port}")),
        (_, Ok(port)) => Wrong::because(format!("an address, not a name; {EVERY}")).write(format!("0.0.0.0:{port}")),
        _ => Wrong::because("an IP address and a port").write("127.0.0.1:8080"),
    }
}

/// The IPv6 address that is meant, and the port, where brackets are missing or not closed: `[::1`, `[::1:8080`, `::1:8080`, `[::1]8080`.
pub(super) fn bracketed(text: &str) -> Option<(Ipv6Addr, Option<u16>)> {
    let rest = text.strip_prefix('[').unwrap_or(text);
    if let Some((ip, port)) = rest.split_once(']') {
        return Some((ip.parse().ok()?, port.trim_start_matches(':').parse().ok()));
    }
    // A port has more digits than the last group of most addresses.
    let split = rest.rsplit_once(':').and_then(|(ip, port)| Some((ip.parse().ok()?, port.parse().ok().filter(|port| *port >= 80)?)));
    split.map(|(ip, port)| (ip, Some(port))).or_else(|| Some((rest.parse().ok()?, None)))
}

/// What is wrong with the brackets of such an address.
fn brackets(text: &str, wants_port: bool) -> Wrong {
    Wrong::because(match (text.starts_with('['), text.split_once(']')) {
        (true, None) => "the [ is not closed",
        (false, _) => "an IPv6 address stands in brackets",
        (true, Some((_, ""))) if wants_port => "the port is missing",
        (true, Some((_, port))) if port.starts_with(':') => "the port is a number up to 65535",
        (true, Some(_)) => "a colon stands before the port",
    })
}

/// A network in CIDR form; a single address is a network of its own.
pub(super) fn network(node: &Node, checker: &mut Checker<'_>) -> Option<IpNet> {
    parsed(node, checker, "a network", |text| {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| wrong_network(text))?;
        if let IpNet::V6(v6) = network
            && let (Some(v4), Some(length)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        {
            return Err(Wrong::because("an IPv4 network is written as one").write(format!("{v4}/{length}")));
        }
        if network != network.trunc() {
            return Err(Wrong::because("it has bits behind those that count").write(network.trunc().to_string()));
        }
        Ok(network)
    })
}

fn wrong_network(text: &str) -> Wrong {
    let bare = text.replace(['[', ']'], "");
    if bare != text && bare.parse::<IpNet>().is_ok() {
        return Wrong::because("without brackets").write(bare);
    }
    let most = |ip| if matches!(ip, IpAddr::V4(_)) { ("IPv4", 32) } else { ("IPv6", 128) };
    match text.split_once('/').map(|(ip, length)| (ip.parse().map(most), length.parse::<u32>())) {
        Some((Ok((kind, most)), Ok(_))) => Wrong::because(format!("an {kind} address has {most} bits")),
        _ => Wrong::because("an address and how many of its bits count").write("10.0.0.0/8"),
    }
}

/// An `http://` or `https://` URL, without user, fragment and white space.
pub(super) fn url(node: &Node, checker: &mut Checker<'_>) -> Option<Uri> {
    parsed(node, checker, "a URL", parse_url)
}

/// What [`url`] does with the text.
pub(super) fn parse_url(text: &str) -> Result<Uri, Wrong> {
    if !text.contains("://") {
        let scheme = if text.starts_with("127.") || text.starts_with("localhost") || text.starts_with("[::1]") { "http" } else { "https" };
        return Err(Wrong::because("the scheme is missing").write(format!("{scheme}://{text}")));
    }
    let uri: Uri = text.parse().map_err(|_| unreadable(text))?;
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    match uri.scheme_str() {
        _ if text.contains('#') => Err(Wrong::because("it has a fragment (`#…`)")),
        _ if authority.contains('@') => Err(Wrong::because("a user name or password has no place in it")),
        _ if uri.host().unwrap_or_default().is_empty() || authority.ends_with(':') => Err(Wrong::because("the host is missing")),
        _ if authority.split_once(']').is_some_and(|(_, port)| !port.is_empty() && !port.starts_with(':')) => Err(unreadable(text)),
        _ if authority_port_is_wrong(authority) => Err(Wrong::because("the port is a number up to 65535")),
        Some("http" | "https") => Ok(uri),
        _ => Err(Wrong::because("it begins with https:// or http://")),
    }
}

/// A URL that is none, mostly for the brackets of an IPv6 address.
fn unreadable(text: &str) -> Wrong {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or_default();
    match bracketed(authority) {
        Some((ip, port)) => {
            brackets(authority, false).write(format!("\"{scheme}://[{ip}]{}{path}\"", port.map_or_else(String::new, |port| format!(":{port}"))))
        }
        None => Wrong::because("it cannot be read"),
    }
}

fn authority_port_is_wrong(authority: &str) -> bool {
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    after_host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_err())
}

/// The name of a host in lower case, with `*.` in front where it may be.
pub(super) fn host(node: &Node, checker: &mut Checker<'_>) -> Option<Box<str>> {
    parsed(node, checker, "a host", parse_host)
}

/// What [`host`] does with the text.
pub(super) fn parse_host(text: &str) -> Result<Box<str>, Wrong> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    if let Some((_, rest)) = lower.split_once("://") {
        return Err(Wrong::because("a host alone, without scheme").write(rest.split(['/', ':']).next().unwrap_or_default()));
    }
    if lower == "*" {
        return Err(Wrong::because("leave `host` out for any host, or write `\"*.example.org\"`"));
    }
    if !name.starts_with('[')
        && let Some((before, _)) = lower.split_once(['/', ':'])
    {
        return Err(Wrong::because("a host alone, without port and path").write(before));
    }
    if let Some(before) = lower.strip_suffix('.').filter(|before| !before.is_empty()) {
        return Err(Wrong::because("without the dot at the end").write(before));
    }
    if name.starts_with('[')
        && !name.contains(']')
        && let Some((ip, _)) = bracketed(name)
    {
        return Err(brackets(name, false).write(format!("\"[{ip}]\"")));
    }
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    match () {
        () if !name.is_ascii() => Err(Wrong::because("in its ASCII form, which begins with xn--")),
        () if name.contains('*') => Err(Wrong::because("`*.` stands in front only")),
        () if bracketed && name == lower => Ok(lower.into()),
        () if name.len() <= 253 && name.split('.').all(label) => Ok(lower.into()),
        () => Err(Wrong::because("letters, digits, - and dots")),
    }
}

/// Bytes of a path (`PATH_MAX`).
const MOST_PATH: usize = 4096;
/// Bytes of the path of a Unix socket (`sun_path`, with a zero at its end).
const MOST_SOCKET: usize = 107;

/// A path of the file system; a relative one begins at the directory of the file that names it.
pub(super) fn file(node: &Node, checker: &mut Checker<'_>) -> Option<PathBuf> {
    let text = scalar(node, checker, "a file")?;
    if text.len() > MOST_PATH || text.contains(['\0', '\n']) || text.contains("-----BEGIN") {
        // Perhaps the key itself.
        checker.hidden.hide(node);
        checker.error(Problem::at(node.span, "this is not the name of a file").label("what belongs into a file is not written out").write("PATH"));
        return None;
    }
    Some(checker.directory.join(text))
}

/// A Unix socket that the gateway opens: its folder has to be there, and nothing else in its place.
pub(super) fn socket(node: &Node, checker: &mut Checker<'_>) -> Option<PathBuf> {
    let path = file(node, checker)?;
    // Whoever only asks the gateway makes no socket.
    if checker.environment.is_none() {
        return Some(path);
    }
    let why = match std::fs::symlink_metadata(&path) {
        _ if path.as_os_str().len() > MOST_SOCKET => Some(format!("the path of a socket has {MOST_SOCKET} bytes at most")),
        Ok(there) if !there.file_type().is_socket() => Some("there is a file already, and it is not a socket".to_owned()),
        _ => may_make(&path).err().map(|error| unwritable(&error)),
    };
    if let Some(why) = why {
        let problem = Problem::at(node.span, format!("the socket {} cannot be made", shown(&path.display().to_string()))).label(why);
        let temporary = path.starts_with("/run") && path.parent().is_none_or(|folder| !folder.is_dir());
        checker.error(if temporary { problem.hint("systemd makes a folder there with `RuntimeDirectory=uma-gateway`") } else { problem });
        return None;
    }
    Some(path)
}

/// A file that is there and can be read.
pub(super) fn readable(node: &Node, checker: &mut Checker<'_>) -> Option<PathBuf> {
    let path = file(node, checker)?;
    checker.files.push(path.clone());
    match std::fs::File::open(&path) {
        Ok(_) => Some(path),
        Err(error) => {
            let path = shown(&path.display().to_string());
            checker.error(Problem::at(node.span, format!("{path} cannot be read")).label(super::secrets::reason(&error)));
            None
        }
    }
}

/// A file that lines are added to. It is made when the first one comes, so its folder has to be there.
pub(super) fn writable(node: &Node, checker: &mut Checker<'_>) -> Option<PathBuf> {
    let path = file(node, checker)?;
    // Whoever runs `explain` writes none.
    if checker.environment.is_none() {
        return Some(path);
    }
    let tried = match std::fs::OpenOptions::new().append(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => may_make(&path),
        other => other.map(|_| ()),
    };
    if let Err(error) = tried {
        checker.error(Problem::at(node.span, format!("{} cannot be written", shown(&path.display().to_string()))).label(unwritable(&error)));
        return None;
    }
    Some(path)
}

/// Why nothing can be made or written in a folder.
pub(super) fn unwritable(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such folder".to_owned(),
        ErrorKind::PermissionDenied => "this user may not write there: let it, or name another folder".to_owned(),
        kind => kind.to_string(),
    }
}

/// Whether a file may be made beside this one. The file itself is left to whoever writes it: it would be taken away under his hands.
pub(super) fn may_make(path: &Path) -> std::io::Result<()> {
    let probe = path.with_file_name(format!(".uma-gateway-check-{}", std::process::id()));
    std::fs::File::create(&probe)?;
    std::fs::remove_file(&probe)
}

/// The items of a list, each with `reader`. A single value in the place of a list is reported with its brackets.
pub(super) fn list<'t, T>(node: &'t Node, checker: &mut Checker<'_>, mut reader: impl FnMut(&'t Node, &mut Checker<'_>) -> Option<T>) -> Option<Vec<T>> {
    match &node.value {
        Value::List(items) => {
            let read: Vec<Option<T>> = items.iter().map(|item| reader(item, checker)).collect();
            read.into_iter().collect()
        }
        Value::Scalar { text, plain } => {
            let problem = Problem::at(node.span, "a list is wanted").label("put it in brackets");
            let item = if *plain { shown(text) } else { format!("\"{}\"", shown(text)) };
            checker.error(problem.write(format!("[{item}]")));
            None
        }
        Value::Map(_) => {
            checker
                .error(Problem::at(node.span, "a list is wanted, and here stands a section").label("put `- ` in front of each item, or brackets around them"));
            None
        }
    }
}

/// A number in front, and what follows it.
/// What may be meant by a size that is written otherwise: `10MB`, `1000`, `1.5 GiB`.
fn size_meant(digits: &str, unit: &str) -> String {
    let (fraction, letters) = unit.strip_prefix('.').map_or(("", unit), split_unit);
    let letter = letters.trim_start().chars().next().map(|letter| letter.to_ascii_uppercase());
    let units = ["B", "KiB", "MiB", "GiB"];
    let place = units.iter().position(|unit| unit.chars().next() == letter).unwrap_or(0);
    let whole = digits.parse::<u64>().unwrap_or(10);
    match (fraction.parse::<u64>(), units.get(place.wrapping_sub(1)), u32::try_from(fraction.len()).ok().and_then(|length| 10_u64.checked_pow(length))) {
        // One and a half of a unit are so many of the next smaller one.
        (Ok(parts), Some(smaller), Some(of)) => {
            let more = parts.saturating_mul(1024).checked_div(of).unwrap_or(0);
            format!("{}{smaller}", whole.saturating_mul(1024).saturating_add(more))
        }
        _ => format!("{whole}{}", units.get(place).unwrap_or(&"B")),
    }
}

/// What may be meant per second by a rate that is written otherwise: `20`, `60/min`, `0.5/s`. Never more than was written.
fn rate_meant(text: &str) -> u64 {
    let (digits, unit) = split_unit(text);
    let unit = unit.trim_start_matches(|character: char| character == '.' || character.is_ascii_digit()).trim_start_matches([' ', '/']);
    let seconds = match unit.chars().next().map(|letter| letter.to_ascii_lowercase()) {
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => 1,
    };
    digits.parse::<u64>().map_or(20, |number| number.checked_div(seconds).unwrap_or(0)).max(1)
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lower_case_names_without_port() {
        assert_eq!(parse_host("Photos.Example.org").ok().as_deref(), Some("photos.example.org"));
        assert_eq!(parse_host("*.example.org").ok().as_deref(), Some("*.example.org"));
        assert_eq!(parse_host("[::1]").ok().as_deref(), Some("[::1]"));
        for wrong in ["", "*", "*.", "a.*.b", "photos.example.org:80", "https://a", "a..b", "münchen.example", "a/b", "a.", ".", "*.[::1]", "[::1", "a b"] {
            assert!(parse_host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls_have_a_scheme_and_a_host_and_no_user() {
        for right in ["http://127.0.0.1:8180/realms/photoz", "https://id.example.org", "http://[::1]:80/x?y=z"] {
            assert!(parse_url(right).is_ok(), "{right}");
        }
        for wrong in ["id.example.org", "ftp://a", "https://", "https://u:p@a/", "https://a#b", "https://a:99999", "https://a:", "http:///x", "https:// a"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }
}
