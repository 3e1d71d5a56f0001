//! JSON by the letter of RFC 8259, with members in their order and as often as they stand there. It shares no code with the reader that decides.

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    True,
    False,
    Number(String),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    /// Every member of this name.
    pub(super) fn all(&self, name: &str) -> Vec<&Self> {
        match self {
            Self::Object(members) => members.iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect(),
            _ => Vec::new(),
        }
    }

    /// No object has a name twice, at any depth.
    pub(super) fn members_once(&self) {
        match self {
            Self::Object(members) => {
                for (name, value) in members {
                    assert_eq!(self.all(name).len(), 1, "`{name}` stands twice and was believed");
                    value.members_once();
                }
            }
            Self::List(items) => items.iter().for_each(Self::members_once),
            _ => {}
        }
    }

    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// One text or a list of them.
    pub(super) fn texts(&self) -> Vec<&str> {
        match self {
            Self::List(items) => items.iter().filter_map(Self::text).collect(),
            one => one.text().into_iter().collect(),
        }
    }

    /// Each list of permissions, wherever it stands.
    pub(super) fn permissions(&self) -> Vec<&[Self]> {
        let nested = self.all("authorization").into_iter().flat_map(|value| value.all("permissions"));
        let all = self.all("permissions").into_iter().chain(nested);
        all.filter_map(|value| if let Self::List(items) = value { Some(items.as_slice()) } else { None }).collect()
    }

    /// Whether in each list some entry is for this resource by one of these names and by none for another, has scopes as they are asked for, and lasts as long.
    pub(super) fn grants(&self, names: &[&str], resource: &str, asked: Asked<'_>, within: &dyn Fn(&Self) -> bool) -> bool {
        let is_granted = |entry: &Self| {
            let named: Vec<&Self> = ["resource_id", "rsid", "resource_set_id"].iter().flat_map(|name| entry.all(name)).collect();
            let scopes: Vec<&Self> = ["resource_scopes", "scopes"].iter().flat_map(|name| entry.all(name)).collect();
            names.iter().any(|name| !entry.all(name).is_empty())
                && named.iter().all(|name| name.text() == Some(resource))
                && match asked {
                    Asked::Any => true,
                    Asked::Unsaid => scopes.is_empty(),
                    Asked::Scope(scope) => !scopes.is_empty() && scopes.iter().all(|list| list.texts().contains(&scope)),
                }
                && within(entry)
        };
        self.permissions().iter().all(|list| list.iter().any(is_granted))
    }
}

/// What an entry has to say of scopes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'s> {
    /// Whatever it says.
    Any,
    /// Nothing at all.
    Unsaid,
    /// This one.
    Scope(&'s str),
}

/// A whole document.
pub(super) fn parse(text: &[u8]) -> Option<Json> {
    let mut reader = Reader { rest: std::str::from_utf8(text).ok()? };
    let value = reader.value()?;
    reader.blanks();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn takes(&mut self, word: &str) -> bool {
        let behind = self.rest.strip_prefix(word);
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }

    fn value(&mut self) -> Option<Json> {
        self.blanks();
        for (word, value) in [("null", Json::Null), ("true", Json::True), ("false", Json::False)] {
            if self.takes(word) {
                return Some(value);
            }
        }
        match self.rest.bytes().next()? {
            b'"' => self.text().map(Json::Text),
            b'[' => self.list(),
            b'{' => self.object(),
            _ => self.number(),
        }
    }

    fn list(&mut self) -> Option<Json> {
        let mut items = Vec::new();
        self.takes("[");
        self.blanks();
        if self.takes("]") {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value()?);
            self.blanks();
            if self.takes("]") {
                return Some(Json::List(items));
            }
            self.takes(",").then_some(())?;
        }
    }

    fn object(&mut self) -> Option<Json> {
        let mut members = Vec::new();
        self.takes("{");
        self.blanks();
        if self.takes("}") {
            return Some(Json::Object(members));
        }
        loop {
            self.blanks();
            let name = self.text()?;
            self.blanks();
            self.takes(":").then_some(())?;
            members.push((name, self.value()?));
            self.blanks();
            if self.takes("}") {
                return Some(Json::Object(members));
            }
            self.takes(",").then_some(())?;
        }
    }

    fn number(&mut self) -> Option<Json> {
        let end = self.rest.find(|character: char| !character.is_ascii_digit() && !"+-.eE".contains(character)).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        let number = digits.strip_prefix('-').unwrap_or(digits);
        let plain = number.starts_with(|first: char| first.is_ascii_digit())
            && (number.len() == 1 || !number.starts_with('0') || number.starts_with("0.") || number.starts_with("0e") || number.starts_with("0E"));
        (plain && digits.parse::<f64>().is_ok()).then(|| Json::Number(digits.to_owned()))
    }

    fn text(&mut self) -> Option<String> {
        self.takes("\"").then_some(())?;
        let mut text = String::new();
        let mut characters = self.rest.chars();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => match characters.next()? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    'u' => text.push(wide(&mut characters)?),
                    same @ ('"' | '\\' | '/') => text.push(same),
                    _ => return None,
                },
                character if character < ' ' => return None,
                character => text.push(character),
            }
        }
        self.rest = characters.as_str();
        Some(text)
    }
}

/// Behind `\u`: four digits, or two times four that make one character.
fn wide(characters: &mut std::str::Chars<'_>) -> Option<char> {
    let mut unit = || -> Option<u32> { (0..4).try_fold(0, |number, _| Some(number * 16 + characters.next()?.to_digit(16)?)) };
    let first = unit()?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    let behind = characters.as_str().strip_prefix("\\u")?;
    *characters = behind.chars();
    let second = (0..4).try_fold(0, |number, _| Some(number * 16 + characters.next()?.to_digit(16)?))?;
    if !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
}
