//! Every section and key of the configuration, described once.
//!
//! The checker takes from it which keys exist, which are needed and which exclude each other; `schema` makes the JSON Schema of it, `table` the table in
//! README. It reads nothing and decides nothing about values: `values` does.

pub(super) mod keys;
pub(super) mod schema;
pub(super) mod table;

/// A mapping with fixed keys.
#[derive(Debug)]
pub(super) struct Section {
    /// What it is in a message: "a route".
    pub(super) what: &'static str,
    pub(super) keys: &'static [Key],
    /// Groups of keys of which exactly one stands there, whole; empty: no such groups.
    pub(super) one_of: &'static [&'static [&'static str]],
    /// What somebody means who writes a text in its place, which `…` stands for; empty: nobody can know.
    pub(super) of_text: &'static str,
}

/// One key of a section.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    /// The default as it is shown; empty: none.
    pub(super) default: &'static str,
    /// What it does, one or two sentences.
    pub(super) doc: &'static str,
    /// A value, in YAML on one line; empty: the kind's own example says it.
    pub(super) example: &'static str,
}

/// What may stand at a key.
#[derive(Debug)]
pub(super) enum Kind {
    /// The number 1.
    Version,
    /// Any text.
    Text,
    /// One of these.
    Word(&'static [&'static str]),
    /// One of these, or a text.
    WordOr(&'static [&'static str], &'static str),
    /// `true` or `false`.
    Boolean,
    /// `true`.
    True,
    /// A whole number between these.
    Number(u64, u64),
    /// One of these numbers.
    Status(&'static [u16]),
    /// `30s`, `500ms`, `5m`, `1h`.
    Duration,
    /// A duration, or `0` for never.
    DurationOrZero,
    /// `10MiB`.
    Size,
    /// `20/s`.
    Rate,
    /// `20%`.
    Percent,
    /// `127.0.0.1:8080`.
    Address,
    /// `10.0.0.0/8`.
    Network,
    /// A URL.
    Url,
    /// `http://host:port`, `https://host:port` or `unix:/path`.
    Server,
    /// The same alone, or as a part of a section.
    ServerOr(&'static Section),
    /// The name of a host, `*.` allowed in front.
    Host,
    /// A web origin, or `*`.
    Origin,
    /// A path of the file system, relative to the file that names it.
    File,
    /// The path of a route.
    Pattern,
    /// A text with path parameters.
    Template,
    /// A path with path parameters and `{**}`.
    Rewrite,
    /// `{ env }` or `{ file }`.
    Secret,
    /// A sequence.
    List(&'static Kind),
    /// A mapping whose keys the user chooses.
    Map(KeyKind, &'static Kind),
    /// One of these words, or a mapping whose keys the user chooses.
    WordOrMap(&'static [&'static str], KeyKind, &'static Kind),
    /// A mapping with fixed keys.
    Section(&'static Section),
}

/// The keys of a [`Kind::Map`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// A name that other places refer to.
    Name,
    /// The name of a host.
    Host,
    /// A header.
    Header,
    /// One or more methods: `"PUT, DELETE"`.
    Methods,
    /// The name of a resource owner.
    Owner,
}

impl Section {
    pub(super) const fn new(what: &'static str, keys: &'static [Key]) -> Self {
        Self { what, keys, one_of: &[], of_text: "" }
    }

    pub(super) const fn of_text(mut self, meant: &'static str) -> Self {
        self.of_text = meant;
        self
    }

    pub(super) const fn one_of(mut self, groups: &'static [&'static [&'static str]]) -> Self {
        self.one_of = groups;
        self
    }

    /// The description of a key.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// How it may look, with what is needed.
    pub(super) fn sample(&self) -> String {
        let group = self.one_of.first().copied().unwrap_or_default();
        let wanted = |key: &&Key| key.required || group.contains(&key.name);
        let mut keys: Vec<&Key> = self.keys.iter().filter(wanted).collect();
        if keys.is_empty() {
            keys.extend(self.keys.first());
        }
        format!("{{ {} }}", keys.iter().map(|key| format!("{}: {}", key.name, key.sample())).collect::<Vec<_>>().join(", "))
    }

    /// Whether a secret stands in it, however deep.
    pub(super) fn leads_to_secret(&self) -> bool {
        self.holds_secret() || self.keys.iter().filter_map(|key| key.kind.section()).any(|(_, section)| section.leads_to_secret())
    }

    /// The sections below that have a key of this name, as README's table writes them; empty text: this one.
    pub(super) fn places(&self, name: &str) -> Vec<String> {
        let mut places: Vec<String> = self.key(name).map(|_| String::new()).into_iter().collect();
        for (key, (suffix, section)) in self.keys.iter().filter_map(|key| Some((key, key.kind.section()?))) {
            let below = section.places(name);
            places.extend(below.iter().map(|place| format!("{}{suffix}{}{place}", key.name, if place.is_empty() { "" } else { "." })));
        }
        places
    }

    /// Whether a secret stands directly in it.
    pub(super) fn holds_secret(&self) -> bool {
        self.keys.iter().any(|key| matches!(key.kind, Kind::Secret | Kind::Map(_, Kind::Secret)))
    }
}

impl Key {
    pub(super) const fn new(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, required: false, default: "", doc, example: "" }
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    pub(super) const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }
}

impl Key {
    /// A value that may stand there.
    pub(super) fn sample(&self) -> String {
        match &self.kind {
            _ if !self.example.is_empty() => self.example.to_owned(),
            Kind::Secret => "{ file: PATH }".to_owned(),
            Kind::True => "true".to_owned(),
            Kind::Section(section) => section.sample(),
            Kind::List(Kind::Section(section)) => format!("[ {} ]", section.sample()),
            Kind::Map(KeyKind::Host, Kind::Section(section)) => format!("{{ www.example.org: {} }}", section.sample()),
            Kind::Map(_, Kind::Section(section)) => format!("{{ NAME: {} }}", section.sample()),
            Kind::Word([word]) => (*word).to_owned(),
            _ => self.default.to_owned(),
        }
    }
}

impl Kind {
    /// The section that stands here or in each of its items, and how a path goes on to it.
    pub(super) fn section(&self) -> Option<(&'static str, &'static Section)> {
        match self {
            Self::Section(section) => Some(("", section)),
            Self::List(Self::Section(section) | Self::ServerOr(section)) => Some(("[]", section)),
            Self::Map(_, Self::Section(section)) => Some((".*", section)),
            _ => None,
        }
    }

    /// The kind in words, for README's table.
    pub(super) fn words(&self) -> String {
        let list = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        match self {
            Self::Version => "`1`".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Word(words) => list(words),
            Self::WordOr(words, other) => format!("{} or {other}", list(words)),
            Self::Boolean => "`true`, `false`".to_owned(),
            Self::True => "`true`".to_owned(),
            Self::Number(least, most) => format!("number, {least} to {most}"),
            Self::Status(numbers) => list(&numbers.iter().map(ToString::to_string).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>()),
            Self::Duration => "duration".to_owned(),
            Self::DurationOrZero => "duration, or `0`".to_owned(),
            Self::Size => "size".to_owned(),
            Self::Rate => "rate".to_owned(),
            Self::Percent => "percentage".to_owned(),
            Self::Address => "address and port".to_owned(),
            Self::Network => "network (CIDR)".to_owned(),
            Self::Url => "URL".to_owned(),
            Self::Server => "`http://host:port`, `https://host:port` or `unix:/path`".to_owned(),
            Self::ServerOr(_) => "`http://host:port`, `https://host:port`, `unix:/path`, or a section".to_owned(),
            Self::Host => "host".to_owned(),
            Self::Origin => "origin".to_owned(),
            Self::File => "file".to_owned(),
            Self::Pattern => "path pattern".to_owned(),
            Self::Template => "text with path parameters".to_owned(),
            Self::Rewrite => "path with path parameters".to_owned(),
            Self::Secret => "secret".to_owned(),
            Self::List(of) => format!("list: {}", of.words()),
            Self::Map(keys, of) => format!("by {}: {}", keys.words(), of.words()),
            Self::WordOrMap(words, keys, of) => format!("{}, or by {}: {}", list(words), keys.words(), of.words()),
            Self::Section(_) => "section".to_owned(),
        }
    }
}

impl KeyKind {
    /// What the keys are.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Host => "host",
            Self::Header => "header",
            Self::Methods => "methods",
            Self::Owner => "owner",
        }
    }
}
