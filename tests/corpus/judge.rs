//! What is held against the gateway once a case is over: what the careless content server saw of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::careless;
use crate::upstream::Message;
use crate::world::World;

/// Stands in every value that only the gateway may say, so that a case is seen to have said it.
const PLANTED: &str = "mallory";

/// Beginning of the targets of ordinary requests that are sent behind a case.
pub const FOLLOW: &str = "/public/follow/";

/// What is wrong with what the content server saw; `allowed` are the targets that the case may reach, in their order, at most `most` messages.
pub fn faults(world: &World, seen: &[Message], allowed: &[String], most: usize) -> Vec<String> {
    let mut faults = Vec::new();
    let own: Vec<&Message> = seen.iter().filter(|message| !message.target.starts_with(FOLLOW.as_bytes())).collect();
    if own.len() > most {
        faults.push(format!("{} messages went on, {most} may", own.len()));
    }
    let targets: Vec<String> = own.iter().map(|message| String::from_utf8_lossy(&message.target).into_owned()).collect();
    let mut rest = targets.iter();
    for wanted in allowed {
        if !rest.any(|target| target == wanted) {
            faults.push(format!("{wanted} did not arrive, but {targets:?}"));
        }
    }
    faults.extend(seen.iter().flat_map(|message| of_message(world, message, allowed)));
    faults
}

fn of_message(world: &World, message: &Message, allowed: &[String]) -> Vec<String> {
    let target = String::from_utf8_lossy(&message.target).into_owned();
    let mut faults: Vec<String> = message.problems.iter().map(|problem| format!("{target}: {problem}")).collect();
    if let Some(reading) = careless::protected(&message.target).filter(|_| !allowed.contains(&target)) {
        faults.push(format!("BYPASS: {target} reads as {reading}"));
    }
    let text = String::from_utf8_lossy(&message.raw);
    if world.secrets().any(|secret| text.contains(secret)) {
        faults.push(format!("{target}: a token went on"));
    }
    let host = message.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    if host.as_deref().is_some_and(careless::is_site) && !allowed.contains(&target) && careless::leads(&message.target, &["/shared"]).is_some() {
        faults.push(format!("BYPASS: {target} of {host:?}"));
    }
    if message.tunnel || target.is_empty() {
        return faults;
    }
    let values = |wanted: &str| message.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone()).collect::<Vec<_>>();
    let basic = format!("Basic {}", STANDARD.encode("gateway:proxy-secret")).into_bytes();
    let credential = if target.starts_with("/bare") { Vec::new() } else { vec![basic] };
    if values("authorization") != credential {
        faults.push(format!("{target}: the gateway's own credential did not arrive alone"));
    }
    let is_guarded = target.starts_with("/guarded");
    let is_named = !is_guarded
        && allowed.contains(&target)
        && careless::protected(&message.target).is_some()
        && !target.starts_with("/named")
        && !target.starts_with("/docs");
    if is_named && values("x-photo-user").len() != 1 {
        faults.push(format!("{target}: the identity header did not arrive alone"));
    }
    for (name, value) in &message.fields {
        if String::from_utf8_lossy(value).to_ascii_lowercase().contains(PLANTED) || name.to_ascii_lowercase().contains(PLANTED) {
            faults.push(format!("{target}: the client's word went on: {name}"));
        }
        if name.contains('_') {
            faults.push(format!("{target}: a name with _ went on: {name}"));
        }
        if ["keep-alive", "proxy-connection", "proxy-authorization", "trailer", "http2-settings"].iter().any(|hop| name.eq_ignore_ascii_case(hop)) {
            faults.push(format!("{target}: {name} went on"));
        }
    }
    let is_call = values("content-type").iter().any(|value| value.starts_with(b"application/grpc"));
    if !message.trailers.is_empty() && (!is_call || String::from_utf8_lossy(&message.trailers).to_ascii_lowercase().contains(PLANTED)) {
        faults.push(format!("{target}: trailers went on: {}", String::from_utf8_lossy(&message.trailers)));
    }
    if !message.method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        faults.push(format!("{target}: the method {}", message.method));
    }
    faults
}
