//! The stored corpora through the bodies, and the bodies against defences that are down.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A target and its body.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 11] = [
    ("admission", admission),
    ("authorization", authorization),
    ("config", config),
    ("frames", frames),
    ("h1", h1),
    ("introspection", introspection),
    ("outbound_headers", outbound_headers),
    ("path", path),
    ("raw_head", raw_head),
    ("rules", rules),
    ("www_authenticate", www_authenticate),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The stored inputs of a target, by their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder().join("corpus").join(target)).unwrap_or_else(|error| panic!("the corpus of {target}: {error}"));
    let mut all: Vec<_> =
        entries.map(|entry| entry.unwrap()).map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    all.sort();
    all
}

fn replay(target: Target) {
    let (name, body) = target;
    let corpus = corpus(name);
    assert!(corpus.len() >= 5, "{name} has no corpus");
    let lost: Vec<String> = corpus.into_iter().filter(|(_, input)| std::panic::catch_unwind(|| body(input)).is_err()).map(|(file, _)| file).collect();
    assert_eq!(lost, Vec::<String>::new(), "inputs of {name} in which the oracle and the gateway differ");
}

macro_rules! replays {
    ($($name:ident: $target:ident,)+) => { $(#[test] fn $name() { let _shut = shut(); replay((stringify!($target), $target)); })+ };
}

replays! {
    stored_heads_have_one_reading: admission,
    stored_presentations_are_read_by_the_table: authorization,
    stored_configurations_mean_the_same_when_they_are_printed: config,
    stored_frames_are_counted_in_any_pieces: frames,
    stored_connections_reach_the_content_server_in_one_reading: h1,
    stored_answers_are_active_to_every_reader_or_to_none: introspection,
    stored_fields_pose_as_nothing: outbound_headers,
    stored_paths_lead_to_one_route_however_they_are_read: path,
    stored_bytes_are_followed_in_any_pieces: raw_head,
    stored_routes_are_found_without_the_tree: rules,
    stored_challenges_read_back_as_they_were_meant: www_authenticate,
}

#[test]
fn every_target_has_a_program_and_a_small_corpus() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let mut bytes = 0;
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(fs::read_to_string(folder().join("fuzz_targets").join(format!("{name}.rs"))).unwrap().contains(&format!("uma_gateway::fuzz::{name}(input)")));
        let corpus = corpus(name);
        assert!(corpus.len() <= 200, "{name} has {} inputs", corpus.len());
        bytes += corpus.iter().map(|(_, input)| input.len()).sum::<usize>();
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    assert!(bytes < 1024 * 1024, "{bytes} bytes");
}

/// Defences are taken down for the whole process, so those who need all of them wait.
#[cfg(feature = "holes")]
fn shut() -> std::sync::MutexGuard<'static, ()> {
    static SHUT: std::sync::Mutex<()> = std::sync::Mutex::new(());
    SHUT.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(not(feature = "holes"))]
fn shut() {}

/// Opens one hole after the other, and gives the target inputs of its corpus until an oracle sees it.
#[cfg(feature = "holes")]
#[test]
fn an_oracle_sees_each_hole_that_lies_before_it() {
    use crate::holes::{Hole, close, open_only};

    let holes: &[(Hole, Target)] = &[
        (Hole::DecodedOnce, ("path", path)),
        (Hole::DotsForwarded, ("path", path)),
        (Hole::OptInsEverywhere, ("path", path)),
        (Hole::FormsIgnored, ("path", path)),
        (Hole::CaseIgnored, ("path", path)),
        (Hole::OptInsEverywhere, ("rules", rules)),
        (Hole::CaseIgnored, ("rules", rules)),
        (Hole::FormsIgnored, ("rules", rules)),
        (Hole::ContradictionsPassed, ("raw_head", raw_head)),
        (Hole::TokenInQueryIgnored, ("authorization", authorization)),
        (Hole::FirstOfTwoTokens, ("authorization", authorization)),
        (Hole::ActiveTruthy, ("introspection", introspection)),
        (Hole::IdentityHeaderKept, ("outbound_headers", outbound_headers)),
        (Hole::UnderscoreKept, ("outbound_headers", outbound_headers)),
        (Hole::CredentialDroppedByConnection, ("outbound_headers", outbound_headers)),
        (Hole::FirstOfTwo, ("admission", admission)),
        (Hole::CodingsPassed, ("admission", admission)),
        (Hole::MethodsInAnyCase, ("admission", admission)),
        (Hole::RawPathForwarded, ("admission", admission)),
        (Hole::DotsForwarded, ("h1", h1)),
        (Hole::IdentityHeaderKept, ("h1", h1)),
        (Hole::UnderscoreKept, ("h1", h1)),
        (Hole::CredentialDroppedByConnection, ("h1", h1)),
        (Hole::MethodsInAnyCase, ("h1", h1)),
    ];
    let _shut = shut();
    // Started before anything is open.
    h1(b"\0");
    let unseen: Vec<String> = holes
        .iter()
        .filter(|(hole, (name, body))| {
            open_only(*hole);
            let seen = corpus(name).into_iter().find(|(_, input)| std::panic::catch_unwind(|| body(input)).is_err()).map(|(file, _)| file);
            close();
            println!("{hole:?}: {name}/{}", seen.as_deref().unwrap_or("?"));
            seen.is_none()
        })
        .map(|(hole, (name, _))| format!("{hole:?} by {name}"))
        .collect();
    assert_eq!(unseen, Vec::<String>::new(), "holes that no stored input shows");
}
