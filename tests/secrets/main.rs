//! Nothing secret comes out. Secrets of every sort are planted in every place that a request, a server, a file or an operator can put them, and looked for in
//! every form in all that the gateway's own process writes at its most talkative level: log, audit log, metrics, health and admin pages, traces, answers, and
//! what its commands say. What else could carry them out, a memory image or a table of HTTP/2, is held as well.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice, reason = "a test stops at the first surprise")]

mod core;
mod debug;
mod planted;
mod tables;
mod walk;
mod world;

use world::World;

/// What an answer may hold that was made for whoever gets it: the ticket, and what a content server says to its client.
const FOR_THE_CLIENT: [&str; 3] = ["ticket", "cookie of an upstream", "code in a Location"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_comes_out_of_the_process_by_any_way() {
    let mut world = World::start().await;
    let presented = walk::Presented::new(&mut world);
    let mut answers = Vec::new();
    for request in presented.requests(&mut world.planted) {
        answers.push(world.say(request.as_bytes()).await);
    }
    let requests = answers.len();
    answers.extend(walk::over_http2(&world, &presented).await);
    answers.extend(walk::failing_authorization_servers(&mut world, &presented).await);
    answers.extend(walk::failing_upstream(&mut world, &presented).await);
    answers.extend(walk::shares(&mut world, &presented).await);
    let reloaded = walk::reload(&mut world).await;
    let said = walk::commands(&mut world, &presented);
    let operator = walk::operator(&mut world, &presented).await;
    let mut pages = Vec::new();
    for page in ["/metrics", "/readyz?verbose", "/readyz", "/livez", "/startupz", "/nowhere"] {
        pages.push(world.health(page).await);
    }
    world::until("traces are sent", async || (!cfg!(feature = "otel") || world.traces().len() > 10_000).then_some(())).await;
    let (traces, driven) = (world.traces(), world.driven());
    let audit = std::fs::read(world.folder.path().join("audit.log")).expect("the audit log");
    world.know_minted();
    let log = world.end();

    for kind in ["RPT", "ticket", "protection token (PAT)", "proxy token (oauth2)", "assertion for an upstream", "client secret", "payload of a JWT", "cookie"]
    {
        assert!(world.planted.kinds().contains(kind), "there was no {kind}");
    }
    let went = world.planted.found(driven.as_bytes());
    for kind in ["RPT", "payload of a JWT", "unknown token", "client secret", "proxy password (basic)", "proxy token (bearer)", "proxy key (header)", "cookie"]
    {
        assert!(went.contains_key(kind), "{kind} went nowhere, so that it could not come out either");
    }
    assert!(requests > 60 && log.lines().count() > 500 && audit.len() > 50_000, "{requests} requests, {} lines", log.lines().count());
    let outlets: [(&str, Vec<u8>); 8] = [
        ("log", log.into_bytes()),
        ("audit log", audit),
        ("health pages", pages.concat().into_bytes()),
        ("admin pages", operator.concat().into_bytes()),
        ("traces", traces),
        ("answers", answers.concat().into_bytes()),
        ("reloads", reloaded.concat().into_bytes()),
        ("commands", said.concat().into_bytes()),
    ];
    let mut told = Vec::new();
    for (outlet, text) in &outlets {
        let found = world.planted.found(text).into_iter().filter(|(kind, _)| *outlet != "answers" || !FOR_THE_CLIENT.contains(kind));
        told.extend(found.map(|(kind, around)| format!("{kind}, in the {outlet}: …{around}…")));
    }
    assert!(told.is_empty(), "{} secrets came out:\n{}", told.len(), told.join("\n"));
}
