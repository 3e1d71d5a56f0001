//! The files of cases, and how a line of theirs becomes bytes.
//!
//! A file begins with `key: value` lines and an empty one: `class`; `wire` (`h1`, `h2`, `both` for targets, `fields` for
//! lines of fields over both, or `frames`); `template`, in which `@@` is the case;
//! `expect`; `paths: yes` where the cases are paths that a naive proxy is tried with; `upstream: yes` where the case is what the content server answers.
//! Each case is a line, perhaps with ` => ` and an expectation of its own, and under it, indented, the reason. In a line `\r \n \t \0 \s \\ \xHH` are octets,
//! `${x*100}` repeats, `${name}` is filled in by the world; ` >>> ` parts what is sent only after an answer, and `!name` there is something that happens
//! meanwhile. Over HTTP/2 a case is fields, parted by ` && `: `name: value` sets or adds, `+name: value` adds, `-name` takes out, `body=` is the body.
//! A frame is `KIND FLAGS STREAM PAYLOAD`, in decimals, or `headers FLAGS STREAM`, perhaps with such changes behind ` | `.
//!
//! An expectation lists the answers, parted by `, `: a status, `closed` or `reset` for no answer, `cut` for one that breaks off; several that will do are
//! parted by `|`. ` as TARGET` says what the content server must then have seen, and may, if it is protected. Over HTTP/2 a stream error will do for a 400.
//!
//! Marks in front of a line: `[fault=NAME]`, the authorization server errs meanwhile; `[slow]`, it waits for a deadline.

use std::path::Path;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    pub class: String,
    pub line: String,
    pub reason: String,
    pub wire: Wire,
    pub template: String,
    pub expect: Vec<Expected>,
    /// Its class is one of paths.
    pub is_path: bool,
    /// The line is what the content server answers.
    pub is_answer: bool,
    /// How the authorization server errs meanwhile.
    pub fault: Option<String>,
    /// It waits for a deadline.
    pub slow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    H1,
    H2,
    Both,
    /// Fields, over HTTP/2 in small letters.
    Fields,
    /// Frames of HTTP/2.
    Frames,
}

/// What is to come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub outcomes: Vec<Outcome>,
    pub target: Option<String>,
}

impl Expected {
    /// Whether the content server may have seen the request.
    pub fn may_go_on(&self) -> bool {
        self.target.is_some() || self.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Cut | Outcome::Status(101 | 200..300 | 408 | 413 | 502 | 504)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    Closed,
    Cut,
    /// Nothing came for too long.
    Silent,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Closed => f.write_str("closed"),
            Self::Cut => f.write_str("cut"),
            Self::Silent => f.write_str("silent"),
        }
    }
}

/// All cases of a folder.
pub fn load(folder: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.iter().flat_map(|file| parse(&std::fs::read_to_string(file).expect("a text"), &file.display().to_string())).collect()
}

fn parse(text: &str, file: &str) -> Vec<Case> {
    let (head, rest) = text.split_once("\n\n").unwrap_or_else(|| panic!("{file}: a head and an empty line"));
    let key = |wanted: &str| head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == wanted).map(|(_, value)| value.to_owned());
    let class = key("class").unwrap_or_else(|| panic!("{file}: `class`"));
    let wire = match key("wire").as_deref() {
        Some("h2") => Wire::H2,
        Some("both") => Wire::Both,
        Some("fields") => Wire::Fields,
        Some("frames") => Wire::Frames,
        _ => Wire::H1,
    };
    let (template, expect) = (key("template").unwrap_or_else(|| "@@".into()), key("expect").unwrap_or_default());
    let (is_path, is_answer) = (key("paths").is_some(), key("upstream").is_some());
    let mut lines = rest.lines().filter(|line| !line.is_empty());
    let mut cases = Vec::new();
    while let Some(line) = lines.next() {
        let reason = lines.next().and_then(|line| line.strip_prefix("    ")).unwrap_or_else(|| panic!("{file}: a reason under {line}")).to_owned();
        let (mut line, own) = line.rsplit_once(" => ").map_or((line, expect.as_str()), |(line, own)| (line, own));
        let (mut fault, mut slow) = (None, false);
        while let Some((mark, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
            match mark.split_once('=') {
                Some(("fault", name)) => fault = Some(name.to_owned()),
                None if mark == "slow" => slow = true,
                _ => panic!("{file}: [{mark}]"),
            }
            line = rest;
        }
        let expect = expectations(own, file);
        let (class, template) = (class.clone(), template.clone());
        cases.push(Case { class, line: line.to_owned(), reason, wire, template, expect, is_path, is_answer, fault, slow });
    }
    cases
}

fn expectations(text: &str, file: &str) -> Vec<Expected> {
    text.split(", ")
        .map(|one| {
            let (one, target) = one.split_once(" as ").map_or((one, None), |(one, target)| (one, Some(target.to_owned())));
            let outcome = |word: &str| match word {
                "closed" | "reset" => Outcome::Closed,
                "cut" => Outcome::Cut,
                status => Outcome::Status(status.parse().unwrap_or_else(|_| panic!("{file}: an expectation, not `{text}`"))),
            };
            Expected { outcomes: one.split('|').map(outcome).collect(), target }
        })
        .collect()
}

/// The octets of a text with escapes; `fill` knows the names.
pub fn octets(text: &str, fill: &dyn Fn(&str) -> String) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '$']) {
        let (before, behind) = rest.split_at(at);
        out.extend(before.bytes());
        if let Some((name, after)) = behind.strip_prefix("${").and_then(|behind| behind.split_once('}')) {
            match name.split_once('*').and_then(|(what, times)| Some((what, times.parse().ok()?))) {
                Some((what, times)) => out.extend(octets(what, fill).repeat(times)),
                None => out.extend(fill(name).bytes()),
            }
            rest = after;
            continue;
        }
        let mut characters = behind.chars();
        let (first, second) = (characters.next(), characters.next());
        let taken = match (first, second) {
            (Some('\\'), Some('x')) => {
                out.push(u8::from_str_radix(&behind[2..4], 16).expect("two hexadecimal digits"));
                4
            }
            (Some('\\'), Some(escaped)) => {
                out.push(match escaped {
                    'r' => b'\r',
                    'n' => b'\n',
                    't' => b'\t',
                    '0' => 0,
                    's' => b' ',
                    '\\' => b'\\',
                    other => panic!("\\{other} in {text}"),
                });
                2
            }
            _ => {
                out.push(b'$');
                1
            }
        };
        rest = &behind[taken..];
    }
    out.extend(rest.bytes());
    out
}
