//! The albums, and the rule that only the gateway sees them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::beach;
use super::message::Recorded;
use super::reply::Reply;
use crate::secret::Secret;

/// The usual answer to a request.
pub(super) fn answer(request: &Recorded, credential: Option<&(String, String)>) -> Reply {
    if !credential.is_none_or(|credential| shows(request, credential)) {
        return Reply::unauthorized().header("Content-Type", "text/plain; charset=utf-8").header("Cache-Control", "no-store");
    }
    let path = request.target.split('?').next().unwrap_or_default();
    match request.method.as_str() {
        "GET" | "HEAD" => read(path),
        // Accepted and forgotten: whoever tries the demo finds it as it was.
        "PUT" | "DELETE" | "PATCH" if path.starts_with("/albums/") => Reply::status(204),
        "POST" if path.starts_with("/albums/") => Reply::status(201),
        _ => Reply::status(405).header("Allow", "GET, HEAD, PUT, DELETE, PATCH, POST"),
    }
}

fn read(path: &str) -> Reply {
    let text = |body: &'static str| Reply::ok(body).header("Content-Type", "text/plain; charset=utf-8");
    match path {
        "/albums/vacation/beach.jpg" => Reply::ok(Bytes::from_static(beach::photograph())).header("Content-Type", "image/jpeg"),
        "/albums/vacation" | "/albums/vacation/" => text("beach.jpg\nnotes.txt\n"),
        "/albums/vacation/notes.txt" => text("The water was warm.\n"),
        "/albums/work" | "/albums/work/" => text("plan.txt\n"),
        "/albums/work/plan.txt" => text("Not for Bob.\n"),
        "/public" | "/public/" | "/public/welcome.txt" => text("Everyone may read this.\n"),
        _ => Reply::status(404),
    }
}

fn shows(request: &Recorded, (name, password): &(String, String)) -> bool {
    let expected = Secret::from(STANDARD.encode(format!("{name}:{password}")));
    let one = request.all("authorization").len() == 1;
    let given = request.header("authorization").and_then(|value| value.split_once(' '));
    one && given.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("basic") && expected.matches(given.trim()))
}
